"""Services to test against: one in a thread of this process, one as a process of its own, and callers of both."""

import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Self

import grpc
from dreamsvc_client.errors import DreamsvcCallError, from_rpc_error

from dreamsvc import config
from dreamsvc.app import App
from dreamsvc.config_sources import Read, Sources
from dreamsvc.memory import sqlite
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.admin_pb2 import ConfigReload
from dreamsvc.v1.admin_service_pb2 import ReloadConfigRequest
from dreamsvc.v1.admin_service_pb2_grpc import AdminServiceStub
from dreamsvc.v1.dream_pb2 import Dream, SleepState
from dreamsvc.v1.dream_service_pb2 import (
    AbortRequest,
    AbortResponse,
    GetDreamRequest,
    GetStatusRequest,
    GetStatusResponse,
    StreamStatusRequest,
    StreamStatusResponse,
    TriggerRequest,
    TriggerResponse,
)
from dreamsvc.v1.dream_service_pb2_grpc import DreamServiceStub
from dreamsvc.v1.memory_pb2 import Edge, Memory
from dreamsvc.v1.memory_service_pb2 import ExportRequest, RecallRequest, RecallResponse, RememberRequest
from dreamsvc.v1.memory_service_pb2_grpc import MemoryServiceStub

PATIENCE_S = 30.0
type Tables = dict[str, Any]


def merged(one: Tables, other: Tables) -> Tables:
    found = dict(one)
    for key, value in other.items():
        found[key] = merged(found.get(key, {}), value) if isinstance(value, dict) else value
    return found


BASE: Tables = {
    "dream": {
        "max_parallel": 2,
        "trigger": {"automatic": False},
        "nrem": {"pace": "fill", "batch_size": 16, "max_replay_count": 256, "duration_minutes": 1.0},
        # So much that a dreamer is not held while it starts, which is seconds of each test.
        "resources": {"checkpoint_seconds": 0.1, "wake_latency_ms": 500.0, "max_gpu_usage": 0.6},
    },
    "embedder": {"kind": "none"},
    "server": {"port": 0, "heartbeat_seconds": 0.2, "grace_seconds": 1.0},
}
CONVERGE: Tables = {"dream": {"nrem": {"pace": "converge"}}}
# Ends by itself after about two seconds, with the same journal every time.
SLOWLY: Tables = {
    "dream": {
        "nrem": {"pace": "converge", "batch_size": 1, "src_steps": 1000},
        "resources": {"checkpoint_seconds": 0.05},
    }
}


def a_memory(nodes: int = 200, degree: int = 4, seed: int = 1) -> RememberRequest:
    """A graph of memories, drawn from a seed."""
    draw = random.Random(seed)
    return RememberRequest(
        memories=[
            Memory(key=f"k{i}", text=f"memory number {i}", importance=0.3 + 0.7 * draw.random()) for i in range(nodes)
        ],
        edges=[
            Edge(source=f"k{i}", target=f"k{(i + step) % nodes}", weight=0.06 + 0.9 * draw.random())
            for i in range(nodes)
            for step in draw.sample(range(1, nodes), degree)
        ],
    )


