"""The gRPC door and the doors that are not there."""

import asyncio
from pathlib import Path

import pytest

from dreamsvc.clock import Clock
from dreamsvc.server.admission import Admission
from dreamsvc.server.grpc_server import DREAM_SERVICE, MEMORY_SERVICE, GrpcDoor, method_names
from tests.server.calls_in import settings


def test_a_method_without_a_function_is_an_error_at_the_start(tmp_path: Path) -> None:
    class Half:
        async def trigger(self) -> None: ...

    async def run() -> None:
        in_force = settings(tmp_path)
        admission = Admission(in_force, Clock())
        with pytest.raises(AttributeError, match="stream_status"):
            GrpcDoor(in_force, [(DREAM_SERVICE, Half())], admission)

    asyncio.run(run())


def test_the_methods_are_those_of_the_protos() -> None:
    assert method_names(DREAM_SERVICE)[0] == "Trigger"
    assert "Import" in method_names(MEMORY_SERVICE)
