"""The gRPC door and the doors that are not there."""

import asyncio
from pathlib import Path

import pytest

from dreamsvc import config
from dreamsvc.app import App
from dreamsvc.errors import InvalidFields
from dreamsvc.server.grpc_server import DREAM_SERVICE, MEMORY_SERVICE, GrpcDoor, method_names


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "no such host", "example.invalid"])
def test_only_this_machine_is_served_while_there_is_no_authentication(tmp_path: Path, host: str) -> None:
    settings = config.defaults()
    settings.store.path = str(tmp_path / "memory.db")
    settings.server.host = host
    with pytest.raises(InvalidFields, match="loopback"):
        App(settings)
    assert not (tmp_path / "memory.db").exists()


def test_a_method_without_a_function_is_an_error_at_the_start() -> None:
    class Half:
        async def trigger(self) -> None: ...

    async def run() -> None:
        with pytest.raises(AttributeError, match="stream_status"):
            GrpcDoor(config.defaults().server, [(DREAM_SERVICE, Half())])

    asyncio.run(run())


def test_the_methods_are_those_of_the_protos() -> None:
    assert method_names(DREAM_SERVICE)[0] == "Trigger"
    assert "Import" in method_names(MEMORY_SERVICE)
