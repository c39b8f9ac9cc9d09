"""One part that fails leaves the others running, and health tells which one it is."""

import contextlib
import sys
from pathlib import Path

import pytest
from dreamsvc_client.errors import DreamsvcCallError
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dreamsvc.v1 import health_pb2 as ours
from dreamsvc.v1.admin_service_pb2 import GetHealthRequest, ReloadConfigRequest
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.health_pb2 import Health, Subsystem
from tests.integration.served import CONVERGE, AsProcess, InThread, until

pytestmark = pytest.mark.integration

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def checked(service: InThread, name: str) -> int:
    health = health_pb2_grpc.HealthStub(service.calls.channel)
    return health.Check(health_pb2.HealthCheckRequest(service=name)).status


def health(service: InThread) -> Health:
    return service.calls.call(service.calls.admin.GetHealth, GetHealthRequest()).health


def part(service: InThread, name: str) -> Subsystem:
    return next(part for part in health(service).subsystems if part.name == name)


def test_a_dreamer_that_cannot_start_makes_the_service_partial_and_queries_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with InThread(":memory:", CONVERGE) as service:
        service.calls.remember("default")
        assert checked(service, "dreamsvc.dreamer") == SERVING
        with monkeypatch.context() as broken:
            broken.setattr(sys, "executable", "/no/such/python")
            dream = service.calls.trigger("default").dream
            failed = service.calls.ended("default", dream.id)
            assert failed.state == Dream.STATE_FAILED
            assert "/no/such/python" in failed.message
            until(lambda: checked(service, "dreamsvc.dreamer") == NOT_SERVING)
            for name in ("", "dreamsvc.v1.DreamService", "dreamsvc.memory", "dreamsvc.store"):
                assert checked(service, name) == SERVING, name
            found = health(service)
            assert (found.status, found.mesh_available, found.simulator_available) == (
                *(ours.HEALTH_STATE_PARTIAL, True, False),
            )
            dreamer = part(service, "dreamer")
            assert dreamer.state == ours.HEALTH_STATE_NOT_SERVING
            assert "/no/such/python" in dreamer.message
            assert dreamer.hint
            assert dreamer.since.ToMicroseconds() > part(service, "memory").since.ToMicroseconds()
            assert service.calls.recall("default").hits
            service.calls.remember("another")
        # Nobody has to restart anything once it is mended.
        again = service.calls.trigger("default").dream
        assert service.calls.ended("default", again.id).state == Dream.STATE_SUCCEEDED
        until(lambda: checked(service, "dreamsvc.dreamer") == SERVING)
        assert health(service).status == ours.HEALTH_STATE_SERVING


def test_what_is_switched_off_does_not_serve_and_makes_nothing_partial() -> None:
    with InThread(":memory:", {"dream": {"enabled": False}, "features": {"simulate_enabled": False}}) as service:
        assert checked(service, "dreamsvc.dreamer") == NOT_SERVING
        assert checked(service, "dreamsvc.simulator") == NOT_SERVING
        assert checked(service, "dreamsvc.embedder") == NOT_SERVING
        assert checked(service, "") == SERVING
        found = health(service)
        assert (found.status, found.mesh_available, found.simulator_available) == (
            *(ours.HEALTH_STATE_SERVING, True, False),
        )
        assert part(service, "dreamer").state == ours.HEALTH_STATE_DISABLED
        assert part(service, "dreamer").hint == "set dream.enabled"


def test_a_configuration_that_was_rejected_is_partial_until_it_is_mended(tmp_path: Path) -> None:
    with AsProcess(tmp_path / "memory.db") as server:
        file = tmp_path / "memory.toml"
        good = file.read_text()

        def configuration() -> Subsystem:
            found = server.calls.call(server.calls.admin.GetHealth, GetHealthRequest()).health
            return next(part for part in found.subsystems if part.name == "configuration")

        file.write_text("[dream]\nenabled = 7\n")
        with contextlib.suppress(DreamsvcCallError):
            server.calls.call(server.calls.admin.ReloadConfig, ReloadConfigRequest())
        rejected = until(lambda: one if (one := configuration()).state == ours.HEALTH_STATE_NOT_SERVING else None)
        assert "dream.enabled" in rejected.message
        file.write_text(good)
        server.calls.call(server.calls.admin.ReloadConfig, ReloadConfigRequest())
        assert configuration().state == ours.HEALTH_STATE_SERVING


def test_a_service_that_shuts_down_serves_nothing_any_more(tmp_path: Path) -> None:
    with InThread(tmp_path / "memory.db") as service:
        service.app.health.close()
        found = health(service)
        assert (found.status, found.mesh_available) == (ours.HEALTH_STATE_NOT_SERVING, False)
