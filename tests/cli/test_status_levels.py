"""`dreamsvc status` shows how strongly a phase is tuned, while there is one."""

import pytest

from dreamsvc.__main__ import main
from dreamsvc.cli.command import EXIT_OK
from dreamsvc.v1.dream_pb2 import (
    SLEEP_STATE_AWAKE,
    SLEEP_STATE_NREM,
    Dream,
    DreamReport,
    Exploration,
    Linking,
    Neuromodulators,
    SleepState,
)
from dreamsvc.v1.dream_service_pb2 import GetStatusResponse, ListDreamsResponse
from dreamsvc.v1.memory_service_pb2 import GetStatsResponse
from tests.clients.fake_server import FakeServer


@pytest.mark.parametrize(("state", "lines"), [(SLEEP_STATE_NREM, 1), (SLEEP_STATE_AWAKE, 0)])
def test_levels_are_shown_while_it_dreams(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], state: SleepState.ValueType, lines: int
) -> None:
    levels = Neuromodulators(dopamine=0.3, serotonin=0.4, acetylcholine=0.2)
    fake.answers("GetStatus", GetStatusResponse(sleep_state=state, neuromodulators=levels))
    fake.answers("GetStats", GetStatsResponse())
    fake.answers("ListDreams", ListDreamsResponse())
    assert main(["status", "--server", fake.target]) == EXIT_OK
    told = capsys.readouterr().out.splitlines()
    shown = [line.split(maxsplit=1)[1] for line in told if line.startswith("levels")]
    assert shown == ["dopamine 0.30, serotonin 0.40, acetylcholine 0.20"] * lines


@pytest.mark.parametrize(
    ("explored", "told"),
    [
        (Exploration(queries=100, verified=3, linking=Linking(links=1)), ", 1 link, 3 blind spots"),
        (None, ""),
    ],
)
def test_the_last_dream_says_what_it_linked_and_found(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], explored: Exploration | None, told: str
) -> None:
    last = Dream(id="d1", state=Dream.STATE_SUCCEEDED, report=DreamReport(nodes_replayed=7, exploration=explored))
    fake.answers("GetStatus", GetStatusResponse(last_dream=last))
    fake.answers("GetStats", GetStatsResponse())
    fake.answers("ListDreams", ListDreamsResponse())
    assert main(["status", "--server", fake.target]) == EXIT_OK
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("last dream")]
    assert line.endswith(f"d1, succeeded: 7 replayed, 0 edges changed{told}")
