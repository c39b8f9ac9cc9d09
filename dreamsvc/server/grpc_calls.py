"""Functions as methods of gRPC: admitted on the way in, errors as statuses on the way out, a trace on each answer."""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Any, NamedTuple, override

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2
from grpc_status import rpc_status

from dreamsvc.calling import Call
from dreamsvc.errors import RateLimited, Stalled, Unauthenticated, Unimplemented, invalid
from dreamsvc.server import statuses
from dreamsvc.server.admission import Admission
from dreamsvc.server.callers import Caller, Incoming, Method, method_of
from dreamsvc.server.observing import CallListener, Context, Handle, observed

TRACE_ID = "trace-id"
TRACEPARENT = "traceparent"
AUTHORIZATION = "authorization"
# Tells clients of gRPC that try again by themselves when to.
PUSHBACK = "grpc-retry-pushback-ms"
# What is smaller takes less time to read than a thread to be asked.
LARGE_BYTES = 64 << 10
# How long a message of a stream may wait for its caller to take it.
STALLED_S = 300.0
type Read = Callable[[bytes], Message]


def handlers(
    descriptor: ServiceDescriptor, functions: object, admission: Admission, listeners: Sequence[CallListener] = ()
) -> grpc.GenericRpcHandler:
    """One handler for each method of the proto; a method without a function is an error at the start.

    listeners: who is told of calls.
    """
    made: dict[str, _Known] = {}
    for method in descriptor.methods:
        function = getattr(functions, _python_name(method.name))
        response = message_factory.GetMessageClass(method.output_type).SerializeToString
        asked, read = method_of(method), _reader(message_factory.GetMessageClass(method.input_type))
        # Requests stay bytes until their callers were let in.
        if method.client_streaming:
            make, handle = grpc.stream_unary_rpc_method_handler, _client_stream(function, asked, read, admission)
        elif method.server_streaming:
            make, handle = grpc.unary_stream_rpc_method_handler, _server_stream(function, asked, read, admission)
        else:
            make, handle = grpc.unary_unary_rpc_method_handler, _unary(function, asked, read, admission)
        short, path = f"{descriptor.name}/{method.name}", f"/{descriptor.full_name}/{method.name}"
        refuses = guarded(method.name, admission, _nobody)
        made[path] = _Known(
            _made(make, observed(handle, short, listeners), response),
            grpc.stream_stream_rpc_method_handler(observed(refuses, short, listeners)),
        )
    return _KnownMethods(made, admission)


class _Known(NamedTuple):
    """The handlers of a method: for whoever may call, and for who is nobody."""

    answers: "grpc.RpcMethodHandler[Any, Any]"
    refuses: "grpc.RpcMethodHandler[Any, Any]"


class _KnownMethods(grpc.GenericRpcHandler):
    """Finds the handler of a call. Who is nobody gets one that does not wait for a message: gRPC holds a whole one in
    memory before it asks whose it is, and many large ones at once are all the memory there is."""

    def __init__(self, methods: Mapping[str, _Known], admission: Admission) -> None:
        """methods: by their paths."""
        self._methods = methods
        self._admission = admission

    @override
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        known = self._methods.get(_path(handler_call_details))
        if known is None:
            return None
        metadata: Any = handler_call_details.invocation_metadata or ()
        authorization = str(dict(metadata).get(AUTHORIZATION, ""))
        return known.refuses if self._admission.access.is_nobody(authorization) else known.answers


async def _nobody(_: object, __: Context) -> None:
    """Only where a token was made between two looks at it."""
    raise Unauthenticated("there were no credentials that hold when the call came in; try again")


def _path(details: grpc.HandlerCallDetails) -> str:
    name: Any = details.method
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _made(make: Any, handle: Handle, response: Callable[[Any], bytes]) -> Any:
    return make(handle, None, response)


