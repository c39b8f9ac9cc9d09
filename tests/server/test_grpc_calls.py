"""Functions as methods of gRPC, with a context that tells what a test says."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from dreamsvc.clock import Clock
from dreamsvc.server import grpc_calls
from dreamsvc.server.admission import Admission
from dreamsvc.v1 import dream_service_pb2
from dreamsvc.v1.dream_service_pb2 import GetStatusRequest, GetStatusResponse, StreamStatusResponse
from tests.server.calls_in import a_token, settings

DREAMS = dream_service_pb2.DESCRIPTOR.services_by_name["DreamService"]


class Aborted(Exception):
    pass


class Context:
    """Of a call that has so much time left."""

    def __init__(self, left_s: float | None, peer: str = "ipv4:192.0.2.7:40000") -> None:
        self._left_s = left_s
        self._peer = peer
        self._trailing: Any = ()

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def set_trailing_metadata(self, trailing: Any) -> None:
        self._trailing = trailing

    def trailing_metadata(self) -> Any:
        return self._trailing

    def time_remaining(self) -> float | None:
        return self._left_s

    def peer(self) -> str:
        return self._peer

    async def abort(self, code: grpc.StatusCode, details: str, trailing: Any) -> None:
        raise Aborted(code, details, dict(trailing))


def status_handler(tmp_path: Path, asked: list[str]) -> Any:
    async def get_status(request: GetStatusRequest) -> GetStatusResponse:
        asked.append(request.space)
        return GetStatusResponse()

    return found(Admission(settings(tmp_path), Clock()), get_status=get_status)


def found(admission: Admission, token: str = "", method: str = "GetStatus", **functions: Any) -> Any:
    """The handler of a call."""
    others = {grpc_calls._python_name(method.name): None for method in DREAMS.methods}  # pyright: ignore
    made = grpc_calls.handlers(DREAMS, SimpleNamespace(**{**others, **functions}), admission)
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    details: Any = SimpleNamespace(method=f"/dreamsvc.v1.DreamService/{method}", invocation_metadata=metadata)
    return made.service(details)


@pytest.mark.parametrize("left_s", [None, 0.001, 5.0])
def test_a_call_in_time_is_answered(tmp_path: Path, left_s: float | None) -> None:
    asked: list[str] = []
    asyncio.run(status_handler(tmp_path, asked).unary_unary(b"", Context(left_s)))
    assert asked == ["default"]


@pytest.mark.parametrize("left_s", [0.0, -1.0])
def test_a_call_whose_time_is_over_is_not_begun(tmp_path: Path, left_s: float) -> None:
    asked: list[str] = []
    with pytest.raises(Aborted) as caught:
        asyncio.run(status_handler(tmp_path, asked).unary_unary(b"", Context(left_s)))
    code, details, trailing = caught.value.args
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "nothing was begun" in details
    assert len(bytes.fromhex(trailing["trace-id"])) == 16
    assert asked == []


def test_who_is_nobody_is_refused_before_a_message_comes_in(tmp_path: Path) -> None:
    token = a_token(tmp_path)
    admission = Admission(settings(tmp_path), Clock())

    async def messages() -> AsyncGenerator[bytes]:
        raise AssertionError("a message was read")
        yield b""

    for wrong in ("", "dsvc_none", token[:-1] + "x"):
        handler = found(admission, wrong)
        with pytest.raises(Aborted) as caught:
            asyncio.run(handler.stream_stream(messages(), Context(None)))
        code, _, trailing = caught.value.args
        assert code is grpc.StatusCode.UNAUTHENTICATED
        assert len(bytes.fromhex(trailing["trace-id"])) == 16
    assert found(admission, token).unary_unary is not None


def test_a_caller_who_reads_no_more_holds_nothing_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_calls, "STALLED_S", 0.05)
    closed: list[bool] = []

    class Stalling(Context):
        async def write(self, _: Any) -> None:
            await asyncio.Event().wait()

    async def stream_status(_: Any) -> AsyncGenerator[StreamStatusResponse]:
        try:
            while True:
                yield StreamStatusResponse()
        finally:
            closed.append(True)

    handler = found(Admission(settings(tmp_path), Clock()), method="StreamStatus", stream_status=stream_status)
    with pytest.raises(Aborted) as caught:
        asyncio.run(handler.unary_stream(b"", Stalling(None)))
    code, details, _ = caught.value.args
    assert code is grpc.StatusCode.ABORTED
    assert "took nothing" in details
    assert closed == [True]


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.7:40000", "ipv4:192.0.2.7"),
        ("ipv6:%5B2001:db8::1%5D:40000", "ipv6:%5B2001:db8::1%5D"),
        ("unix:", "unix:"),
    ],
)
def test_a_caller_without_credentials_is_its_address_whatever_the_port(peer: str, address: str) -> None:
    context: Any = Context(None, peer)
    assert grpc_calls._address(context) == address  # pyright: ignore
