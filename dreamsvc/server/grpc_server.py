"""The gRPC door: translates, and nothing else. Methods are found by the names in the protos."""

import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import grpc
import grpc.aio
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from dreamsvc import calling, entropy
from dreamsvc.calling import Call
from dreamsvc.errors import InvalidFields, invalid
from dreamsvc.server import reflection_v1
from dreamsvc.server.admission import admit, status_of
from dreamsvc.v1 import dream_service_pb2, memory_service_pb2
from dreamsvc.v1.config_pb2 import ServerConfig

DREAM_SERVICE = dream_service_pb2.DESCRIPTOR.services_by_name["DreamService"]
MEMORY_SERVICE = memory_service_pb2.DESCRIPTOR.services_by_name["MemoryService"]
TRACE_ID = "trace-id"
TRACEPARENT = "traceparent"
# Of its own: reads go on while the store takes no changes, and nobody who only asks has to look elsewhere.
STORE_HEALTH = "dreamsvc.store"


class GrpcDoor:
    """A server with our services, health and reflection; `start` gives the port it listens on."""

    def __init__(self, config: ServerConfig, services: Sequence[tuple[ServiceDescriptor, object]]) -> None:
        self._config = config
        self._server = grpc.aio.server(
            options=[
                # Twice the limit: what is a little too large is refused by us, with the reason.
                ("grpc.max_receive_message_length", 2 * config.max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ]
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        for descriptor, calls in services:
            self._server.add_generic_rpc_handlers((_handlers(descriptor, calls, config.max_message_bytes),))
        self._names = [descriptor.full_name for descriptor, _ in services]
        shown = (*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME, reflection_v1.SERVICE_NAME)
        reflection.enable_server_reflection(shown, self._server)
        reflection_v1.enable(shown, self._server)

    async def start(self) -> int:
        """Listens and says so; raises OSError where the port is taken."""
        host = f"[{self._config.host}]" if ":" in self._config.host else self._config.host
        address = f"{host}:{self._config.port}"
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from error
        await self._server.start()
        await self._tell(health_pb2.HealthCheckResponse.SERVING)
        return port

    async def refuse_new_calls(self) -> None:
        """Tells load balancers to look elsewhere."""
        await self._tell(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def tell_of_store(self, *, takes_changes: bool) -> None:
        """Health of the name STORE_HEALTH."""
        health = health_pb2.HealthCheckResponse
        await self._health.set(STORE_HEALTH, health.SERVING if takes_changes else health.NOT_SERVING)

    async def stop(self) -> None:
        """Lets open calls end within the grace, then cancels them."""
        await self._server.stop(self._config.grace_seconds)

    async def _tell(self, status: int) -> None:
        for name in ("", *self._names, STORE_HEALTH):
            await self._health.set(name, status)


def _handlers(descriptor: ServiceDescriptor, calls: object, max_bytes: int) -> grpc.GenericRpcHandler:
    """One handler for each method of the proto; a method without a function is an error at the start."""
    made: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    for method in descriptor.methods:
        function = getattr(calls, _python_name(method.name))
        request = _reader(message_factory.GetMessageClass(method.input_type))
        response = message_factory.GetMessageClass(method.output_type).SerializeToString
        if method.client_streaming:
            handler = grpc.stream_unary_rpc_method_handler(_client_stream(function), request, response)
        elif method.server_streaming:
            handler = grpc.unary_stream_rpc_method_handler(_server_stream(function, max_bytes), request, response)
        else:
            handler = grpc.unary_unary_rpc_method_handler(_unary(function, max_bytes), request, response)
        made[method.name] = handler
    return grpc.method_handlers_generic_handler(descriptor.full_name, made)


def _reader(kind: type[Message]) -> Callable[[bytes], Message | InvalidFields]:
    """Reads a request. Where its bytes are none, the error is what is read: one raised here would have no status."""

    def read(body: bytes) -> Message | InvalidFields:
        try:
            return kind.FromString(body)
        except DecodeError:
            return invalid("request", f"is no {kind.DESCRIPTOR.name}: its {len(body)} bytes cannot be read")

    return read


def _required[M](request: M | InvalidFields) -> M:
    if isinstance(request, InvalidFields):
        raise request
    return request


async def _each_required[M](requests: AsyncIterator[M | InvalidFields]) -> AsyncGenerator[M]:
    async for request in requests:
        yield _required(request)


def _python_name(method: str) -> str:
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", method).lower()
    return "import_" if name == "import" else name


def method_names(descriptor: ServiceDescriptor) -> list[str]:
    methods: Sequence[MethodDescriptor] = descriptor.methods
    return [method.name for method in methods]


def _unary(function: Callable[..., Any], max_bytes: int) -> Callable[..., Any]:
    async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        trace_id = _begin(context)
        try:
            admit(_required(request), max_bytes)
            return await function(request)
        except Exception as error:
            status = status_of(error, trace_id)
        return await _abort(context, status)

    return handle


def _server_stream(function: Callable[..., Any], max_bytes: int) -> Callable[..., Any]:
    async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        trace_id = _begin(context)
        try:
            admit(_required(request), max_bytes)
            # Closed here and now where the caller goes away: an export holds a connection to the store.
            messages: AsyncGenerator[Any] = function(request)
            async with contextlib.aclosing(messages):
                async for message in messages:
                    await context.write(message)
            return
        except Exception as error:
            status = status_of(error, trace_id)
        await _abort(context, status)

    return handle


def _client_stream(function: Callable[..., Any]) -> Callable[..., Any]:
    async def handle(requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        trace_id = _begin(context)
        try:
            async with contextlib.aclosing(_each_required(requests)) as whole:
                return await function(whole)
        except Exception as error:
            status = status_of(error, trace_id)
        return await _abort(context, status)

    return handle


def _begin(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    parent = next(
        (calling.read_traceparent(str(value)) for key, value in _metadata(context) if key == TRACEPARENT), None
    )
    trace_id = entropy.trace_id() if parent is None else parent.trace_id
    calling.begin(Call(trace_id, parent=parent))
    # Trailing: initial metadata is lost where a call is refused early.
    context.set_trailing_metadata(((TRACE_ID, trace_id),))
    return trace_id


def _metadata(context: grpc.aio.ServicerContext[Any, Any]) -> Iterable[tuple[str, str | bytes]]:
    return context.invocation_metadata() or ()


async def _abort(context: grpc.aio.ServicerContext[Any, Any], status: status_pb2.Status) -> None:
    # Outside of every except clause: abort ends the call by an exception of its own.
    whole: Any = rpc_status.to_status(status)
    trailing = tuple(context.trailing_metadata() or ()) + tuple(whole.trailing_metadata)
    context.set_trailing_metadata(trailing)
    await context.abort(whole.code, whole.details, trailing)
