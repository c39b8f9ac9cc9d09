"""The scenarios of REQ-DREAM-034, end to end: real processes, over a real channel, on the documentation of Python."""

import signal
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest
from dreamsvc_client import Client
from mcp import Client as McpClient
from mcp import MCPError, StdioServerParameters

from benchmarks import stdlib_memory
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import RevertRequest, StreamStatusResponse
from dreamsvc.v1.memory_service_pb2 import GetStatsRequest, GetStatsResponse
from tests.integration.served import AsProcess, Calls, Tables, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

MEMORIES = 400
FULL = dream_pb2.DREAM_PHASE_FULL_CYCLE
NREM, REM, AWAKE = dream_pb2.SLEEP_STATE_NREM, dream_pb2.SLEEP_STATE_REM, dream_pb2.SLEEP_STATE_AWAKE
# Each replays everything once and goes on to the end, in seconds.
SCENARIO: Tables = {
    "dream": {
        "nrem": {"pace": "converge", "batch_size": 64},
        "resources": {"max_gpu_usage": 1.0, "checkpoint_seconds": 0.2, "wake_latency_ms": 1000.0},
        "quality": {"probe_cues": 100},
    },
    "embedder": {"kind": "wordllama"},
}
_numbers = count()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("library") / "memory.jsonl"
    stdlib_memory.write(file, time.time_ns() // 1000, MEMORIES)
    return file


def filled(service: AsProcess, library: Path, space: str) -> None:
    """Imports it, and waits until every text has its vector."""
    with Client(service.calls.address) as client:
        client.import_file(library, space=space)
    until(lambda: not stats(service.calls, space).to_embed)


def stats(calls: Calls, space: str) -> GetStatsResponse:
    return calls.call(calls.memories.GetStats, GetStatsRequest(space=space))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AsProcess]:
    with AsProcess(tmp_path_factory.mktemp("scenarios") / "memory.db", SCENARIO) as made:
        yield made
        assert "Traceback" not in made.end()


@pytest.fixture
def space(service: AsProcess, library: Path) -> str:
    name = f"python-{next(_numbers)}"
    filled(service, library, name)
    return name


def states(events: list[StreamStatusResponse]) -> list[int]:
    """What it went through, each once in a row."""
    found: list[int] = []
    for event in events:
        # A heartbeat tells of no state.
        if event.HasField("heartbeat"):
            continue
        if not found or found[-1] != event.sleep_state:
            found.append(event.sleep_state)
    return found


def test_1_a_full_cycle_comes_to_its_end_and_changes_the_graph(service: AsProcess, space: str) -> None:
    calls = service.calls
    before = calls.weights(space), stats(calls, space)
    dream = calls.trigger(space, phase=FULL, budget_s=120, seed=1, abort_on_query=False).dream
    events = list(calls.watch(space, dream.id))
    ended = events[-1].dream
    assert ended.state == Dream.STATE_SUCCEEDED, ended.message
    assert [state for state in states(events) if state in (NREM, REM, AWAKE)][-3:] == [NREM, REM, AWAKE]
    report = ended.report
    assert report.nodes_replayed > 0
    # As the store has it, not as the dream says.
    weights, now = calls.weights(space), stats(calls, space)
    changed = {edge for edge, weight in before[0].items() if weights.get(edge) != weight}
    assert changed
    assert report.edges_strengthened + report.edges_weakened + report.edges_pruned > 0
    assert now.edges - before[1].edges > 0
    assert now.placed > 0
    assert report.exploration.linking.links > 0
    assert report.compression.retention.measured
    assert report.quality.grade != dream_pb2.QUALITY_GRADE_UNSPECIFIED
    assert calls.recall(space, "how do I parse JSON?").hits


