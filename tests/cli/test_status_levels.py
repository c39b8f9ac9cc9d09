"""`dreamsvc status` shows how strongly a phase is tuned, while there is one."""

import pytest

from dreamsvc.__main__ import main
from dreamsvc.cli.command import EXIT_OK
from dreamsvc.v1.dream_pb2 import SLEEP_STATE_AWAKE, SLEEP_STATE_NREM, Neuromodulators, SleepState
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
