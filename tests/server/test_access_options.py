"""Who may make which call stands in the protos, once."""

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from dreamsvc.bearer_tokens import SCOPES
from dreamsvc.v1 import admin_service_pb2, dream_service_pb2, memory_service_pb2, options_pb2
from dreamsvc.v1.config_pb2 import RateLimitsConfig
from dreamsvc.v1.options_pb2 import Access

SERVICES: list[ServiceDescriptor] = [
    service
    for module in (dream_service_pb2, memory_service_pb2, admin_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
]
METHODS: list[MethodDescriptor] = [method for service in SERVICES for method in service.methods]
LIMITS = {name.removesuffix("_per_second") for name in RateLimitsConfig.DESCRIPTOR.fields_by_name} - {"failures"}


def access_of(method: MethodDescriptor) -> Access:
    return method.GetOptions().Extensions[options_pb2.access]


def test_every_method_says_what_it_asks_for_and_how_it_is_limited() -> None:
    for method in METHODS:
        access = access_of(method)
        assert access.scope, method.full_name
        assert set(access.scope) <= set(SCOPES), method.full_name
        assert access.limit in LIMITS | {"none"}, method.full_name


def test_what_only_reads_asks_for_no_scope_that_changes_anything() -> None:
    for method in METHODS:
        reads = method.GetOptions().idempotency_level == method.GetOptions().NO_SIDE_EFFECTS
        scopes = set(access_of(method).scope)
        if reads and method.name != "Simulate":  # it takes the device for itself, as a dream does
            assert not scopes & {"memory:write", "dream:control"}, method.full_name


def test_nothing_ever_keeps_a_caller_from_waking_a_memory() -> None:
    assert [method.name for method in METHODS if access_of(method).limit == "none"] == ["Abort"]
