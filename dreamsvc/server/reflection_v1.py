"""Reflection under its v1 name. grpcio-reflection serves v1alpha only; on the wire the two are the same."""

from collections.abc import Iterable
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection, reflection_pb2

SERVICE_NAME = "grpc.reflection.v1.ServerReflection"
_OLD, _NEW = "grpc.reflection.v1alpha", "grpc.reflection.v1"


def enable(services: Iterable[str], server: grpc.aio.Server) -> None:
    """Adds the service to a server; `services` are the names it lists."""
    _describe()
    servicer: Any = reflection.aio.ReflectionServicer(services)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE_NAME, {"ServerReflectionInfo": handler}),)
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
