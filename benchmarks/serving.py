"""A server as a process of its own, from its start to its end."""

import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import grpc
from dreamsvc_client import DreamsvcCallError

from dreamsvc import clock

START_S, END_S = 60.0, 30.0
# Dreams start by request only; everything else is as it comes unless a benchmark says otherwise.
BY_REQUEST_ONLY = "[dream.trigger]\nautomatic = false\n"


class ServerFailed(Exception):
    """A server did not start, or did not end well; the message has the end of its log."""


class Server:
    """A process that says `... listening on HOST:PORT` on its standard output when it serves."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._log = log
        self.began_s = clock.precise_s()
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, *command], stdout=subprocess.PIPE, stderr=errors, text=True
            )
        said = self._process.stdout
        assert said is not None
        self._said = said
        limit = threading.Timer(START_S, self._process.kill)
        limit.start()
        line = said.readline()
        limit.cancel()
        self.listening_s = clock.precise_s()
        # Whatever else it says, it must not wait for us.
        self._reader = threading.Thread(target=said.read, daemon=True)
        self._reader.start()
        if " listening on " not in line:
            self.kill()
            raise ServerFailed(f"it did not start: {self._tail()}")
        self.target = line.split()[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """A call that failed is the server's failure; raises ServerFailed for it."""
        self.kill()
        if isinstance(error, DreamsvcCallError | grpc.RpcError):
            raise ServerFailed(f"{error}; its log ends with: {self._tail()}") from error

    def stop(self) -> None:
        """Ends it as an operating system does; raises ServerFailed if it does not end well."""
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            raise ServerFailed(f"it did not end on SIGTERM: {self._tail()}") from None
        if code:
            raise ServerFailed(f"it ended with {code}: {self._tail()}")

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join(END_S)
        self._said.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def resident_mb(self, pid: int | None = None) -> float:
        """Its resident memory in MB (10^6 bytes), without its children; or that of one of them, NaN where it ended."""
        try:
            return self._told("VmRSS", pid or self._process.pid) * 1024 / 1e6
        except (FileNotFoundError, ServerFailed):
            # One that has ended and is not buried yet has no memory to tell of.
            if pid is None:
                raise
            return float("nan")

    def threads(self) -> int:
        return self._told("Threads", self._process.pid)

    def handles(self) -> int:
        """Files and sockets that it has open."""
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def children(self) -> list[int]:
        """Its dreamers."""
        found = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text(encoding="ascii")
        return [int(pid) for pid in found.split()]

    def _told(self, name: str, pid: int) -> int:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
        raise ServerFailed(f"the {name} of process {pid} is not known: {self._tail()}")

    def cpu_s(self) -> float:
        """Processor time that all its threads have used."""
        nanoseconds = 0
        for task in Path(f"/proc/{self._process.pid}/task").iterdir():
            nanoseconds += int((task / "schedstat").read_text(encoding="ascii").split()[0])
        return nanoseconds / 1e9

    def _tail(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-2000:] or "(its log is empty)"


def dreamsvc_command(directory: Path, *, embedder: str = "none", config: str = BY_REQUEST_ONLY) -> list[str]:
    """`dreamsvc serve` with its store and its configuration in a directory."""
    file = directory / "dreamsvc.toml"
    file.write_text(config, encoding="utf-8")
    store = directory / "memory.db"
    where = ["--config", str(file), "--store", str(store), "--port", "0", "--embedder", embedder]
    return ["-m", "dreamsvc", "serve", *where]


@contextmanager
def serving(*, embedder: str = "none", config: str = BY_REQUEST_ONLY) -> Generator[Server]:
    """A running `dreamsvc serve` with an empty store; both are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="dreamsvc-bench-") as name:
        directory = Path(name)
        command = dreamsvc_command(directory, embedder=embedder, config=config)
        with Server(command, directory / "server.log") as server:
            yield server
            server.stop()
