"""Servers that are there to be killed: forked in a moment, ended in any."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import grpc

from benchmarks.harness import ROOT
from benchmarks.proof import crash_zygote
from dreamsvc.v1.dream_service_pb2_grpc import DreamServiceStub
from dreamsvc.v1.memory_service_pb2_grpc import MemoryServiceStub

PATIENCE_S = 30.0
# Ports come again: a channel must not wait because an earlier one could not connect there.
CHANNEL_OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
type Tables = dict[str, Any]


class ServerHangs(Exception):
    """A server neither serves nor ends."""


class Servers:
    """Forks servers on one store, one after the other."""

    def __init__(self, directory: Path, settings: Tables, *, sabotage: str = "") -> None:
        """directory: for the store, the log and everything else. sabotage: MODULE:FUNCTION, called first."""
        self.store = directory / "memory.db"
        self.log = directory / "server.log"
        self._settings = directory / "dreamsvc.toml"
        self._settings.write_text(_toml(settings | {"store": {"path": str(self.store)}}), encoding="utf-8")
        self._aside = directory / "tmp"
        self._aside.mkdir(exist_ok=True)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {
            # As `dreamsvc serve` sets them, before the imports.
            "GRPC_ENABLE_FORK_SUPPORT": "0",
            "OPENBLAS_NUM_THREADS": "1",
            # What a killed server leaves behind has to go with the store.
            "TMPDIR": str(self._aside),
        }
        command = [sys.executable, "-m", "benchmarks.proof.crash_zygote", str(theirs.fileno())]
        self._zygote = subprocess.Popen(
            [*command, sabotage] if sabotage else command,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env=os.environ | environment,
            cwd=ROOT,
        )
        theirs.close()
        self._link = ours

    def start(self) -> "Server":
        """A server that has just been forked; it is not serving yet."""
        read, write = os.pipe()
        place = self.log.stat().st_size if self.log.exists() else 0
        try:
            return Server(*self._fork(write, crash_zygote.SERVE, str(self._settings)), read, self.log, place)
        finally:
            os.close(write)

    def back_up(self, target: Path) -> "Forked":
        """A process that makes a backup, as `dreamsvc backup` does."""
        return Forked(*self._fork(None, crash_zygote.BACK_UP, str(self.store), str(target)))

    def _fork(self, said: int | None, *order: str) -> tuple[int, int, socket.socket]:
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            socket.send_fds(self._link, [json.dumps(order).encode()], [log if said is None else said, log])
        finally:
            os.close(log)
        pid, handles, _, _ = socket.recv_fds(self._link, crash_zygote.MOST_BYTES, 1)
        if not pid:
            raise ServerHangs("the process that forks servers has ended")
        return int(pid), handles[0], self._link

    def left_over(self) -> list[str]:
        """Dreamers that are there although all servers are gone."""
        until_s = time.monotonic() + PATIENCE_S
        while dreamers := processes(lambda _, command: f"{self._aside}/" in command):
            if time.monotonic() > until_s:
                return [f"the server is gone and its dreamers are not: {dreamers}"]
            time.sleep(0.05)
        return []

    def errors(self) -> list[str]:
        """What no server should have logged."""
        said = self.log.read_text(encoding="utf-8", errors="replace")
        place = said.find("Traceback")
        return [f"an error in the log: {said[max(0, place - 300) : place + 1500]}"] if place >= 0 else []

    def close(self) -> None:
        self._link.close()
        self._zygote.wait(PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Forked:
    """A process, from its fork to its burial."""

    def __init__(self, pid: int, handle: int, link: socket.socket) -> None:
        self.pid = pid
        self._handle = handle
        self._link = link
        self._exit_code: int | None = None

    def kill(self) -> None:
        """At once, and waits until it is gone; nothing where it is gone already."""
        if self._exit_code is not None:
            return
        self.send(signal.SIGKILL)
        self.exit_code()

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)

    def ended(self, within_s: float) -> bool:
        """Whether it is gone, or is within some time."""
        return self._exit_code is not None or bool(select.select([self._handle], [], [], within_s)[0])

    def exit_code(self) -> int:
        """Once it has ended; the signal that ended it is negative. Raises ServerHangs."""
        if self._exit_code is None:
            if not self.ended(PATIENCE_S):
                raise ServerHangs(f"process {self.pid} does not end")
            self._link.send(json.dumps([crash_zygote.BURY, str(self.pid)]).encode())
            self._exit_code = int(self._link.recv(crash_zygote.MOST_BYTES))
            self._release()
        return self._exit_code

    def _release(self) -> None:
        os.close(self._handle)


class Server(Forked):
    """One that serves, once it says so."""

    def __init__(self, pid: int, handle: int, link: socket.socket, said: int, log: Path, place: int) -> None:
        super().__init__(pid, handle, link)
        self._said = said
        self._log = log
        self._place = place

    def port(self) -> int | None:
        """Where it serves, once it does; None where it ended instead."""
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self._said], [], [], PATIENCE_S)[0]:
                raise ServerHangs(f"it does not serve after {PATIENCE_S:.0f} s; {self.tail()}")
            read = os.read(self._said, 200)
            if not read:
                return None
            line += read
        return int(line.rpartition(b":")[2])

    def logged(self) -> str:
        """What it has logged until now."""
        with self._log.open("rb") as log:
            log.seek(self._place)
            return log.read().decode(errors="replace")

    def tail(self) -> str:
        return f"its log ends with: {self.logged()[-1500:]}"

    def _release(self) -> None:
        super()._release()
        os.close(self._said)


class Calls:
    """A caller of a server."""

    def __init__(self, port: int) -> None:
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS)
        self.dreams = DreamServiceStub(self._channel)
        self.memories = MemoryServiceStub(self._channel)

    def close(self) -> None:
        self._channel.close()


def processes(wanted: Callable[[int, str], bool]) -> list[int]:
    """Which of all living processes are wanted, by their parent and their command line."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if state != "Z" and wanted(int(parent), command):
                    found.append(int(entry.name))
    return found


def _toml(tables: Tables, path: str = "") -> str:
    here = [f"{key} = {json.dumps(value)}" for key, value in tables.items() if not isinstance(value, dict)]
    text = f"[{path}]\n" * bool(here and path) + "\n".join(here) + "\n"
    for key, value in tables.items():
        if isinstance(value, dict):
            text += _toml(value, f"{path}.{key}".strip("."))
    return text
