"""One part that fails leaves the others running, and health tells which one it is."""

import sys

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dreamsvc.v1.dream_pb2 import Dream
from tests.integration.served import CONVERGE, InThread, until

pytestmark = pytest.mark.integration

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def checked(service: InThread, name: str) -> int:
    health = health_pb2_grpc.HealthStub(service.calls.channel)
    return health.Check(health_pb2.HealthCheckRequest(service=name)).status


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
            assert service.calls.recall("default").hits
            service.calls.remember("another")
        # Nobody has to restart anything once it is mended.
        again = service.calls.trigger("default").dream
        assert service.calls.ended("default", again.id).state == Dream.STATE_SUCCEEDED
        until(lambda: checked(service, "dreamsvc.dreamer") == SERVING)


def test_what_is_switched_off_does_not_serve_and_makes_nothing_partial() -> None:
    with InThread(":memory:", {"dream": {"enabled": False}, "features": {"simulate_enabled": False}}) as service:
        assert checked(service, "dreamsvc.dreamer") == NOT_SERVING
        assert checked(service, "dreamsvc.simulator") == NOT_SERVING
        assert checked(service, "dreamsvc.embedder") == NOT_SERVING
        assert checked(service, "") == SERVING
