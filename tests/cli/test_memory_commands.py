"""`dreamsvc recall`, `remember`, `memories`, `get`, `forget`, `restore`, `unmerge`, `import`, `export` and `stats`."""

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
    MEMORY_ROLE_CONTAINER,
    MEMORY_ROLE_FACET,
    MEMORY_ROLE_FOLDED,
    MEMORY_ROLE_REPLACED,
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
    UnmergeResponse,
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


def test_recall_marks_what_was_superseded_and_counts_what_was_left_out(
    fake: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    hit = Hit(memory=Memory(id="m1", text="He lives in Oslo."), score=0.5, superseded_by="m2")
    fake.answers("Recall", RecallResponse(hits=[hit], similar_left_out=3, tokens=480))
    assert main(["recall", "x", "--tokens", "512", "--server", fake.target]) == EXIT_OK
    captured = capsys.readouterr()
    # Without a title its name is its id, which is not told twice.
    assert captured.out.splitlines()[1:] == ["           superseded by m2", "           He lives in Oslo."]
    assert captured.err == (
        "note: 3 memories that say the same were left out (--all-similar shows them)\nnote: 480 of 512 tokens used\n"
    )
    (sent,) = fake.sent("Recall")
    assert (sent.token_budget, sent.with_similar) == (512, False)


def test_recall_asks_for_similar_ones_and_notes_nothing_without_reason(
    fake: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers("Recall", RecallResponse(hits=[Hit(memory=MEMORY)], tokens=480))
    assert main(["recall", "x", "--all-similar", "--server", fake.target]) == EXIT_OK
    assert capsys.readouterr().err == ""
    assert fake.sent("Recall")[0].with_similar


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "note: were some of use together? dreamsvc feedback r1 ID ID\n"),
        (["--space", "s"], "note: were some of use together? dreamsvc feedback r1 ID ID --space s\n"),
    ],
)
def test_recall_of_several_tells_how_to_say_which_were_of_use(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    fake.answers("Recall", RecallResponse(hits=[Hit(memory=MEMORY)] * 2, recall_id="r1"))
    assert main(["recall", "x", *options, "--server", fake.target]) == EXIT_OK
    assert capsys.readouterr().err == told


def test_recall_of_one_asks_for_no_feedback(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("Recall", RecallResponse(hits=[Hit(memory=MEMORY)], recall_id="r1"))
    assert main(["recall", "x", "--server", fake.target]) == EXIT_OK
    assert capsys.readouterr().err == ""


def test_recall_names_the_budget_that_nothing_fits(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("Recall", RecallResponse())
    assert main(["recall", "x", "--tokens", "5", "--server", fake.target]) == EXIT_OK
    assert capsys.readouterr().out == "nothing found within 5 tokens\n"


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


@pytest.mark.parametrize(
    ("memory", "told"),
    [
        (Memory(role=MEMORY_ROLE_CONTAINER), "a container; recall answers with what it holds"),
        (Memory(role=MEMORY_ROLE_FACET, merged_into="c1"), "a facet of the container c1"),
        (Memory(role=MEMORY_ROLE_FOLDED, merged_into="m9"), "a copy; m9 stands for it"),
        (Memory(role=MEMORY_ROLE_REPLACED, merged_into="c2"), "a container whose members lie in c2 now"),
        (Memory(kept_apart=True), "dreams keep it apart"),
        (Memory(), ""),
    ],
)
def test_get_tells_what_dreams_made_of_a_memory(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], memory: Memory, told: str
) -> None:
    fake.answers("GetMemory", GetMemoryResponse(memory=memory))
    assert main(["get", "m1", "--server", fake.target]) == EXIT_OK
    roles = [line for line in capsys.readouterr().out.splitlines() if line.startswith("role")]
    assert roles == ([f"role        {told}"] if told else [])


def test_get_tells_why_a_dream_made_an_edge(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    shortcut = Edge(source="a", target="d", type="shortcut", is_amortized_shortcut=True, path=["a", "b", "c", "d"])
    newer = Edge(source="n", target="o", type="supersedes", evidence="lived\nin Oslo")
    newer.valid_from.seconds = 1_700_000_000
    newer.valid_to.seconds = 1_800_000_000
    fake.answers("GetMemory", GetMemoryResponse(memory=MEMORY, edges=[shortcut, newer, Edge(source="x", target="y")]))
    assert main(["get", "a", "--edges", "--server", fake.target]) == EXIT_OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        "a -shortcut-> d: shortcut of 3 edges",
        "n -supersedes-> o: held from 2023-11-14 22:13:20Z; held until 2027-01-15 08:00:00Z; lived in Oslo",
    ]


def test_unmerge_lists_what_stands_for_itself_again(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [f"m{number}" for number in range(25)]
    fake.answers("Unmerge", UnmergeResponse(ids=ids, vectors_approximate=1), UnmergeResponse(ids=["m1"]))
    assert main(["unmerge", "note:1", "--space", "s", "--server", fake.target]) == EXIT_OK
    assert main(["unmerge", "note:1", "--json", "--server", fake.target]) == EXIT_OK
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines == [
        "25 memories by themselves again; dreams keep them apart from now on",
        *(f"  m{number}" for number in range(20)),
        "  … and 5 more",
        "1 vector was read back from a code, nearly as before: the original was purged",
    ]
    assert json.loads(last) == {"ids": ["m1"], "vectors_approximate": "0"}
    assert (fake.sent("Unmerge")[0].id, fake.sent("Unmerge")[0].space) == ("note:1", "s")


def test_memories_are_listed_with_the_forgotten_ones(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    gone = Memory(id="m2", text="old", role=MEMORY_ROLE_FOLDED)
    gone.delete_time.seconds = 1
    fake.answers("ListMemories", ListMemoriesResponse(memories=[MEMORY, gone], next_page_token="t2"))
    assert main(["memories", "--deleted", "--kind", "note", "--server", fake.target]) == EXIT_OK
    told = capsys.readouterr().out
    assert "(forgotten, folded) old" in told
    assert told.splitlines()[-1] == "more: dreamsvc memories --kind note --page-token t2 --deleted"


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


def test_stats_tell_what_containers_hold_and_what_is_hidden(
    fake: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    stats = GetStatsResponse(
        memories=1330, containers=130, facets=1100, folded=52, pinned=4, vector_bytes=230_400, on_hold=True
    )
    stats.kept_vector_bytes = 1_612_800
    fake.answers("GetStats", stats)
    assert main(["stats", "--server", fake.target]) == EXIT_OK
    rows = dict(line.split("  ", 1) for line in map(str.strip, capsys.readouterr().out.splitlines()))
    told = {label: value.strip() for label, value in rows.items()}
    assert told["containers"] == "130, with 1,100 facets"
    assert told["stand for all"] == "360"
    assert told["folded"] == "52, hidden behind others"
    assert told["pinned"] == "4"
    assert told["vector bytes"] == "230.4 kB, and 1.6 MB of originals kept"
    assert told["on hold"].startswith("dreams and purges leave")


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
