"""`dreamsvc health` tells what does not work, to people and by its exit code."""

import json

import pytest

from dreamsvc.__main__ import main
from dreamsvc.cli.command import EXIT_FAILED, EXIT_OK
from dreamsvc.cli.health import EXIT_PARTIAL
from dreamsvc.v1 import health_pb2
from dreamsvc.v1.admin_service_pb2 import GetHealthResponse
from dreamsvc.v1.health_pb2 import Health, HealthState, Subsystem
from tests.clients.fake_server import FakeServer

SERVING, PARTIAL = health_pb2.HEALTH_STATE_SERVING, health_pb2.HEALTH_STATE_PARTIAL
NOT_SERVING = health_pb2.HEALTH_STATE_NOT_SERVING


def a_service(status: HealthState.ValueType) -> GetHealthResponse:
    dreamer = Subsystem(name="dreamer", state=NOT_SERVING, message="it did not\x1b start", hint="try again")
    dreamer.since.FromSeconds(0)
    return GetHealthResponse(
        health=Health(status=status, subsystems=[Subsystem(name="memory", state=SERVING), dreamer])
    )


@pytest.mark.parametrize(("status", "code"), [(SERVING, EXIT_OK), (PARTIAL, EXIT_PARTIAL), (NOT_SERVING, EXIT_FAILED)])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_the_exit_code_says_whether_all_of_it_works(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], status: HealthState.ValueType, code: int, options: list[str]
) -> None:
    fake.answers("GetHealth", a_service(status))
    assert main(["health", "--server", fake.target, *options]) == code
    assert capsys.readouterr().out


def test_each_part_has_a_line_with_what_to_do(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("GetHealth", a_service(PARTIAL))
    main(["health", "--server", fake.target])
    first, _, memory, dreamer = capsys.readouterr().out.splitlines()
    assert first == "partial"
    assert memory.split()[:2] == ["memory", "serving"]
    assert " ".join(dreamer.split()) == "dreamer not serving 1970-01-01 00:00:00Z it did not start; try again"


def test_json_is_the_whole_of_it(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("GetHealth", a_service(PARTIAL))
    main(["health", "--server", fake.target, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["status"], told["mesh_available"]) == ("HEALTH_STATE_PARTIAL", False)
    assert [part["name"] for part in told["subsystems"]] == ["memory", "dreamer"]


def test_a_service_that_is_not_there_has_failed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health", "--server", "127.0.0.1:1", "--timeout", "1s"]) == EXIT_FAILED
    assert "no server answers" in capsys.readouterr().err
