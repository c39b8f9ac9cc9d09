"""`dreamsvc recall`, `remember`, `memories`, `get`, `forget`, `restore`, `import`, `export` and `stats`."""

import hashlib
import io
import json
from pathlib import Path

import pytest

from dreamsvc.__main__ import main
from dreamsvc.cli.command import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from dreamsvc.v1.memory_pb2 import (
    EDGE_ORIGIN_USER_CREATED,
    IMPORT_FORMAT_MCP_MEMORY,
    Edge,
    Hit,
    ImportReport,
    MalformedLine,
    Memory,
    Why,
)
from dreamsvc.v1.memory_service_pb2 import (
    ExportResponse,
    ExportSummary,
    ForgetResponse,
    GetMemoryResponse,
    GetStatsResponse,
    ImportResponse,
    ListMemoriesResponse,
    RecallResponse,
    RememberResponse,
    RestoreResponse,
)
from tests.clients.fake_server import FakeServer

MEMORY = Memory(id="m1", key="note:1", kind="note", title="Deploy", text="Use\x1b[2J the VPN.\nAlways.", importance=0.5)


def test_recall_prints_the_ranked_memories_with_score_and_why(
    fake: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    hit = Hit(memory=MEMORY, score=1.2345, why=Why(lexical=0.9, walk=0.3345))
    fake.answers("Recall", RecallResponse(hits=[hit], notice="no embedder: found by words only", woke_dream="d1"))
    options = ["--limit", "3", "--kind", "note", "--kind", "fact"]
    options += ["--after", "2026-03-01", "--before", "2026-04-01T00:00:00Z"]
    assert main(["recall", "the VPN", *options, "--server", fake.target]) == EXIT_OK
    captured = capsys.readouterr()
    assert captured.out == (
        " 1  1.234  Deploy  note  words 0.90, edges 0.33\n           Use[2J the VPN. Always.\n           note:1\n"
    )
    assert "note: no embedder: found by words only" in captured.err
    assert "woke the dream d1" in captured.err
    (sent,) = fake.sent("Recall")
    assert (sent.text, sent.limit, list(sent.kinds)) == ("the VPN", 3, ["note", "fact"])
    assert sent.before.seconds - sent.after.seconds == 31 * 86_400


def test_recall_says_when_nothing_was_found(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("Recall", RecallResponse())
    assert main(["recall", "x", "--server", fake.target]) == EXIT_OK
    assert capsys.readouterr().out == "nothing found\n"


def test_recall_in_json_is_one_object(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("Recall", RecallResponse(hits=[Hit(memory=MEMORY, score=0.5, why=Why(dense=0.5))]))
    assert main(["recall", "x", "--json", "--server", fake.target]) == EXIT_OK
    answer = json.loads(capsys.readouterr().out)
    assert answer["hits"][0]["memory"]["key"] == "note:1"
    assert answer["hits"][0]["why"] == {"lexical": 0.0, "dense": 0.5, "walk": 0.0, "alias": 0.0}


def test_remember_sends_the_memory_and_its_links(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("Remember", RememberResponse(ids=["m1"], memories_created=1, edges_created=2))
    options = [*("--kind", "fact", "--title", "T", "--alias", "A", "--importance", "0"), "--pinned"]
    options += ["--metadata", '{"from": "mail"}', "--event-time", "2026-03-01"]
    options += ["--link", "project:apollo", "--link", "m9", "--link-type", "leads", "--link-weight", "0.9"]
    assert main(["remember", "Ann leads it.", *options, "--server", fake.target]) == EXIT_OK
    assert capsys.readouterr().out == "remembered: m1, 2 new edges\n"
    (sent,) = fake.sent("Remember")
    (memory,) = sent.memories
    assert (memory.text, memory.kind, memory.title, list(memory.aliases)) == ("Ann leads it.", "fact", "T", ["A"])
    assert (memory.importance, memory.HasField("importance"), memory.pinned) == (0.0, True, True)
    assert memory.metadata["from"] == "mail"
    # The edges begin at the memory, which has no key: it was given its id here.
    assert len(memory.id) == 36
    assert [(edge.source, edge.target, edge.type, edge.weight) for edge in sent.edges] == [
        (memory.id, "project:apollo", "leads", 0.9),
        (memory.id, "m9", "leads", 0.9),
    ]


def test_remember_reads_standard_input_and_leaves_defaults_to_the_server(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("from a pipe"))
    fake.answers("Remember", RememberResponse(ids=["m1"], memories_updated=1))
    assert main(["remember", "-", "--key", "k", "--server", fake.target]) == EXIT_OK
    assert capsys.readouterr().out == "changed: m1\n"
    (sent,) = fake.sent("Remember")
    assert list(sent.memories) == [Memory(key="k", text="from a pipe")]


@pytest.mark.parametrize("option", [("--importance", "1.5"), ("--metadata", "[1]"), ("--event-time", "soon")])
def test_remember_refuses_wrong_options_before_it_calls(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], option: tuple[str, str]
) -> None:
    assert main(["remember", "x", *option, "--server", fake.target]) == EXIT_USAGE
    assert option[0] in capsys.readouterr().err
    assert fake.requests == []


def test_get_shows_the_memory_and_its_edges(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    edge = Edge(
        source="m1", target="m2", type="leads", weight=0.25, origin=EDGE_ORIGIN_USER_CREATED, changed_by_dream="d1"
    )
    fake.answers("GetMemory", GetMemoryResponse(memory=MEMORY, edges=[edge]))
    assert main(["get", "note:1", "--edges", "--server", fake.target]) == EXIT_OK
    told = capsys.readouterr().out
    assert "Use[2J the VPN.\nAlways." in told
    assert "0.2500" in told
    assert "user created" in told
    assert fake.sent("GetMemory")[0].with_edges


def test_memories_are_listed_with_the_forgotten_ones(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    gone = Memory(id="m2", text="old")
    gone.delete_time.seconds = 1
    fake.answers("ListMemories", ListMemoriesResponse(memories=[MEMORY, gone], next_page_token="t2"))
    assert main(["memories", "--deleted", "--server", fake.target]) == EXIT_OK
    told = capsys.readouterr().out
    assert "(forgotten) old" in told
    assert "--page-token t2" in told


def test_forget_and_restore_tell_what_changed(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("Forget", ForgetResponse(forgotten=1, unchanged=1))
    fake.answers("Restore", RestoreResponse(restored=2))
    assert main(["forget", "a", "b", "--server", fake.target]) == EXIT_OK
    assert main(["restore", "a", "b", "--json", "--server", fake.target]) == EXIT_OK
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("forgotten: 1, already before: 1")
    assert json.loads(second) == {"restored": "2", "unchanged": "0"}


def test_stats_tell_what_is_left_to_embed(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("GetStats", GetStatsResponse(space="default", vectors=10, dimension=256, to_embed=5, spaces=["a"]))
    assert main(["stats", "--server", fake.target]) == EXIT_OK
    assert "10 of 256 dimensions, 5 to come" in capsys.readouterr().out


REPORT = ImportReport(
    lines=3,
    memories_created=1,
    memories_unchanged=1,
    malformed=2,
    malformed_lines=[MalformedLine(line=3, reason="is no JSON")],
)


def test_import_reports_what_it_did_and_the_malformed_lines(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "memory.jsonl"
    file.write_text('{"type": "entity", "name": "x"}\n')
    fake.answers("Import", ImportResponse(report=REPORT))
    assert main(["import", str(file), "--skip-malformed", "--server", fake.target]) == EXIT_OK
    told = capsys.readouterr().out
    assert "1 created, 1 unchanged" in told
    assert "  line 3: is no JSON\n  and 1 more\n" in told
    header = fake.sent("Import")[0][0].header
    assert (header.format, header.skip_malformed) == (IMPORT_FORMAT_MCP_MEMORY, True)


def test_a_dry_run_of_an_import_that_would_be_refused_ends_with_1(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "memory.jsonl"
    file.write_text("{}\n")
    dry = ImportReport(malformed=1, dry_run=True)
    fake.answers("Import", ImportResponse(report=dry))
    assert main(["import", str(file), "--dry-run", "--server", fake.target]) == EXIT_FAILED
    assert main(["import", str(file), "--dry-run", "--skip-malformed", "--server", fake.target]) == EXIT_OK
    assert "dry run: nothing was written" in capsys.readouterr().out


def test_a_file_that_is_not_there_is_named(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "/nowhere/memory.jsonl", "--server", fake.target]) == EXIT_FAILED
    assert capsys.readouterr().err == "dreamsvc: /nowhere/memory.jsonl: No such file or directory\n"


def exported(content: bytes) -> list[ExportResponse]:
    summary = ExportSummary(memories=1, digest=hashlib.sha256(content).hexdigest())
    return [ExportResponse(chunk=content), ExportResponse(summary=summary)]


def test_export_writes_a_file_and_tells_its_digest(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fake.streams("Export", exported(b"{}\n"))
    assert main(["export", str(tmp_path / "out.jsonl"), "--json", "--server", fake.target]) == EXIT_OK
    assert (tmp_path / "out.jsonl").read_bytes() == b"{}\n"
    assert json.loads(capsys.readouterr().out)["digest"] == hashlib.sha256(b"{}\n").hexdigest()


def test_export_to_standard_output_writes_nothing_else_there(
    fake: FakeServer, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    fake.streams("Export", exported(b"{}\n"))
    assert main(["export", "-", "--server", fake.target]) == EXIT_OK
    captured = capfdbinary.readouterr()
    assert captured.out == b"{}\n"
    assert captured.err.startswith(b"1 memories, 0 edges; SHA-256 ")
