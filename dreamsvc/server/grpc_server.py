"""The gRPC door: translates, and nothing else. Methods are found by the names in the protos."""

from collections.abc import Sequence
from typing import Any, override

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from dreamsvc.config import InForce
from dreamsvc.server import grpc_calls, reflecting, tls
from dreamsvc.server.admission import Admission
from dreamsvc.server.observing import CallListener
from dreamsvc.v1 import admin_service_pb2, dream_service_pb2, memory_service_pb2

DREAM_SERVICE = dream_service_pb2.DESCRIPTOR.services_by_name["DreamService"]
MEMORY_SERVICE = memory_service_pb2.DESCRIPTOR.services_by_name["MemoryService"]
ADMIN_SERVICE = admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"]
# Of their own: reads go on while a part does not work, and nobody who only asks has to look elsewhere.
PART_HEALTH = "dreamsvc."


class GrpcDoor:
    """A server with our services, health and reflection; `start` gives the port it listens on."""

    def __init__(
        self,
        in_force: InForce,
        services: Sequence[tuple[ServiceDescriptor, object]],
        admission: Admission,
        listeners: Sequence[CallListener] = (),
    ) -> None:
        """listeners: who is told of calls. Raises InvalidFields where the files of TLS cannot be used."""
        self._in_force = in_force
        config = in_force.server
        self._credentials = tls.server_credentials(in_force.security.tls)
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
                # Who connects and says nothing is let go of after that.
                ("grpc.server_handshake_timeout_ms", 10_000),
            ]
        )
        self._health = _Health(in_force)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        for descriptor, calls in services:
            self._server.add_generic_rpc_handlers((grpc_calls.handlers(descriptor, calls, admission, listeners),))
        self._parts: set[str] = set()
        self._names = [descriptor.full_name for descriptor, _ in services]
        reflecting.enable((*self._names, health.SERVICE_NAME), self._server, in_force, admission)
        # The last one: whatever nobody else knows.
        self._server.add_generic_rpc_handlers((grpc_calls.UnknownMethods(admission),))

    async def start(self) -> int:
        """Listens and says so; raises OSError where the port is taken."""
        config = self._in_force.server
        host = f"[{config.host}]" if ":" in config.host else config.host
        address = f"{host}:{config.port}"
        try:
            if self._credentials is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from error
        await self._server.start()
        await self._tell(health_pb2.HealthCheckResponse.SERVING)
        return port

    async def refuse_new_calls(self) -> None:
        """Tells load balancers to look elsewhere."""
        await self._tell(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def tell_of_part(self, name: str, *, serves: bool) -> None:
        """Health of a subsystem, under the name "dreamsvc.<its name>"."""
        health = health_pb2.HealthCheckResponse
        self._parts.add(name)
        await self._health.set(PART_HEALTH + name, health.SERVING if serves else health.NOT_SERVING)

    async def stop(self) -> None:
        """Lets open calls end within the grace, then cancels them."""
        await self._server.stop(self._in_force.server.grace_seconds)

    async def _tell(self, status: int) -> None:
        for name in ("", *self._names, *(PART_HEALTH + part for part in self._parts)):
            await self._health.set(name, status)


class _Health(health.aio.HealthServicer):
    """Needs no credentials, so the streams that anybody may open are counted."""

    def __init__(self, in_force: InForce) -> None:
        super().__init__()
        self._in_force = in_force
        self._open = 0

    @override
    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        most = self._in_force.server.max_watchers
        if self._open >= most:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{most} streams of health are open (server.max_watchers); use Check",
            )
        self._open += 1
        try:
            await super().Watch(request, context)
        finally:
            self._open -= 1


def method_names(descriptor: ServiceDescriptor) -> list[str]:
    methods: Sequence[MethodDescriptor] = descriptor.methods
    return [method.name for method in methods]
