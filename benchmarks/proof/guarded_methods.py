"""Every method by every kind of caller and request: what each of them must see."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

from benchmarks.proof.guarded import CALLS_BURST, MAX_BYTES, MINE, THEIRS, Guarded, Seen
from dreamsvc import bearer_tokens, clock
from dreamsvc.bearer_tokens import ADMIN, SCOPES
from dreamsvc.server.callers import UNLIMITED
from dreamsvc.server.grpc_server import ADMIN_SERVICE, DREAM_SERVICE, MEMORY_SERVICE
from dreamsvc.v1 import memory_service_pb2, options_pb2

NOT_LET_IN = {"UNAUTHENTICATED", "PERMISSION_DENIED", "RATE_LIMITED"}
ALLOWED = "let in"
CASES = (
    *("no token", "bad token", "expired", "revoked", "wrong scope", "wrong space"),
    *("oversize", "bad bytes", "its own scopes", "flood", "silence"),
)
SEEN_WITHIN_S = 5.0


class Case(NamedTuple):
    """One cell of the table."""

    method: str
    case: str
    # A reason of the error catalogue, or ALLOWED.
    expected: str
    seen: Seen

    @property
    def right(self) -> bool:
        if not self.seen.traced:
            return False
        return self.seen.reason not in NOT_LET_IN if self.expected == ALLOWED else self.seen.reason == self.expected


def methods() -> list[MethodDescriptor]:
    return [*DREAM_SERVICE.methods, *MEMORY_SERVICE.methods, *ADMIN_SERVICE.methods]


def cases(service: Guarded) -> Iterator[Case]:
    tokens = _Tokens(service)
    for method in methods():
        path = _path(method)
        streams: dict[str, Any] = {"sends": method.client_streaming, "gives": method.server_streaming}
        scopes = list(method.GetOptions().Extensions[options_pb2.access].scope)
        has_space = _has_space(method)

        def call(body: bytes, token: str, path: str = path, streams: dict[str, Any] = streams) -> Seen:
            return service.call(path, body, token, **streams)

        good = request_for(method, MINE).SerializeToString()
        yield Case(path, "no token", "UNAUTHENTICATED", call(good, ""))
        yield Case(path, "bad token", "UNAUTHENTICATED", call(good, tokens.bad))
        yield Case(path, "expired", "UNAUTHENTICATED", call(good, tokens.expired))
        yield Case(path, "revoked", "UNAUTHENTICATED", call(good, tokens.revoked))
        for scope in scopes:
            yield Case(path, "wrong scope", "PERMISSION_DENIED", call(good, tokens.all_but[scope]))
        if has_space:
            yield Case(path, "wrong space", "NOT_FOUND", _the_same_as_if_absent(method, call, tokens.elsewhere))
        elif ADMIN in scopes:
            # It concerns all spaces.
            yield Case(path, "wrong space", "PERMISSION_DENIED", call(good, tokens.elsewhere))
        yield Case(path, "oversize", "TOO_LARGE", call(good + _padding(), tokens.admin))
        yield Case(path, "bad bytes", "INVALID_FIELD", call(b"\xff\xff", tokens.admin))
        yield Case(path, "its own scopes", ALLOWED, call(good, tokens.just(scopes)))
        # Whoever made too many calls of a kind waits with each method of it; a wake is never too many.
        limited = "RATE_LIMITED" if _limit(method) != UNLIMITED else ALLOWED
        yield Case(path, "flood", limited, call(good, tokens.flooding))
        with service.silent_call(path, tokens.admin):
            # What others see while a call begins and does not go on.
            yield Case(path, "silence", ALLOWED, tokens.ask(tokens.beside))


class _Tokens:
    def __init__(self, service: Guarded) -> None:
        self._service = service
        self.admin = service.admin
        self.bad = service.admin[:-4] + "AAAA"
        self.expired = service.token("expired", ["admin"], lasts_s=-1)
        self.revoked = service.token("revoked", ["admin"])
        self.elsewhere = service.token("elsewhere", ["admin"], [THEIRS])
        held = [scope for scope in SCOPES if scope != ADMIN]
        self.all_but = {
            one: service.token(f"without-{one.replace(':', '-')}", [scope for scope in held if scope != one])
            for one in SCOPES
        }
        self._just: dict[tuple[str, ...], str] = {}
        for method in methods():
            wanted = tuple(method.GetOptions().Extensions[options_pb2.access].scope)
            if wanted not in self._just:
                spaces = ["*"] if ADMIN in wanted else [MINE]
                self._just[wanted] = service.token(f"just-{len(self._just)}", wanted, spaces)
        self.beside = service.token("beside", SCOPES)
        self.flooding = service.token("flooding-all", SCOPES)
        self._until("flooding-all", self.flooding, reason="")
        self._flood()
        self._until("revoked", self.revoked, reason="")
        bearer_tokens.revoke(service.tokens_file, "revoked")
        self._until("revoked", self.revoked, reason="UNAUTHENTICATED")

    def just(self, scopes: list[str]) -> str:
        return self._just[tuple(scopes)]

    def ask(self, token: str) -> Seen:
        """A call that anybody may make who may read."""
        body = memory_service_pb2.GetStatsRequest(space=MINE).SerializeToString()
        return self._service.call("/dreamsvc.v1.MemoryService/GetStats", body, token)

    def _flood(self) -> None:
        """Calls of each kind until there are too many; what cannot be read counts like all else."""
        kinds = {_limit(method): method for method in methods() if not method.client_streaming}
        del kinds[UNLIMITED]
        for method in kinds.values():
            gives = method.server_streaming
            for _ in range(CALLS_BURST + 1):
                if self._service.call(_path(method), b"\xff\xff", self.flooding, gives=gives).reason == "RATE_LIMITED":
                    break

    def _until(self, name: str, token: str, *, reason: str) -> None:
        """A running service knows of a change within a second or so."""
        end_s = clock.precise_s() + SEEN_WITHIN_S
        while self.ask(token).reason != reason:
            if clock.precise_s() > end_s:
                raise AssertionError(f"the token {name} is not as it was made after {SEEN_WITHIN_S} s")
            clock.sleep_s(0.05)


def _the_same_as_if_absent(method: MethodDescriptor, call: Any, token: str) -> Seen:
    """A space of others, unless it looks in any way different from one that is not there."""
    theirs = call(request_for(method, MINE).SerializeToString(), token)
    absent = call(request_for(method, "nowhere").SerializeToString(), token)
    same = theirs.message.replace(MINE, "nowhere") == absent.message and theirs.reason == absent.reason
    return theirs if same else theirs._replace(reason="DIFFERS")


def request_for(method: MethodDescriptor, space: str) -> Message:
    """A request that the contract takes."""
    request = message_factory.GetMessageClass(method.input_type)()
    for part in (request, *(getattr(request, field.name) for field in _parts_with_space(method))):
        if "space" in part.DESCRIPTOR.fields_by_name:
            setattr(part, "space", space)  # noqa: B010
        for field in part.DESCRIPTOR.fields:
            if field.GetOptions().Extensions[options_pb2.rule].required:
                _fill(part, field)
    if method.name == "Import":
        getattr(request, "header").format = 1  # noqa: B009
    return request


def _fill(part: Message, field: FieldDescriptor) -> None:
    if not field.is_repeated:
        setattr(part, field.name, "tea")
    elif field.message_type is None:
        getattr(part, field.name).append("tea")
    else:
        getattr(part, field.name).add(text="she likes green tea")


def _parts_with_space(method: MethodDescriptor) -> list[FieldDescriptor]:
    return [
        field
        for field in method.input_type.fields
        if field.message_type is not None and not field.is_repeated and "space" in field.message_type.fields_by_name
    ]


def _path(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def _limit(method: MethodDescriptor) -> str:
    return method.GetOptions().Extensions[options_pb2.access].limit


def _has_space(method: MethodDescriptor) -> bool:
    return "space" in method.input_type.fields_by_name or bool(_parts_with_space(method))


def _padding() -> bytes:
    """A field that no message has, just above what is let in."""
    return (
        b"\xfa\x3f" + bytes([0x80 | MAX_BYTES & 0x7F, 0x80 | MAX_BYTES >> 7 & 0x7F, MAX_BYTES >> 14]) + b"x" * MAX_BYTES
    )
