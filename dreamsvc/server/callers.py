"""Who calls, and what a call asks of them: both as plain values, made once and looked at often."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

from dreamsvc.bearer_tokens import ADMIN, ALL_SPACES, SCOPES
from dreamsvc.errors import PermissionDenied
from dreamsvc.memory import spaces
from dreamsvc.v1 import options_pb2

UNLIMITED = "none"


class Incoming(NamedTuple):
    """What a door knows of a call before its message; empty texts where the caller said nothing."""

    # The whole value of the header.
    authorization: str
    traceparent: str
    # Asked only where it matters, since it takes its time: the address without the port, and the common name of a
    # certificate that was verified.
    peer: Callable[[], str]
    certificate: Callable[[], str]


class Caller(NamedTuple):
    """Somebody who may call: by a token, by a token of the issuer, by a certificate, or just anybody."""

    # For logs and errors; empty for anybody.
    name: str
    # Whose calls are counted together.
    key: str
    # With what `admin` stands for spelled out.
    scopes: frozenset[str]
    # None: all.
    spaces: frozenset[str] | None
    # Wall-clock microseconds from which on it is nobody; None: never.
    until_us: int | None = None
    # Of a bearer token, to see whether it is there still.
    token_id: str = ""

    def require(self, method: "Method") -> None:
        """Raises PermissionDenied where the caller's scopes do not allow the method."""
        missing = method.scopes - self.scopes
        if missing:
            has = ", ".join(scope for scope in SCOPES if scope in self.scopes) or "none"
            raise PermissionDenied(f"{method.name} needs the scope {', '.join(sorted(missing))}; {self.name} has {has}")
        if method.space is None and ADMIN in method.scopes and self.spaces is not None:
            raise PermissionDenied(f"{method.name} concerns all spaces; {self.name} is limited to some")

    def require_space(self, space: str | None) -> None:
        """Raises NotFound for a space of others, whether it is there or not."""
        if self.spaces is not None and space is not None and space not in self.spaces:
            raise spaces.absent(space)


def caller(
    name: str,
    key: str,
    scopes: Iterable[str],
    spaces: Iterable[str],
    *,
    until_us: int | None = None,
    token_id: str = "",
) -> Caller:
    held, seen = frozenset(scopes), frozenset(spaces)
    return Caller(
        name,
        key,
        frozenset(SCOPES) if ADMIN in held else held,
        None if ALL_SPACES in seen else seen,
        until_us,
        token_id,
    )


ANYBODY = Caller("", "", frozenset(SCOPES), None)
"""The caller where nobody has to say who they are."""


class Method(NamedTuple):
    """What the protos say of a method."""

    name: str
    scopes: frozenset[str]
    # The name of a rate limit, or UNLIMITED.
    limit: str
    # Reads the space that a request is about, the default where it names none; None for a message that does not say
    # it. The whole is None where no request of the method has a space.
    space: Callable[[Message], str | None] | None


def method_of(descriptor: MethodDescriptor) -> Method:
    access = descriptor.GetOptions().Extensions[options_pb2.access]
    return Method(descriptor.name, frozenset(access.scope), access.limit, _space_reader(descriptor))


def _space_reader(descriptor: MethodDescriptor) -> Callable[[Message], str | None] | None:
    fields = descriptor.input_type.fields_by_name
    if "space" in fields:
        return _of_field(fields["space"])
    for field in fields.values():
        if field.message_type is not None and not field.is_repeated and "space" in field.message_type.fields_by_name:
            return _of_part(field.name, _of_field(field.message_type.fields_by_name["space"]))
    return None


def _of_field(field: FieldDescriptor) -> Callable[[Message], str]:
    default = field.GetOptions().Extensions[options_pb2.rule].default_text
    return lambda request: getattr(request, "space") or default  # noqa: B009


def _of_part(part: str, read: Callable[[Message], str]) -> Callable[[Message], str | None]:
    """The space of a message inside, e.g. of the header in an import's first message."""
    return lambda request: read(getattr(request, part)) if request.HasField(part) else None
