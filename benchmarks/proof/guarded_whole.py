"""What concerns a guarded service as a whole: its doors without credentials, TLS, floods, silent connections."""

import contextlib
import socket
import ssl
import warnings
from collections.abc import Generator, Iterator
from typing import NamedTuple

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from benchmarks.proof.guarded import DREAMS_BURST, FAILURES_BURST, MINE, Guarded, Seen, seen
from dreamsvc.v1.dream_service_pb2 import AbortRequest, GenerateRequest, GetStatusRequest

DREAMS = "/dreamsvc.v1.DreamService"
HEALTH = "/grpc.health.v1.Health"
REFLECTION = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
STATUS = GetStatusRequest(space=MINE).SerializeToString()
GENERATE = GenerateRequest(space=MINE, prompt="tea").SerializeToString()
HALF_OPEN = 40
# HTTP/2's greeting, and the beginning of a frame of headers that never ends.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)[:3] + b"\x04\x00\x00\x00\x00\x00"
HEADERS = b"\x00\x40\x00\x01\x00\x00\x00\x00\x01\x82"


class Whole(NamedTuple):
    """One line: what was tried, what had to come of it, and what came."""

    what: str
    expected: str
    seen: str

    @property
    def right(self) -> bool:
        return self.expected == self.seen


def lines(service: Guarded) -> Iterator[Whole]:
    yield from _without_credentials(service)
    yield from _tls(service)
    yield from _half_open(service)
    yield from _flood(service)
    yield from _failures(service)


def _without_credentials(service: Guarded) -> Iterator[Whole]:
    check = health_pb2.HealthCheckRequest().SerializeToString()
    reader = service.token("reader", ["memory:read"], [MINE])
    _until_known(service, reader)
    yield Whole("health, nobody asks", "OK", service.call(f"{HEALTH}/Check", check).code)
    yield Whole("health is watched, by nobody", "OK", service.call(f"{HEALTH}/Watch", check, gives=True).code)
    for name in REFLECTION:
        yield Whole(f"{name}, nobody asks", "UNAUTHENTICATED", _reflected(service, name, "").code)
        yield Whole(f"{name}, with any token", "OK", _reflected(service, name, reader).code)
    for path in ("/dreamsvc.v1.DreamService/Nothing", "/grpc.channelz.v1.Channelz/GetServers", "/"):
        yield Whole(f"{path}, nobody asks", "UNAUTHENTICATED", _traced(service.call(path, b"")))
        yield Whole(f"{path}, with a token", "UNIMPLEMENTED", _traced(service.call(path, b"", reader)))
    traced = service.call(f"{DREAMS}/GetStatus", STATUS, more=[("traceparent", f"00-{'a' * 32}-{'b' * 16}-01")])
    yield Whole("a trace of the caller's, refused", "a" * 32, traced.trace_id)


def _traced(found: Seen) -> str:
    return found.code if found.traced else f"{found.code} without a trace"


def _reflected(service: Guarded, name: str, token: str) -> Seen:
    request = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    metadata = [("authorization", f"Bearer {token}")] if token else []
    call = service.channel.stream_stream(f"/{name}/ServerReflectionInfo")(iter([request]), 20, metadata)
    with contextlib.suppress(grpc.RpcError):
        list(call)
    return seen(call)


def _until_known(service: Guarded, token: str) -> None:
    while service.call("/nothing", b"", token).code == "UNAUTHENTICATED":
        pass


def _tls(service: Guarded) -> Iterator[Whole]:
    wanted = {
        ssl.TLSVersion.TLSv1: "refused",
        ssl.TLSVersion.TLSv1_1: "refused",
        ssl.TLSVersion.TLSv1_2: "TLSv1.2",
        ssl.TLSVersion.TLSv1_3: "TLSv1.3",
    }
    for version, expected in wanted.items():
        yield Whole(f"{version.name.replace('_', '.')} is offered", expected, _handshake(service.port, version))
    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as plain:
        try:
            plain.unary_unary(f"{HEALTH}/Check")(b"", timeout=3)
            code = "OK"
        except grpc.RpcError as error:
            code = seen(error).code
    yield Whole("no TLS at all", "UNAVAILABLE", code)


def _handshake(port: int, version: ssl.TLSVersion) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # Else it is our own OpenSSL that refuses old versions.
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = version
        context.maximum_version = version
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as raw, context.wrap_socket(raw) as secure:
            return secure.version() or "nothing"
    except (ssl.SSLError, ConnectionError):
        return "refused"


def _half_open(service: Guarded) -> Iterator[Whole]:
    """Connections that begin and do not go on, in each stage; others are served meanwhile."""
    with contextlib.ExitStack() as stack:
        for _ in range(HALF_OPEN):
            stack.enter_context(socket.create_connection(("127.0.0.1", service.port), 5))
            greeting = stack.enter_context(socket.create_connection(("127.0.0.1", service.port), 5))
            greeting.sendall(b"\x16\x03\x01\x02\x00\x01")
        for words in (b"", PREFACE, PREFACE + HEADERS):
            for _ in range(HALF_OPEN // 2):
                stack.enter_context(_encrypted(service.port)).sendall(words)
        codes: set[str] = set()
        with contextlib.closing(service.connect()) as fresh:
            status = fresh.unary_unary(f"{DREAMS}/GetStatus")
            metadata = [("authorization", f"Bearer {service.admin}")]
            for _ in range(20):
                _, call = status.with_call(STATUS, timeout=5, metadata=metadata)
                codes.add(seen(call).code)
        yield Whole(f"a new caller, while {int(3.5 * HALF_OPEN)} connections stand half open", "OK", ", ".join(codes))


@contextlib.contextmanager
def _encrypted(port: int) -> Generator[ssl.SSLSocket]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", port), 5) as raw, context.wrap_socket(raw) as secure:
        yield secure


def _flood(service: Guarded) -> Iterator[Whole]:
    """One caller makes far more calls than it may; it is told when to go on, and others are not touched."""
    flooding, other = service.token("flooding", ["admin"]), service.token("other", ["admin"])
    for token in (flooding, other):
        _until_known(service, token)
    found = [service.call(f"{DREAMS}/Generate", GENERATE, flooding) for _ in range(2 * DREAMS_BURST)]
    limited = [one for one in found if one.reason == "RATE_LIMITED"]
    yield Whole("a flood, what is let in of it", str(DREAMS_BURST), str(len(found) - len(limited)))
    told = all(one.retry_after_s and one.pushback_ms and one.traced for one in limited)
    yield Whole("a flood, told when to go on", "yes", "yes" if limited and told else "no")
    abort = AbortRequest(space=MINE).SerializeToString()
    yield Whole("a wake by the flooding caller", "OK", service.call(f"{DREAMS}/Abort", abort, flooding).code)
    beside = service.call(f"{DREAMS}/Generate", GENERATE, other).reason
    yield Whole("the same call by another caller", "let in", "RATE_LIMITED" if beside == "RATE_LIMITED" else "let in")


def _failures(service: Guarded) -> Iterator[Whole]:
    """Credentials that are none, again and again: the address waits, and good tokens from there do not."""
    found = ""
    for _ in range(FAILURES_BURST + 1):
        one = service.call(f"{DREAMS}/GetStatus", STATUS, "dsvc_guess")
        if one.reason == "RATE_LIMITED":
            found = one.reason if one.retry_after_s else "not told when"
            break
    yield Whole("guesses without end", "RATE_LIMITED", found)
    good = service.call(f"{DREAMS}/GetStatus", STATUS, service.admin).code
    yield Whole("a good token from the same address", "OK", good)
