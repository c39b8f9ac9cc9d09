"""Reflection as v1alpha, which grpcio-reflection serves, and as v1: on the wire the two are the same."""

from collections.abc import Iterable
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection, reflection_pb2

from dreamsvc.config import InForce
from dreamsvc.errors import Unimplemented
from dreamsvc.server.admission import Admission
from dreamsvc.server.grpc_calls import Context, guarded

SERVICE_NAME = "grpc.reflection.v1.ServerReflection"
_OLD, _NEW = "grpc.reflection.v1alpha", "grpc.reflection.v1"


def enable(services: Iterable[str], server: grpc.aio.Server, config: InForce, admission: Admission) -> None:
    """Adds both to a server, for whoever may call; `services` are the names they list besides themselves."""
    _describe()
    shown = (*services, reflection.SERVICE_NAME, SERVICE_NAME)
    servicer: Any = reflection.aio.ReflectionServicer(shown)

    async def answer(requests: Any, context: Context) -> None:
        if not config.security.reflection:
            raise Unimplemented("reflection is switched off (security.reflection)")
        async for response in servicer.ServerReflectionInfo(requests, context):
            await context.write(response)

    handler = grpc.stream_stream_rpc_method_handler(
        guarded("reflection", admission, answer),
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in (reflection.SERVICE_NAME, SERVICE_NAME):
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler}),)
        )


def _describe() -> None:
    """Makes the service known to reflection itself, from its twin's description."""
    pool = descriptor_pool.Default()
    try:
        pool.FindServiceByName(SERVICE_NAME)
    except KeyError:
        twin = descriptor_pb2.FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(twin)
        twin.name, twin.package = "grpc/reflection/v1/reflection.proto", _NEW
        for message in twin.message_type:
            for field in message.field:
                if field.type_name:
                    field.type_name = field.type_name.replace(_OLD, _NEW)
        for method in twin.service[0].method:
            method.input_type = method.input_type.replace(_OLD, _NEW)
            method.output_type = method.output_type.replace(_OLD, _NEW)
        pool.AddSerializedFile(twin.SerializeToString())