@pytest.mark.parametrize("phase", [NREM, REM], ids=["2 NREM", "3 REM"])
def test_a_query_wakes_it_and_nothing_of_it_is_applied(service: AsProcess, space: str, phase: Any) -> None:
    calls = service.calls
    before = calls.export(space)[1]
    dream = calls.trigger(space, phase=FULL, budget_s=120, seed=2).dream
    stream = calls.watch(space, dream.id)
    for event in stream:
        if event.sleep_state == phase:
            break
    answer = calls.recall(space, "how do I parse JSON?")
    assert answer.woke_dream == dream.id
    assert answer.hits
    change = next(event.state_change for event in stream if event.state_change.to == AWAKE)
    assert change.wake_reason == dream_pb2.WAKE_REASON_USER_QUERY
    # By construction: who has not stopped by then is killed.
    assert 0 < change.wake_latency_ms <= 1000
    woken = calls.dream(space, dream.id)
    assert woken.state == Dream.STATE_SUSPENDED
    assert calls.export(space)[1] == before
    assert calls.status(space).wake_latency.count >= 1
    resumed = calls.trigger(space, phase=FULL, budget_s=120, seed=2, blocking=True, abort_on_query=False)
    assert (resumed.resumed, resumed.dream.state) == (True, Dream.STATE_SUCCEEDED)


def test_4_a_dream_keeps_to_its_share_of_the_device(tmp_path: Path, library: Path) -> None:
    share = 0.1
    held: Tables = {"dream": {"resources": {"max_gpu_usage": share}, "nrem": {"pace": "fill"}}}
    with AsProcess(tmp_path / "memory.db", SCENARIO, held) as service:
        filled(service, library, "default")
        report = service.calls.trigger("default", budget_s=3, blocking=True).dream.report
    # Of one thread; the machine has more of them, and the share is of all of it.
    assert 0 < report.busy_share <= min(1.0, share * cores())
    assert report.nodes_replayed > 0


def cores() -> float:
    from dreamsvc.cores import core_count  # as the dreamer counts them

    return core_count()


def test_5_a_dream_goes_on_from_its_checkpoint_after_a_crash(tmp_path: Path, library: Path) -> None:
    slowly: Tables = {"dream": {"resources": {"max_gpu_usage": 0.5, "checkpoint_seconds": 0.05}}}
    digests: list[str] = []
    with AsProcess(tmp_path / "memory.db", SCENARIO, slowly) as service:
        filled(service, library, "default")
        service.end()
    template = (tmp_path / "memory.db").read_bytes()
    for name, crashes in (("through", 0), ("crashed", 2)):
        store = tmp_path / f"{name}.db"
        store.write_bytes(template)
        for _ in range(crashes):
            with AsProcess(store, SCENARIO, slowly) as service:
                dream = service.calls.trigger("default", phase=FULL, budget_s=120, seed=5, abort_on_query=False).dream
                reached(service.calls, dream.id)
                service.end(signal.SIGKILL)
        with AsProcess(store, SCENARIO, slowly) as service:
            answer = service.calls.trigger("default", phase=FULL, budget_s=120, seed=5, blocking=True)
            assert answer.resumed == bool(crashes)
            assert answer.dream.state == Dream.STATE_SUCCEEDED, answer.dream.message
            digests.append(answer.dream.report.journal_digest)
            service.end()
    assert digests[0] == digests[1]


def reached(calls: Calls, dream_id: str) -> None:
    """It has done something that a checkpoint holds."""
    until(lambda: calls.dream("default", dream_id).report.nodes_replayed > 64)


def test_6_nights_that_follow_each_other_and_are_taken_back(service: AsProcess, space: str) -> None:
    calls = service.calls
    digests = [calls.export(space)[1]]
    nights: list[Dream] = []
    for number in range(3):
        night = calls.trigger(space, phase=FULL, budget_s=120, seed=number, blocking=True, abort_on_query=False).dream
        # An empty night says so and is no success.
        assert night.state in (Dream.STATE_SUCCEEDED, Dream.STATE_SKIPPED), night.message
        if night.state == Dream.STATE_SUCCEEDED:
            nights.append(night)
            digests.append(calls.export(space)[1])
    assert nights
    for night in reversed(nights):
        digests.pop()
        calls.call(calls.dreams.Revert, RevertRequest(space=space, dream_id=night.id))
        assert calls.export(space)[1] == digests[-1]
    # Only now: that a memory was recalled is part of it.
    assert calls.recall(space, "read a file line by line").hits