class UnknownMethods(grpc.GenericRpcHandler):
    """Answers for all methods that are not there: to whoever may call, and with a trace like every other answer."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    @override
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
        text = _path(handler_call_details)

        async def refuse(_: object, __: Context) -> None:
            raise Unimplemented(f"there is no method {text[:200]}")

        return grpc.stream_stream_rpc_method_handler(guarded("unknown methods", self._admission, refuse))


def guarded(name: str, admission: Admission, answer: Handle) -> Handle:
    """A handler for everybody who has credentials, whatever these allow."""
    method = Method(name, frozenset(), "reads", None)

    async def handle(requests: Any, context: Context) -> None:
        call, incoming = _begin(context, admission)
        try:
            await admission.enter(call, incoming, method)
            await answer(requests, context)
            return
        except Exception as error:
            failed = error
        await _abort(context, failed, call, method)

    return handle


async def _accepted(admission: Admission, caller: Caller, method: Method, body: bytes, read: Read) -> Any:
    """A large message is read and checked in a thread: a hundred thousand fields take a second, and queries go on."""
    if len(body) < LARGE_BYTES:
        return admission.accept(caller, method, body, read)
    return await asyncio.to_thread(admission.accept, caller, method, body, read)


def _unary(function: Callable[..., Any], method: Method, read: Read, admission: Admission) -> Handle:
    async def handle(body: Any, context: Context) -> Any:
        call, incoming = _begin(context, admission)
        try:
            caller = await admission.enter(call, incoming, method)
            request = await _accepted(admission, caller, method, body, read)
            if _in_time(context):
                return await function(request)
            failed = None
        except Exception as error:
            failed = error
        return await _abort(context, failed, call, method)

    return handle


def _server_stream(function: Callable[..., Any], method: Method, read: Read, admission: Admission) -> Handle:
    async def handle(body: Any, context: Context) -> None:
        call, incoming = _begin(context, admission)
        try:
            caller = await admission.enter(call, incoming, method)
            messages: AsyncGenerator[Any] = function(await _accepted(admission, caller, method, body, read))
            # Closed here and now where the caller goes away: an export holds a connection to the store.
            async with contextlib.aclosing(messages):
                async for message in messages:
                    admission.recheck(caller)
                    await _write(context, message)
            return
        except Exception as error:
            failed = error
        await _abort(context, failed, call, method)

    return handle


async def _write(context: Context, message: Message) -> None:
    """Raises Stalled where the caller takes nothing: its export holds a moment of the store, and the log grows."""
    try:
        async with asyncio.timeout(STALLED_S):
            await context.write(message)
    except TimeoutError as error:
        raise Stalled(f"the caller took nothing for {STALLED_S:g} s") from error


def _client_stream(function: Callable[..., Any], method: Method, read: Read, admission: Admission) -> Handle:
    async def accepted(bodies: AsyncIterator[bytes], caller: Caller) -> AsyncGenerator[Message]:
        async for body in bodies:
            admission.recheck(caller)
            yield admission.accept_part(caller, method, body, read)

    async def handle(bodies: Any, context: Context) -> Any:
        call, incoming = _begin(context, admission)
        try:
            caller = await admission.enter(call, incoming, method)
            async with contextlib.aclosing(accepted(bodies, caller)) as requests:
                return await function(requests)
        except Exception as error:
            failed = error
        return await _abort(context, failed, call, method)

    return handle


def _begin(context: Context, admission: Admission) -> tuple[Call, Incoming]:
    authorization = traceparent = ""
    for key, value in context.invocation_metadata() or ():
        if key == AUTHORIZATION:
            authorization = str(value)
        elif key == TRACEPARENT:
            traceparent = str(value)
    incoming = Incoming(authorization, traceparent, lambda: _address(context), lambda: _common_name(context))
    call = admission.begin(incoming)
    # Trailing: initial metadata is lost where a call is refused early.
    context.set_trailing_metadata(((TRACE_ID, call.trace_id),))
    return call, incoming


def _address(context: Context) -> str:
    """E.g. "ipv4:192.0.2.1" of "ipv4:192.0.2.1:40000"."""
    peer = str(context.peer())
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer


def _common_name(context: Context) -> str:
    """Of the certificate that the handshake has verified; empty where there was none."""
    names: Any = context.auth_context().get("x509_common_name") or [b""]
    return names[0].decode(errors="replace")


def _in_time(context: Context) -> bool:
    """False where the caller has given up by now: nothing is begun for nobody."""
    left_s: Any = context.time_remaining()  # None without a deadline, which its types do not know
    return left_s is None or left_s > 0


def _reader(kind: type[Message]) -> Read:
    def read(body: bytes) -> Message:
        try:
            return kind.FromString(body)
        except DecodeError as error:
            raise invalid("request", f"is no {kind.DESCRIPTOR.name}: its {len(body)} bytes cannot be read") from error

    return read


def _python_name(method: str) -> str:
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", method).lower()
    return "import_" if name == "import" else name


async def _abort(context: Context, failed: Exception | None, call: Call, method: Method) -> None:
    """Ends a call by an error, or as one whose deadline has passed. Outside of every except clause: it raises."""
    if failed is not None:
        statuses.note(failed, method.name)
    status: status_pb2.Status = statuses.late(call.trace_id) if failed is None else statuses.of(failed, call.trace_id)
    whole: Any = rpc_status.to_status(status)
    trailing = tuple(context.trailing_metadata() or ()) + tuple(whole.trailing_metadata)
    if isinstance(failed, RateLimited) and failed.retry_after_s is not None:
        trailing = (*trailing, (PUSHBACK, str(int(failed.retry_after_s * 1000) + 1)))
    context.set_trailing_metadata(trailing)
    await context.abort(whole.code, whole.details, trailing)
