"""Generate and Simulate over a real channel, Simulate with a real dreamer: what they answer, and that nothing stays."""

import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import (
    DreamEdit,
    GenerateConstraints,
    GenerateRequest,
    GenerateResponse,
    SimulateRequest,
    SimulateResponse,
)
from dreamsvc.v1.memory_pb2 import Edge, Memory
from dreamsvc.v1.memory_service_pb2 import GetMemoryRequest, GetStatsRequest, RememberRequest
from tests.integration.served import CONVERGE, SLOWLY, AsProcess, Calls, InThread, a_memory, dreamers_of, refused, until

pytestmark = pytest.mark.integration
NREM = dream_pb2.DREAM_PHASE_NREM


def a_graph(nodes: int = 60, **fields: object) -> SimulateRequest:
    graph = a_memory(nodes)
    return SimulateRequest(memories=graph.memories, edges=graph.edges, phase=NREM, **fields)  # pyright: ignore


def simulate(calls: Calls, request: SimulateRequest) -> SimulateResponse:
    return calls.call(calls.dreams.Simulate, request)


def started(calls: Calls, request: SimulateRequest) -> "grpc.Future[SimulateResponse]":
    """A simulation whose dreamer runs; it is asked for again while dreams of other tests are on their way out."""

    def ask() -> "grpc.Future[SimulateResponse] | None":
        before = set(dreamers_of(os.getpid()))
        call = calls.dreams.Simulate.future(request)
        until(lambda: call.done() or set(dreamers_of(os.getpid())) - before)
        return None if call.done() else call

    return until(ask)


def left_behind() -> set[str]:
    return {path.name for path in Path(tempfile.gettempdir()).glob("dreamsvc-simulation-*")}


def spaces_of(calls: Calls) -> tuple[list[str], int]:
    """The service's spaces, and the number of its last change."""
    stats = calls.call(calls.memories.GetStats, GetStatsRequest())
    return list(stats.spaces), stats.change_seq


def test_simulate_dreams_over_the_graph_and_leaves_no_trace(converging: InThread) -> None:
    calls = converging.calls
    before, files, dreamers = spaces_of(calls), left_behind(), set(dreamers_of(os.getpid()))
    answer = simulate(calls, a_graph(seed=7, iterations=2))
    assert [dream.seed for dream in answer.dreams] == [7, 8]
    assert {dream.state for dream in answer.dreams} <= {Dream.STATE_SUCCEEDED, Dream.STATE_SKIPPED}
    first = answer.dreams[0]
    assert first.state == Dream.STATE_SUCCEEDED
    assert first.report.nodes == 60
    assert first.report.nodes_replayed > 0
    changed = sum(
        dream.report.edges_strengthened + dream.report.edges_weakened + dream.report.edges_pruned
        for dream in answer.dreams
    )
    kinds = (DreamEdit.KIND_EDGE_STRENGTHENED, DreamEdit.KIND_EDGE_WEAKENED, DreamEdit.KIND_EDGE_PRUNED)
    assert sum(edit.kind in kinds for edit in answer.edits) == changed > 0
    assert answer.edits_total == len(answer.edits)
    assert {memory.key for edit in answer.edits for memory in edit.memories} <= {f"k{i}" for i in range(60)} | {""}
    assert answer.memories == 60
    pruned = sum(dream.report.edges_pruned for dream in answer.dreams)
    made = sum(edit.kind == DreamEdit.KIND_EDGE_MADE for edit in answer.edits)
    assert answer.edges == 240 - pruned + made
    assert spaces_of(calls) == before
    assert left_behind() == files
    # Dreamers of other tests may be on their way out.
    until(lambda: set(dreamers_of(os.getpid())) <= dreamers)


def test_simulate_of_one_graph_and_seed_is_the_same_twice(converging: InThread) -> None:
    once, again = (simulate(converging.calls, a_graph(seed=3)) for _ in range(2))
    assert once.dreams[0].report.journal_digest == again.dreams[0].report.journal_digest != ""
    assert [edit.weight_after for edit in once.edits] == [edit.weight_after for edit in again.edits]


@pytest.mark.parametrize(
    ("memories", "edges", "path"),
    [
        ([Memory(key="a", text="one"), Memory(key="b", text=" ")], [], "memories[1].text"),
        ([Memory(key="a", text="one"), Memory(key="a", text="two")], [], "memories[1].key"),
        ([Memory(key="a", text="one", vector=[1, 0]), Memory(key="b", vector=[1])], [], "memories[1].vector"),
        ([Memory(key="a", text="one")], [Edge(source="a", target="b")], "edges[0].target"),
        ([Memory(key="a", text="one", importance=2)], [], "memories[0].importance"),
        ([], [], "memories"),
    ],
)
def test_simulate_checks_the_graph_as_remember_does(
    calls: Calls, memories: list[Memory], edges: list[Edge], path: str
) -> None:
    files = left_behind()
    error = refused(lambda: simulate(calls, SimulateRequest(memories=memories, edges=edges, phase=NREM)))
    assert error.reason == "INVALID_FIELD"
    assert path in [field for field, _ in error.violations]
    until(lambda: left_behind() == files)


def test_simulate_is_refused_where_no_dream_could_begin(filling: InThread, space: str) -> None:
    calls = filling.calls
    other = f"{space}-other"
    calls.remember(other)
    calls.trigger(space)
    calls.trigger(other)
    error = refused(lambda: simulate(calls, a_graph()))
    calls.abort(other, discard=True)
    assert (error.reason, error.retry_after_s) == ("DREAM_IN_PROGRESS", 1)