def until[T](ask: Callable[[], T | None], within_s: float = PATIENCE_S) -> T:
    """What `ask` gives as soon as it gives something true."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if found := ask():
            return found
        time.sleep(0.005)
    raise AssertionError("it never came")


class Calls:
    """A caller; failed calls raise DreamsvcCallError."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.address = f"{host}:{port}"
        self.channel = grpc.insecure_channel(self.address, options=[("grpc.max_receive_message_length", -1)])
        self.dreams = DreamServiceStub(self.channel)
        self.memories = MemoryServiceStub(self.channel)
        self.admin = AdminServiceStub(self.channel)

    def close(self) -> None:
        self.channel.close()

    def remember(self, space: str, request: RememberRequest | None = None) -> None:
        request = request or a_memory()
        request.space = space
        self.call(self.memories.Remember, request)

    def trigger(self, space: str, *, budget_s: float = 30.0, **fields: Any) -> TriggerResponse:
        # NREM where a test does not care: what has no text has no REM.
        request = TriggerRequest(**{"space": space, "phase": dream_pb2.DREAM_PHASE_NREM, **fields})
        request.budget.FromMilliseconds(int(budget_s * 1000))
        return self.call(self.dreams.Trigger, request)

    def abort(self, space: str, **fields: Any) -> AbortResponse:
        return self.call(self.dreams.Abort, AbortRequest(space=space, **fields))

    def dream(self, space: str, dream_id: str) -> Dream:
        return self.call(self.dreams.GetDream, GetDreamRequest(space=space, dream_id=dream_id)).dream

    def status(self, space: str) -> GetStatusResponse:
        return self.call(self.dreams.GetStatus, GetStatusRequest(space=space))

    def recall(self, space: str, text: str = "memory number 7") -> RecallResponse:
        return self.call(self.memories.Recall, RecallRequest(space=space, text=text))

    def watch(self, space: str, dream_id: str = "", after: int = 0) -> Iterator[StreamStatusResponse]:
        request = StreamStatusRequest(space=space, dream_id=dream_id, after_sequence=after)
        return iter(self.dreams.StreamStatus(request, timeout=PATIENCE_S))

    def export(self, space: str) -> tuple[list[dict[str, Any]], str]:
        """The lines, and the digest."""
        parts = list(self.memories.Export(ExportRequest(space=space)))
        lines = b"".join(part.chunk for part in parts).decode().splitlines()
        return [json.loads(line) for line in lines], parts[-1].summary.digest

    def weights(self, space: str) -> dict[tuple[str, str], float]:
        lines, _ = self.export(space)
        return {(line["source"], line["target"]): line["weight"] for line in lines if "source" in line}

    def until_state(self, space: str, state: SleepState.ValueType) -> None:
        until(lambda: self.status(space).sleep_state == state)

    def ended(self, space: str, dream_id: str) -> Dream:
        """The dream once it is over, by its stream."""
        last = list(self.watch(space, dream_id))[-1]
        assert last.HasField("closing")
        return last.dream

    @staticmethod
    def call(method: Callable[..., Any], request: Any, timeout_s: float = PATIENCE_S) -> Any:
        try:
            return method(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error


class InThread:
    """A whole service in a thread of this process: tests can look into it."""

    def __init__(self, store: Path | str, *changes: Tables) -> None:
        self._tables = merged(BASE, {"store": {"path": str(store)}})
        for change in changes:
            self._tables = merged(self._tables, change)
        self.app = self._put_together()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = self.run(self.app.start())
        self.calls = Calls(self.port)

    def _put_together(self) -> App:
        return App(config.parse(self._tables))

    def run[T](self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.calls.close()
        self.run(self.app.stop())
        self.run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()


class Configured(InThread):
    """The same, with its configuration in a file that can be changed while it runs."""

    def __init__(self, store: Path, *changes: Tables, **sources: Any) -> None:
        """sources: environment and options, as `Sources` takes them."""
        self.file = store.with_suffix(".toml")
        self._others = sources
        super().__init__(store, *changes)

    def _put_together(self) -> App:
        self.write()
        sources = Sources(self.file, **self._others)
        read: Read = sources.read()
        return App(read.config, sources=sources, read=read)

    def write(self, *changes: Tables) -> None:
        """Writes what it began with, changed, and tells nobody."""
        tables = self._tables
        for change in changes:
            tables = merged(tables, change)
        self.file.write_text(as_toml(tables))

    def change(self, *changes: Tables) -> ConfigReload:
        """Writes the file and has it read, in the moment that this returns."""
        self.write(*changes)
        return self.calls.call(self.calls.admin.ReloadConfig, ReloadConfigRequest()).reload


class AsProcess:
    """`dreamsvc serve` as its users start it."""

    def __init__(self, store: Path, *changes: Tables) -> None:
        tables = BASE
        for change in changes:
            tables = merged(tables, change)
        settings = store.with_suffix(".toml")
        settings.write_text(as_toml(tables))
        # A file: a pipe that nobody reads is full after 64 KB, and the service would stand.
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dreamsvc", "serve", "--store", str(store), "--config", str(settings)],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        if not self.said.startswith("dreamsvc listening on 127.0.0.1:"):
            with self._log:
                self.process.communicate(timeout=PATIENCE_S)
                raise AssertionError(self.said + self._logged())
        self.calls = Calls(int(self.said.rpartition(":")[2]))
        self._store = store

    def in_mid_dream(self, **fields: Any) -> Dream:
        """A dream of SLOWLY that goes on, once a checkpoint from the middle of it is on the disk."""
        self.calls.trigger("default", seed=9, **fields)
        return until(lambda: found if 20 < (found := self._last_kept()).report.nodes_replayed < 150 else None)

    def _last_kept(self) -> Dream:
        """What is written down of the last dream, in one commit with its checkpoint."""
        with contextlib.closing(sqlite.open_read_only(self._store)) as connection:
            ((body,),) = connection.execute("SELECT body FROM dreams ORDER BY change DESC LIMIT 1").fetchall()
        return Dream.FromString(body)

    def dreamer_pid(self) -> int:
        """The process that dreams, found as its child."""
        return until(lambda: next(iter(dreamers_of(self.process.pid)), None))

    def end(self, number: int = signal.SIGTERM) -> str:
        """Sends a signal and gives what it said on standard error."""
        self.calls.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.communicate(timeout=PATIENCE_S)
        return self._logged()

    def _logged(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGKILL)
        self._log.close()


def dreamers_of(parent: int) -> list[int]:
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        state, ppid = stat.rpartition(")")[2].split()[:2]
        if int(ppid) == parent and state != "Z" and b"dreamer" in command:
            found.append(int(entry.name))
    return found


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def as_toml(tables: Tables, path: str = "") -> str:
    here = [f"{key} = {json.dumps(value)}" for key, value in tables.items() if not isinstance(value, dict)]
    text = f"[{path}]\n" * bool(here and path) + "\n".join(here) + "\n"
    for key, value in tables.items():
        if isinstance(value, dict):
            text += as_toml(value, f"{path}.{key}".strip("."))
    return text


def refused(call: Callable[[], object]) -> DreamsvcCallError:
    """The error of a call that must fail."""
    try:
        call()
    except DreamsvcCallError as error:
        return error
    raise AssertionError("it was not refused")
