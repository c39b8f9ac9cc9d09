"""A service that is guarded in every way, on TLS, and callers of it: good ones, and some that are none."""

import contextlib
import tempfile
import threading
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import grpc
import trustme
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from benchmarks.serving import Server
from dreamsvc import bearer_tokens, clock
from dreamsvc.bearer_tokens import SCOPES
from dreamsvc.v1.memory_pb2 import Memory
from dreamsvc.v1.memory_service_pb2 import RememberRequest

MINE, THEIRS = "mine", "theirs"
MAX_BYTES = 65_536
# Of the buckets that are flooded, and of the one for calls that fail to say who they are.
DREAMS_BURST, CALLS_BURST, FAILURES_BURST = 50, 400, 2_000
CONFIG = f"""
[dream]
enabled = false

[server]
max_message_bytes = {MAX_BYTES}

[security]
auth = "required"

[security.tls]
cert_file = "{{directory}}/cert.pem"
key_file = "{{directory}}/key.pem"

[security.rate_limits]
reads_burst = {CALLS_BURST}
reads_per_second = 0.1
writes_burst = {CALLS_BURST}
writes_per_second = 0.1
dreams_burst = {DREAMS_BURST}
dreams_per_second = 0.1
failures_burst = {FAILURES_BURST}
failures_per_second = 0.1
"""
CALL_S = 20.0


class Seen(NamedTuple):
    """What a caller sees of an answer."""

    # Of gRPC, and of the error catalogue: empty where it has none.
    code: str
    reason: str
    message: str
    # Of the trailing metadata, and of the details; both are to be the same 32 hex digits.
    trace_id: str
    told_trace_id: str
    retry_after_s: float | None
    pushback_ms: int | None

    @property
    def traced(self) -> bool:
        digits = set(self.trace_id) <= set("0123456789abcdef")
        return digits and len(self.trace_id) == 32 and self.told_trace_id in ("", self.trace_id)


class Guarded:
    """The running service, its roots, and tokens by what they are good for."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tokens_file = directory / "memory.db.tokens"
        authority = trustme.CA()
        own = authority.issue_cert("localhost", "127.0.0.1")
        own.cert_chain_pems[0].write_to_path(directory / "cert.pem")
        own.private_key_pem.write_to_path(directory / "key.pem")
        self.roots = authority.cert_pem.bytes()
        self.admin = self.token("admin", SCOPES)
        config = directory / "dreamsvc.toml"
        config.write_text(CONFIG.format(directory=directory), encoding="utf-8")
        where = ["--config", str(config), "--store", str(directory / "memory.db"), "--port", "0", "--embedder", "none"]
        self._server = Server(["-m", "dreamsvc", "serve", *where], directory / "server.log")
        self.port = int(self._server.target.rpartition(":")[2])
        self.channel = self.connect()
        for space in (MINE, THEIRS):
            request = RememberRequest(space=space, memories=[Memory(key="tea", text="she likes green tea")])
            seen = self.call("/dreamsvc.v1.MemoryService/Remember", request.SerializeToString(), self.admin)
            assert seen.code == "OK", seen

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        self._server.kill()

    def stop(self) -> str:
        """Ends it well; its log."""
        self.channel.close()
        self._server.stop()
        return (self.directory / "server.log").read_text(encoding="utf-8")

    def connect(self) -> grpc.Channel:
        options = (("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1))
        return grpc.secure_channel(f"localhost:{self.port}", grpc.ssl_channel_credentials(self.roots), options)

    def token(
        self, name: str, scopes: Iterable[str], spaces: Iterable[str] = ("*",), *, lasts_s: float | None = None
    ) -> str:
        now_us = clock.Clock().now_us()
        made = bearer_tokens.make(
            name=name,
            scopes=scopes,
            spaces=spaces,
            now_us=now_us,
            expire_us=None if lasts_s is None else now_us + int(lasts_s * 1e6),
        )
        bearer_tokens.add(self.tokens_file, made)
        return made.text

    @contextlib.contextmanager
    def silent_call(self, path: str, token: str) -> Generator[None]:
        """A call that is begun, and whose message never comes."""
        over = threading.Event()

        def nothing() -> Iterator[bytes]:
            over.wait(CALL_S)
            yield from ()

        call = self.channel.stream_unary(path).future(nothing(), CALL_S, [("authorization", f"Bearer {token}")])
        try:
            yield
        finally:
            over.set()
            call.cancel()

    def call(
        self, path: str, body: bytes, token: str = "", *, sends: bool = False, gives: bool = False, more: Any = ()
    ) -> Seen:
        """A call with any bytes; `sends` and `gives` say which side streams. Of a stream of answers one is enough."""
        metadata = [*more, *([("authorization", f"Bearer {token}")] if token else [])]
        try:
            if sends:
                _, call = self.channel.stream_unary(path).with_call(iter([body]), CALL_S, metadata)
            elif gives:
                call = self.channel.unary_stream(path)(body, CALL_S, metadata)
                if next(iter(call), None) is not None:
                    call.cancel()
                    return Seen("OK", "", "", "0" * 32, "", None, None)
            else:
                _, call = self.channel.unary_unary(path).with_call(body, CALL_S, metadata)
        except grpc.RpcError as error:
            return seen(error)
        return seen(call)


def seen(call: Any) -> Seen:
    trailing = {str(key): value for key, value in call.trailing_metadata() or ()}
    found: dict[str, Any] = {}
    with contextlib.suppress(ValueError):
        status: Any = rpc_status.from_call(call)
        for packed in [] if status is None else status.details:
            kind = getattr(error_details_pb2, packed.TypeName().rpartition(".")[2])
            found[kind.__name__] = kind.FromString(packed.value)
    retry = found.get("RetryInfo")
    pushback = trailing.get("grpc-retry-pushback-ms")
    return Seen(
        call.code().name,
        found["ErrorInfo"].reason if "ErrorInfo" in found else "",
        call.details() or "",
        str(trailing.get("trace-id", "")),
        found["RequestInfo"].request_id if "RequestInfo" in found else "",
        None if retry is None else retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9,
        None if pushback is None else int(pushback),
    )


@contextlib.contextmanager
def guarded() -> Generator[Guarded]:
    with tempfile.TemporaryDirectory(prefix="dreamsvc-bench-") as name, Guarded(Path(name)) as service:
        yield service
