"""Raw bytes over a real channel, into a server that is a process of its own: it lives, answers others meanwhile, tells
what it refuses, and does not grow."""

import shutil
import signal
import subprocess
import sys
from collections import deque
from typing import Any

import grpc
from google.protobuf import message_factory
from grpc_status import rpc_status

from benchmarks.proof import fuzz_world
from benchmarks.proof.fuzz_calls import MAX_BYTES, OFTEN, drawn
from benchmarks.proof.fuzz_draws import Draws
from benchmarks.proof.fuzz_watch import Broken, Watch, resident_mb
from benchmarks.proof.jumping_clock import JumpingClock
from benchmarks.proof.opened import Opened
from dreamsvc.memory.doctor import examine
from dreamsvc.server.grpc_server import ADMIN_SERVICE, DREAM_SERVICE, MEMORY_SERVICE
from dreamsvc.v1.dream_service_pb2 import GetStatusRequest
from dreamsvc.v1.dream_service_pb2_grpc import DreamServiceStub

# Calls under way at a time, and after how many the server is asked how it is.
AT_ONCE, CONTROL_EVERY = 8, 200
PATIENCE_S = 60.0
# A stream of a space that sleeps has nothing to say.
STREAM_S = 0.25
MOST_GROWN_MB = 400.0
SETTINGS = f"""
[dream]
enabled = false
[embedder]
kind = "none"
[server]
port = 0
max_message_bytes = {MAX_BYTES}
"""
# What gRPC says of too many bytes, before we see any.
OF_GRPC = ("Received message larger than max", "Decompressed message larger", "CANCELLED")


class ChannelTarget:
    name = "channel"
    size = 4000

    def __init__(self) -> None:
        self._world = fuzz_world.World()
        self._store = self._world.copy()
        opened = Opened(self._store, JumpingClock())
        self._pools = fuzz_world.pools(opened.store, opened.journal)
        self._kept = fuzz_world.digest(opened.store, fuzz_world.KEPT)
        opened.close()
        settings = self._store.with_suffix(".toml")
        settings.write_text(SETTINGS)
        self._log = open(f"{self._store}.log", "wb")  # noqa: SIM115 # as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dreamsvc", "serve", "--store", str(self._store), "--config", str(settings)],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        self._channel = grpc.insecure_channel(
            f"127.0.0.1:{said.rpartition(':')[2].strip()}",
            options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
        )
        self._control = DreamServiceStub(self._channel)
        self._methods = [
            (method, self._callable(service, method))
            for service in (DREAM_SERVICE, MEMORY_SERVICE, ADMIN_SERVICE)
            for method in service.methods
            for _ in range(OFTEN.get(method.name, 1))
        ]

    def _callable(self, service: Any, method: Any) -> Any:
        path = f"/{service.full_name}/{method.name}"
        if method.client_streaming:
            return self._channel.stream_unary(path, request_serializer=bytes, response_deserializer=bytes).future
        if method.server_streaming:
            return self._channel.unary_stream(path, request_serializer=bytes, response_deserializer=bytes)
        return self._channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes).future

    def close(self) -> None:
        self._channel.close()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(PATIENCE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()
        self._world.close()

    def batch(self, watch: Watch, cases: int) -> None:
        draws = Draws(f"channel {watch.seed}", dict(self._pools))
        at_first = resident_mb(self._process.pid)
        under_way: deque[tuple[str, list[bytes], Any]] = deque()
        while watch.cases < cases:
            method, call = draws.choice(self._methods)
            kind = message_factory.GetMessageClass(method.input_type)
            bodies = drawn(draws, kind, 3 if method.client_streaming else 1)
            if b"kept" not in b"".join(bodies):
                request = iter(bodies) if method.client_streaming else bodies[0]
                timeout = STREAM_S if method.name == "StreamStatus" else PATIENCE_S
                under_way.append((method.name, bodies, call(request, timeout=timeout)))
            if len(under_way) >= AT_ONCE:
                self._end(watch, *under_way.popleft())
        while under_way:
            self._end(watch, *under_way.popleft())
        with watch.case("afterwards"):
            grown = resident_mb(self._process.pid) - at_first
            if grown > MOST_GROWN_MB:
                raise Broken(f"the server has grown by {grown:.0f} MB")
            self._require_order()

    def _end(self, watch: Watch, name: str, bodies: list[bytes], call: Any) -> None:
        with watch.case(name, b"\0\0\0".join(bodies)):
            watch.ended(_ended(call, streams=name in ("StreamStatus", "Export")))
            if self._process.poll() is not None:
                raise Broken(f"the server ended with {self._process.returncode}")
        if watch.cases % CONTROL_EVERY == 0:
            with watch.case("control"):
                self._control.GetStatus(GetStatusRequest(), timeout=PATIENCE_S)

    def _require_order(self) -> None:
        """Ends the server and looks at what it left; what was nobody's is as it was."""
        wrong = [found.detail for found in examine(str(self._store)) if not found.ok]
        if wrong:
            raise Broken("; ".join(wrong))
        copy = self._world.home / "looked-at"
        shutil.rmtree(copy, ignore_errors=True)
        self._process.send_signal(signal.SIGSTOP)
        try:
            shutil.copytree(self._store.parent, copy)
        finally:
            self._process.send_signal(signal.SIGCONT)
        opened = Opened(copy / self._store.name, JumpingClock())
        try:
            fuzz_world.require_order(opened.store)
            if fuzz_world.digest(opened.store, fuzz_world.KEPT) != self._kept:
                raise Broken("calls about other spaces changed a space")
        finally:
            opened.abandon()


def _ended(call: Any, *, streams: bool) -> str:
    """How a call ended, in a word; raises where it does not say why."""
    try:
        if streams:
            for _ in call:
                pass
        else:
            call.result()
    except grpc.RpcError as error:
        found: Any = error
        code, said = found.code(), found.details() or ""
        if code == grpc.StatusCode.DEADLINE_EXCEEDED and streams:
            return "silent"
        status = rpc_status.from_call(found)
        if status is None:
            by_grpc = code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED)
            if not by_grpc or not any(words in said for words in OF_GRPC):
                raise Broken(f"{code.name} without a reason: {said[:200]}") from error
            return "no message"
        if code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS):
            raise Broken(f"{code.name}: {said[:300]}") from error
        return code.name.lower()
    return "answered"