def test_7_neuromodulators_change_what_a_night_learns(tmp_path: Path, library: Path) -> None:
    learned: list[float] = []
    for dopamine in (0.2, 0.9):
        levels: Tables = {"dream": {"neuromodulation": {"dopamine_nrem": dopamine, "transition_ms": 100.0}}}
        with AsProcess(tmp_path / f"dopamine-{dopamine}.db", SCENARIO, levels) as service:
            calls = service.calls
            filled(service, library, "default")
            at_rest = calls.status("default").neuromodulators.dopamine
            before = calls.weights("default")
            dream = calls.trigger("default", budget_s=60, seed=7, abort_on_query=False).dream
            calls.until_state("default", NREM)
            asleep = until(lambda c=calls: level if (level := c.status("default").neuromodulators.dopamine) else None)
            ended = calls.ended("default", dream.id)
            assert ended.state == Dream.STATE_SUCCEEDED, ended.message
            after = calls.weights("default")
            learned.append(max(after[edge] - weight for edge, weight in before.items() if edge in after))
        assert asleep != at_rest
    assert learned[0] < learned[1]


def test_8_an_agent_dreams_and_recalls_through_mcp(service: AsProcess, space: str) -> None:
    anyio.run(through_mcp, service.calls.address, space)


async def through_mcp(address: str, space: str) -> None:
    program = StdioServerParameters(
        command=sys.executable, args=["-m", "dreamsvc", "mcp", "--server", address, "--space", space]
    )
    async with McpClient(program) as agent:
        tools = {tool.name: tool for tool in (await agent.list_tools()).tools}
        # As REQ-DREAM-030 writes it, and the space beside it.
        schema = tools["trigger_dream"].input_schema["properties"]
        assert schema["duration_minutes"] == {"type": "integer", "minimum": 1, "maximum": 10, "default": 5}
        assert schema["phase"]["enum"] == ["nrem", "rem", "full_cycle"]
        begun = await asked(agent, "trigger_dream", phase="nrem", duration_minutes=1, abort_on_query=False)
        told = await asked(agent, "get_dream_status")
        assert told["active_dream"]["id"] == begun["dream_id"]
        with pytest.raises(MCPError) as refused:
            await asked(agent, "trigger_dream")
        # DreamInProgress of REQ-DREAM-032, unharmed on its way.
        assert refused.value.code == -32100
        assert refused.value.data["reason"] == "DREAM_IN_PROGRESS"
        with pytest.raises(MCPError, match="duration_minutes") as refused:
            await asked(agent, "trigger_dream", duration_minutes=11)
        assert refused.value.code == -32602
        woken = await asked(agent, "abort_dream", discard=True)
        assert woken["was_dreaming"]
        done = await asked(agent, "trigger_dream", phase="nrem", blocking=True, abort_on_query=False)
        assert done["dream"]["state"] == "STATE_SUCCEEDED"
        report = (await asked(agent, "get_dream_status", dream_id=done["dream_id"]))["dream"]["report"]
        assert int(report["nodes_replayed"]) > 0
        await asked(agent, "remember", text="Zaphod lent the green drawer to Marvin.", key="note")
        # Before it has a vector.
        hits = (await asked(agent, "recall_memories", query="Zaphod green drawer Marvin", limit=3))["hits"]
        assert "note" in {hit["memory"].get("key") for hit in hits}


async def asked(agent: McpClient, tool: str, **arguments: Any) -> Any:
    answer = await agent.call_tool(tool, arguments)
    assert not answer.is_error
    return answer.structured_content
