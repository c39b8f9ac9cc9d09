"""Calls of both services through what the gRPC door does: read the bytes, admit, answer; in this process, without a
dreamer and an embedder.

An answer has to serialise, a refusal has to be one of the catalogue and to change nothing; afterwards the store is in
order and what nobody's call was about is as it was.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf import message_factory
from google.protobuf.message import DecodeError, Message

from benchmarks.proof import fuzz_world
from benchmarks.proof.fuzz_draws import Draws, nested
from benchmarks.proof.fuzz_watch import Broken, Watch
from dreamsvc import config, contract
from dreamsvc.app import App
from dreamsvc.errors import DreamsvcError
from dreamsvc.memory.sqlite import change_seq
from dreamsvc.server import statuses
from dreamsvc.server.grpc_server import method_names
from dreamsvc.v1 import error_reason_pb2
from dreamsvc.v1.memory_service_pb2 import ImportRequest, RecallResponse

MAX_BYTES = 4 * 1024 * 1024
# Clients drop a call with more metadata behind it, and the error with it.
MOST_METADATA = 8192
# Calls that may change or read much are made more often.
OFTEN = {
    "Remember": 6,
    "Recall": 4,
    "Import": 3,
    "GetMemory": 2,
    "Forget": 2,
    "Restore": 2,
    "Unmerge": 2,
    "DiffDream": 2,
}
SELDOM_S = 0.004
# Nobody asks this process to dream: what dreamers are told is fuzzed elsewhere.
TABLES = {
    "dream": {"enabled": False, "trigger": {"automatic": False}},
    "embedder": {"kind": "none"},
    "server": {"port": 0, "heartbeat_seconds": 0.05, "max_message_bytes": MAX_BYTES},
}


class Method:
    """A method of a service, as the door knows it."""

    def __init__(self, descriptor: Any, calls: object) -> None:
        self.name: str = descriptor.name
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", self.name).lower()
        self.function: Callable[..., Any] = getattr(calls, "import_" if name == "import" else name)
        self.request: type[Message] = message_factory.GetMessageClass(descriptor.input_type)
        self.takes_stream: bool = descriptor.client_streaming
        self.gives_stream: bool = descriptor.server_streaming


class CallsTarget:
    name = "calls"
    size = 4000

    def __init__(self) -> None:
        self._world = fuzz_world.World()

    def close(self) -> None:
        self._world.close()

    def batch(self, watch: Watch, cases: int) -> None:
        path = self._world.copy()
        tables = TABLES | {"store": {"path": str(path)}}
        try:
            with asyncio.Runner() as runner:
                runner.run(_batch(App(config.parse(tables)), watch, cases))
        finally:
            self._world.forget(path)


async def _batch(app: App, watch: Watch, cases: int) -> None:
    await app.scheduler.start()
    try:
        kept = fuzz_world.digest(app.store, fuzz_world.KEPT)
        draws = Draws(f"calls {watch.seed}", fuzz_world.pools(app.store, app.journal))
        methods = [
            method
            for descriptor, calls in app._services
            for name in method_names(descriptor)
            for method in [Method(descriptor.methods_by_name[name], calls)] * OFTEN.get(name, 1)
        ]
        while watch.cases < cases:
            method = draws.choice(methods)
            bodies = drawn(draws, method.request, 3 if method.takes_stream else 1)
            with watch.case(method.name, b"\0\0\0".join(bodies)):
                watch.ended(await _call(app, method, bodies, draws))
        with watch.case("afterwards"):
            await app._memory.flush_touches()
            fuzz_world.require_order(app.store)
            if fuzz_world.digest(app.store, fuzz_world.KEPT) != kept:
                raise Broken("calls about other spaces changed a space")
    finally:
        await app.scheduler.close()
        await asyncio.to_thread(app.close)


def drawn(draws: Draws, kind: type[Message], most: int) -> list[bytes]:
    """Bytes of a message, or of several: drawn by its fields, damaged, or nothing of the kind."""
    bodies: list[bytes] = []
    for _ in range(draws.randint(1, most)):
        draws.wild = draws.choice((0.0, 0.02, 0.1, 0.5))
        body = draws.message(kind, fill=draws.choice((0.3, 0.6, 0.9))).SerializeToString()
        match draws.randrange(20):
            case 0:
                body = draws.randbytes(draws.choice((0, 1, 7, 64, 400)))
            case 1 | 2 | 3 | 4 | 5:
                body = draws.damaged(body, bodies[-1] if bodies else body)
            case 6 if draws.maybe(0.2):
                body = nested(draws.randrange(1, 16), draws.choice((10, 99, 101, 3000)))
            case 7 if draws.maybe(0.05):
                body = body * draws.choice((2, 30, 300))
            case _:
                pass
        bodies.append(body)
    if issubclass(kind, ImportRequest) and draws.maybe(0.7):
        bodies[0] = _header(draws)
    return bodies


def _header(draws: Draws) -> bytes:
    request = ImportRequest()
    request.header.CopyFrom(draws.message(type(request.header), fill=0.5))
    request.header.format = draws.choice((1, 2))
    return request.SerializeToString()


async def _call(app: App, method: Method, bodies: list[bytes], draws: Draws) -> str:
    """How it ended; raises what must not happen."""
    requests: list[Any] = []
    for body in bodies:
        try:
            requests.append(method.request.FromString(body))
        except DecodeError:
            # gRPC itself refuses these.
            return "no message"
    if any(getattr(request, "space", "") == fuzz_world.KEPT for request in requests):
        return "left out"
    before = app.store.database.read(change_seq)
    try:
        if method.takes_stream:
            return _answered(method, await method.function(_stream(requests)), draws)
        contract.fill(requests[0])
        contract.check(requests[0])
        if method.gives_stream:
            return await _watched(method.function(requests[0]))
        return _answered(method, await method.function(requests[0]), draws)
    except DreamsvcError as error:
        _require_tellable(error)
        if not method.takes_stream and app.store.database.read(change_seq) != before:
            raise Broken("a call was refused and has changed something") from error
        return error_reason_pb2.ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_").lower()


async def _stream(requests: list[Any]) -> AsyncIterator[Any]:
    for request in requests:
        yield request


async def _watched(messages: Any) -> str:
    """The first messages of a stream, which may have none for now."""
    try:
        for _ in range(3):
            message = await asyncio.wait_for(anext(messages, None), SELDOM_S)
            if message is None:
                return "streamed"
            message.SerializeToString()
    except TimeoutError:
        return "silent"
    finally:
        await messages.aclose()
    return "streamed"


def _answered(method: Method, answer: Message, draws: Draws) -> str:
    answer.SerializeToString()
    if isinstance(answer, RecallResponse):
        draws.pools["recall_id"][:] = [answer.recall_id, "", "x"]  # pyright: ignore
    return "answered"


def _require_tellable(error: DreamsvcError) -> None:
    """It is one of the catalogue, and small enough to reach whoever called."""
    if error.reason in (error_reason_pb2.ERROR_REASON_INTERNAL, error_reason_pb2.ERROR_REASON_STORE_CORRUPT):
        raise Broken(f"a call was refused with {error_reason_pb2.ErrorReason.Name(error.reason)}") from error
    status = statuses.of(error, "0" * 32)
    # The text goes along twice, once percent-encoded.
    if status.ByteSize() * 4 / 3 + 3 * len(status.message.encode()) > MOST_METADATA:
        raise Broken(f"a refusal takes {status.ByteSize()} bytes") from error
