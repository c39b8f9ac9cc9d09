"""Tells of each call when it is over: for metrics, and for traces. Where nobody listens, nothing is wrapped."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from dreamsvc import calling, clock
from dreamsvc.calling import Call

_DETAILS = "grpc-status-details-bin"
type Context = grpc.aio.ServicerContext[Any, Any]
type Handle = Callable[[Any, Context], Awaitable[Any]]


class CallEnd(NamedTuple):
    """A call that is over."""

    # E.g. "DreamService/Trigger".
    method: str
    call: Call
    # Of gRPC, e.g. "OK"; and of the error catalogue, '' where it is none of its reasons.
    code: str
    reason: str
    began_us: int
    seconds: float


class CallListener(Protocol):
    def call_began(self, method: str) -> None: ...
    def call_ended(self, end: CallEnd) -> None: ...


def observed(handle: Handle, method: str, listeners: Sequence[CallListener]) -> Handle:
    """The same handler, with its calls told of."""
    if not listeners:
        return handle
    wall = clock.Clock()

    async def observe(request: Any, context: Context) -> Any:
        began_us, began_s = wall.now_us(), clock.precise_s()
        for listener in listeners:
            listener.call_began(method)
        code = "OK"
        try:
            return await handle(request, context)
        except asyncio.CancelledError:
            # None where the caller set no deadline, whatever its type says.
            left_s = cast("float | None", context.time_remaining())
            code = "DEADLINE_EXCEEDED" if left_s is not None and left_s <= 0 else "CANCELLED"
            raise
        except Exception:
            code = _code(context)
            raise
        finally:
            reason = "" if code == "OK" else _reason(context)
            # The handler has said by now whose call it was.
            end = CallEnd(method, calling.current(), code, reason, began_us, clock.precise_s() - began_s)
            for listener in listeners:
                listener.call_ended(end)

    return observe


def _code(context: Context) -> str:
    """UNKNOWN is what gRPC makes of an exception that nobody turned into a status."""
    code: Any = context.code()
    return code.name if isinstance(code, grpc.StatusCode) else "UNKNOWN"


def _reason(context: Context) -> str:
    for key, value in context.trailing_metadata() or ():
        if key != _DETAILS or not isinstance(value, bytes):
            continue
        info = error_details_pb2.ErrorInfo()
        try:
            details = status_pb2.Status.FromString(value).details
        except DecodeError:
            return ""
        return next((info.reason for detail in details if detail.Unpack(info)), "")
    return ""