def test_a_caller_that_goes_away_ends_the_simulation(filling: InThread) -> None:
    calls = filling.calls
    files, dreamers = left_behind(), set(dreamers_of(os.getpid()))
    call = started(calls, a_graph(budget={"seconds": 60}))
    assert left_behind() > files
    call.cancel()
    until(lambda: left_behind() == files)
    until(lambda: set(dreamers_of(os.getpid())) <= dreamers)


@pytest.fixture(scope="module")
def one_at_a_time(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InThread]:
    path = tmp_path_factory.mktemp("one") / "memory.db"
    with InThread(path, SLOWLY, {"dream": {"max_parallel": 1}}) as service:
        yield service


def test_a_simulation_gives_way_to_a_dream_and_goes_on_after_it(one_at_a_time: InThread) -> None:
    calls = one_at_a_time.calls
    calls.remember("mine", a_memory(40))
    whole = simulate(calls, a_graph(seed=5))
    call = started(calls, a_graph(seed=5))
    dream = calls.trigger("mine", blocking=True).dream
    assert dream.state == Dream.STATE_SUCCEEDED
    answer: SimulateResponse = call.result(30)
    assert answer.dreams[0].report.wakes >= 1
    assert answer.dreams[0].state == Dream.STATE_SUCCEEDED
    assert answer.dreams[0].report.journal_digest == whole.dreams[0].report.journal_digest


def test_the_end_of_the_service_ends_its_simulations(tmp_path: Path) -> None:
    files = left_behind()
    with AsProcess(tmp_path / "memory.db") as service:
        call = service.calls.dreams.Simulate.future(a_graph(budget={"seconds": 60}))  # pyright: ignore
        pid = service.dreamer_pid()
        ended: list[grpc.StatusCode] = []
        waiting = threading.Thread(target=lambda: ended.append(call.code()))
        waiting.start()
        service.process.terminate()
        waiting.join(30)
        service.process.wait(30)
        assert ended == [grpc.StatusCode.UNAVAILABLE]
        assert not Path(f"/proc/{pid}").exists()
    assert left_behind() == files


def test_a_service_that_does_not_dream_simulates_none(tmp_path: Path) -> None:
    with InThread(tmp_path / "memory.db", CONVERGE, {"dream": {"enabled": False}}) as service:
        assert refused(lambda: simulate(service.calls, a_graph())).reason == "DISABLED"


# ── generate ────────────────────────────────────────────────────────────────────

HARBOUR = RememberRequest(
    memories=[
        Memory(key="boat", text="The boat lies in the harbour."),
        Memory(key="sail", text="The sail of the boat is red. Nobody mends it."),
        Memory(key="red", text="Red is the colour of the barn."),
        Memory(key="barn", text="The barn stands on a hill."),
    ],
    edges=[
        Edge(source="boat", target="sail", type="HAS", weight=0.8),
        Edge(source="sail", target="red", type="IS", weight=0.7),
        Edge(source="red", target="barn", type="OF", weight=0.6),
    ],
)


def generate(calls: Calls, space: str, prompt: str = "harbour", **fields: object) -> GenerateResponse:
    return calls.call(calls.dreams.Generate, GenerateRequest(space=space, prompt=prompt, **fields))  # pyright: ignore


def test_generate_answers_the_same_twice_and_changes_nothing(calls: Calls, space: str) -> None:
    harbour = f"{space}-harbour"
    calls.remember(harbour, HARBOUR)
    before = calls.export(harbour)[1], calls.status(harbour).activity > 0, spaces_of(calls)
    answer = generate(calls, harbour, seed=4)
    again = generate(calls, harbour, seed=4)
    assert answer.output == again.output
    assert list(answer.trace) == list(again.trace)
    assert answer.dream_id == again.dream_id
    assert answer.metadata.seed == 4
    assert 3 <= len(answer.trace) <= 5
    for step in answer.trace:
        memory = calls.call(calls.memories.GetMemory, GetMemoryRequest(space=harbour, id=step.memory_id)).memory
        assert step.content in memory.text
        assert step.content in answer.output
    assert len(answer.trace_id) == 32
    assert int(answer.trace_id, 16)
    assert (calls.export(harbour)[1], calls.status(harbour).activity > 0, spaces_of(calls)) == before


def test_generate_wakes_no_dream(calls: Calls, space: str) -> None:
    dream = calls.trigger(space).dream
    generate(calls, space, "memory number 7")
    assert calls.dream(space, dream.id).state == Dream.STATE_RUNNING


def test_generate_refuses_what_it_cannot_do(calls: Calls, space: str) -> None:
    assert refused(lambda: generate(calls, "nowhere")).reason == "NOT_FOUND"
    assert refused(lambda: generate(calls, space, "  ")).violations[0][0] == "prompt"
    wild = GenerateConstraints(creativity=1.1, steps=2)
    assert {field for field, _ in refused(lambda: generate(calls, space, constraints=wild)).violations} == {
        "constraints.creativity",
        "constraints.steps",
    }
    small = f"{space}-small"
    calls.remember(small, RememberRequest(memories=[Memory(text="one"), Memory(text="two")]))
    error = refused(lambda: generate(calls, small, "one"))
    assert (error.reason, error.code) == ("NOT_FOUND", grpc.StatusCode.NOT_FOUND)
    assert error.message == f'space "{small}" has only 2 memories with words; generating takes at least 3'
