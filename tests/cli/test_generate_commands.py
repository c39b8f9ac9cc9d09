"""`dreamsvc generate` and `simulate`."""

import json
from pathlib import Path

import pytest
from google.rpc import code_pb2

from dreamsvc.__main__ import main
from dreamsvc.cli.command import EXIT_FAILED, EXIT_NOTHING_TO_DREAM, EXIT_OK, EXIT_USAGE
from dreamsvc.v1.dream_pb2 import DREAM_PHASE_FULL_CYCLE, DREAM_PHASE_NREM, Dream
from dreamsvc.v1.dream_service_pb2 import (
    DreamEdit,
    EditedMemory,
    GenerateMetadata,
    GenerateResponse,
    GenerateStep,
    SimulateResponse,
)
from tests.clients.fake_server import FakeServer, Refusal

GENERATED = GenerateResponse(
    dream_id="d1",
    output="The boat is old. It\x1b[2J leaks.",
    trace=[
        GenerateStep(content="The boat is old.", memory_id="m1", how="answers the prompt", link_strength=0.5),
        GenerateStep(content="It leaks.", memory_id="m2", how="HAS edge (0.80)", link_strength=0.8),
    ],
    trace_id="f" * 32,
    metadata=GenerateMetadata(seed=7, duration_ms=4.21, creativity_score=0.126, coherence_score=0.65),
)


def test_generate_shows_what_came_out_and_by_which_way(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("Generate", GENERATED)
    options = ["--seed", "7", "--creativity", "0.1", "--coherence", "0.9", "--steps", "4", "--space", "notes"]
    assert main(["generate", "boats", *options, "--server", fake.target]) == EXIT_OK
    assert capsys.readouterr().out == (
        "The boat is old. It[2J leaks.\n\n"
        " 1  0.50  answers the prompt: “The boat is old.”  [m1]\n"
        " 2  0.80  HAS edge (0.80): “It leaks.”  [m2]\n\n"
        "measured on it: creativity 0.13, coherence 0.65 (seed 7, 4.2 ms)\n"
    )
    (sent,) = fake.sent("Generate")
    wanted = sent.constraints
    assert (sent.space, sent.prompt, sent.seed) == ("notes", "boats", 7)
    assert (wanted.creativity, wanted.coherence, wanted.steps) == (0.1, 0.9, 4)


def test_generate_leaves_to_the_server_what_is_not_said(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("Generate", GENERATED)
    assert main(["generate", "boats", "--json", "--server", fake.target]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["trace"][1]["how"] == "HAS edge (0.80)"
    (sent,) = fake.sent("Generate")
    assert not sent.HasField("seed")
    assert not any(sent.constraints.HasField(name) for name in ("creativity", "coherence", "steps"))


def test_generate_refuses_shares_that_are_none(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "boats", "--creativity", "2", "--server", fake.target]) == EXIT_USAGE
    assert "no number from 0 to 1" in capsys.readouterr().err


def simulated(*states: Dream.State.ValueType) -> SimulateResponse:
    dreams = [Dream(id=f"d{i}", seed=7 + i, state=state) for i, state in enumerate(states)]
    edits = [
        DreamEdit(
            kind=DreamEdit.KIND_EDGE_PRUNED,
            what="HAS",
            memories=[EditedMemory(text=f"boat {i}"), EditedMemory(text="sail")],
            weight_before=0.06,
        )
        for i in range(12)
    ]
    return SimulateResponse(dreams=dreams, edits=edits, edits_total=15, memories=2, edges=1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "memory.jsonl"
    lines = [
        {"type": "memory", "key": "boat", "text": "The boat."},
        {"type": "memory", "key": "sail", "text": "The sail."},
        {"type": "edge", "source": "boat", "target": "sail", "edge_type": "HAS", "weight": 0.9},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_simulate_sends_the_file_and_shows_what_it_would_change(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    fake.answers("Simulate", simulated(Dream.STATE_SUCCEEDED, Dream.STATE_SKIPPED))
    options = ["--iterations", "2", "--phase", "nrem", "--seed", "7", "--budget", "1m30s"]
    assert main(["simulate", str(file), *options, "--server", fake.target]) == EXIT_OK
    told = capsys.readouterr().out
    assert [line.split()[:2] for line in told.splitlines()[1:3]] == [["7", "succeeded"], ["8", "skipped"]]
    assert "12 pruned, and 3 more" in told
    assert told.count("pruned: “boat") == 10
    assert f"… and 2 more pruned; `dreamsvc simulate {file} --json` shows all" in told
    assert told.endswith("2 before; afterwards 2 memories and 1 edge; nothing was kept\n")
    (sent,) = fake.sent("Simulate")
    assert [memory.key for memory in sent.memories] == ["boat", "sail"]
    assert [(edge.source, edge.target, edge.type, edge.weight) for edge in sent.edges] == [("boat", "sail", "HAS", 0.9)]
    assert (sent.iterations, sent.phase, sent.seed, sent.budget.seconds) == (2, DREAM_PHASE_NREM, 7, 90)


def test_simulate_tells_that_there_was_nothing_to_dream_of(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    fake.answers("Simulate", simulated(Dream.STATE_SKIPPED))
    assert main(["simulate", str(file), "--json", "--server", fake.target]) == EXIT_NOTHING_TO_DREAM
    assert json.loads(capsys.readouterr().out)["edits_total"] == "15"
    (sent,) = fake.sent("Simulate")
    assert sent.phase == DREAM_PHASE_FULL_CYCLE
    assert not any(sent.HasField(name) for name in ("iterations", "seed", "budget"))


def test_simulate_reads_the_file_of_the_mcp_memory_server(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "mcp.jsonl"
    path.write_text('{"type": "entity", "name": "Ann", "entityType": "person", "observations": ["likes tea"]}\n')
    fake.answers("Simulate", simulated(Dream.STATE_SUCCEEDED))
    assert main(["simulate", str(path), "--server", fake.target]) == EXIT_OK
    assert [memory.text for memory in fake.sent("Simulate")[0].memories] == ["", "likes tea"]
    capsys.readouterr()


def test_simulate_explains_what_is_wrong_with_a_file(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "torn.jsonl"
    path.write_text('{"type": "memory", "key": "a"\n')
    assert main(["simulate", str(path), "--server", fake.target]) == EXIT_FAILED
    assert "1 of 1 lines are malformed: line 1 is no JSON" in capsys.readouterr().err
    assert main(["simulate", str(tmp_path / "none.jsonl"), "--server", fake.target]) == EXIT_FAILED
    assert "No such file" in capsys.readouterr().err
    assert fake.requests == []


def test_simulate_shows_a_refusal(fake: FakeServer, capsys: pytest.CaptureFixture[str], file: Path) -> None:
    refusal = Refusal(code_pb2.ABORTED, "1 dreams run", "ERROR_REASON_DREAM_IN_PROGRESS", hint="Watch it.")
    fake.answers("Simulate", refusal)
    assert main(["simulate", str(file), "--server", fake.target]) == EXIT_FAILED
    assert capsys.readouterr().err == "dreamsvc: DREAM_IN_PROGRESS: 1 dreams run\n  hint: Watch it.\n"
