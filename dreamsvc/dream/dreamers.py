"""Dreamer processes: started when a dream is due, reused while warm, killed when they do not answer."""

import asyncio
import contextlib
import logging
import os
import shutil
import sys
import tempfile
from collections import deque
from pathlib import Path

import grpc
import grpc.aio

from dreamsvc.config import InForce
from dreamsvc.dream.governor import Governor, Starting
from dreamsvc.dream.meters import MB, Meter, ProcessMeter
from dreamsvc.dreamer.v1.dreamer_service_pb2_grpc import DreamerServiceStub
from dreamsvc.errors import DreamFailed
from dreamsvc.telemetry import logs
from dreamsvc.v1 import error_reason_pb2
from dreamsvc.v1.config_pb2 import ResourcesConfig

logger = logging.getLogger(__name__)
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # The socket is there a moment after the process; gRPC's own pause before a second try is a whole second.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
]
LAST_LINES = 20
# Of the GPU's memory, what JAX takes at most.
GPU_MEMORY = "XLA_PYTHON_CLIENT_MEM_FRACTION"
KILL_WAIT_S = 5.0


class DreamerProcess:
    """One process and the channel to it."""

    def __init__(self, process: asyncio.subprocess.Process, socket: Path) -> None:
        self._process = process
        self._channel = grpc.aio.insecure_channel(f"unix:{socket}", options=CHANNEL_OPTIONS)
        self.stub = DreamerServiceStub(self._channel)
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._reading = asyncio.create_task(self._read_lines())
        self._killed = False
        self._meter: Meter | None = None
        # True once it has been kept for another dream.
        self.was_warm = False

    @property
    def alive(self) -> bool:
        """False from the moment it is killed, which is a moment before it is gone."""
        return self._process.returncode is None and not self._killed

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def meter(self) -> Meter | None:
        if self._meter is None:
            self._meter = ProcessMeter(self._process.pid)
        return self._meter

    async def ready(self) -> None:
        """Waits for the channel; raises DreamFailed if the process ends instead."""
        connected = asyncio.ensure_future(self._channel.channel_ready())
        ended = asyncio.ensure_future(self._process.wait())
        try:
            await asyncio.wait({connected, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not connected.done():
                raise DreamFailed(
                    error_reason_pb2.ERROR_REASON_DREAM_RESOURCE, f"the dreamer did not start: {self.how_it_ended()}"
                )
        finally:
            connected.cancel()
            ended.cancel()

    def kill(self) -> None:
        """Ends the process at once; it holds nothing durable."""
        self._killed = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def gone(self) -> None:
        """Waits until the process is reaped, and frees the channel."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), KILL_WAIT_S)
        await self._channel.close()
        self._reading.cancel()

    async def settle(self) -> None:
        """Gives a process that just broke a moment to be reaped, so that how it ended is known."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), 1.0)

    def how_it_ended(self) -> str:
        code = self._process.returncode
        how = "it runs" if code is None else f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        return f"{how}; last words: {' | '.join(self._lines)[-500:]}" if self._lines else how

    async def _read_lines(self) -> None:
        stream = self._process.stderr
        assert stream is not None
        while True:
            try:
                line = await stream.readline()
            except ValueError:
                # Longer than asyncio's buffer, and dropped with it. Reading has to go on, or the process would stand.
                continue
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            try:
                self._lines.append(logs.repeat(text))
            except ValueError:
                self._lines.append(text)
                logger.debug("dreamer %d: %s", self._process.pid, text)


class Dreamers:
    """Hands out dreamer processes and takes them back."""

    def __init__(self, config: InForce, governor: Governor) -> None:
        """governor: holds processes to their share from the moment they start."""
        self._config = config
        self._governor = governor
        # For the sockets; made with the first process, so that a service that never dreams leaves nothing behind.
        self._home: Path | None = None
        self._warm: list[tuple[DreamerProcess, asyncio.TimerHandle]] = []
        # Started for a dream that was woken before they were ready.
        self._unclaimed: list[asyncio.Task[DreamerProcess]] = []
        self._count = 0
        self._all: set[DreamerProcess] = set()
        # Why the last process that was wanted did not start; '' where it did, or none was wanted yet.
        self.trouble = ""
        self._reaping: set[asyncio.Task[None]] = set()

    @property
    def pids(self) -> list[int]:
        """Of processes that run."""
        return [process.pid for process in self._all if process.alive]

    async def lease(self, config: ResourcesConfig) -> DreamerProcess:
        """A process that is ready; raises DreamFailed. Cancelling leaves the start running, for the next lease."""
        while self._warm:
            process, timer = self._warm.pop()
            timer.cancel()
            if process.alive:
                return process
            self.discard(process)
        starting = self._unclaimed.pop() if self._unclaimed else asyncio.create_task(self._start(config))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            self._unclaimed.append(starting)
            starting.add_done_callback(lambda done: self._keep_unclaimed(done, config))
            raise

    def give_back(self, process: DreamerProcess, config: ResourcesConfig) -> None:
        """Keeps a process for the next dream, for as long as the configuration says."""
        if not process.alive or config.dreamer_idle_seconds <= 0:
            self.discard(process)
            return
        process.was_warm = True
        loop = asyncio.get_running_loop()
        timer = loop.call_later(config.dreamer_idle_seconds, self._expire, process)
        self._warm.append((process, timer))

    def _keep_unclaimed(self, starting: asyncio.Task[DreamerProcess], config: ResourcesConfig) -> None:
        """Makes a process warm that is ready after all, unless another dream waits for it by now."""
        if starting in self._unclaimed:
            self._unclaimed.remove(starting)
            if not starting.cancelled() and starting.exception() is None:
                self.give_back(starting.result(), config)

    def discard(self, process: DreamerProcess) -> None:
        process.kill()
        self._all.discard(process)
        task = asyncio.create_task(process.gone())
        self._reaping.add(task)
        task.add_done_callback(self._reaping.discard)

    async def close(self) -> None:
        """Ends all processes."""
        starting, self._unclaimed = self._unclaimed, []
        for task in starting:
            task.cancel()
        await asyncio.gather(*starting, return_exceptions=True)
        for _, timer in self._warm:
            timer.cancel()
        for process in list(self._all):
            self.discard(process)
        if self._reaping:
            await asyncio.wait(set(self._reaping))
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)

    def _expire(self, process: DreamerProcess) -> None:
        self._warm = [entry for entry in self._warm if entry[0] is not process]
        self.discard(process)

    async def _start(self, config: ResourcesConfig) -> DreamerProcess:
        try:
            process = await self._started(config.dreamer_start_seconds)
        except DreamFailed as error:
            self.trouble = error.message
            raise
        self.trouble = ""
        return process

    async def _started(self, within_s: float) -> DreamerProcess:
        try:
            process = await self._spawn()
        except OSError as error:
            raise DreamFailed(
                error_reason_pb2.ERROR_REASON_DREAM_RESOURCE, f"the dreamer could not be started: {error}"
            ) from error
        self._all.add(process)
        try:
            with self._governor.governing(Starting(), process.meter, was_warm=False):
                within_s = self._governor.within_s(within_s, process.meter)
                async with asyncio.timeout(within_s):
                    await process.ready()
        except TimeoutError as error:
            self.discard(process)
            raise DreamFailed(
                error_reason_pb2.ERROR_REASON_DREAM_RESOURCE, f"the dreamer was not ready within {within_s:g} s"
            ) from error
        except BaseException:
            self.discard(process)
            raise
        return process

    async def _spawn(self) -> DreamerProcess:
        self._count += 1
        if self._home is None:
            self._home = Path(tempfile.mkdtemp(prefix="dreamsvc-"))
        socket = self._home / f"{self._count}.sock"
        telemetry = self._config.telemetry
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "dreamsvc",
            "dreamer",
            "--socket",
            str(socket),
            "--log-level",
            telemetry.log_level,
            "--traces-endpoint",
            telemetry.traces_endpoint,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"GRPC_ENABLE_FORK_SUPPORT": "0"} | await self._of_gpu_memory(),
        )
        return DreamerProcess(child, socket)

    async def _of_gpu_memory(self) -> dict[str, str]:
        """What keeps a dreamer's part of the GPU's memory small; nothing where that is not known, or set already."""
        gpu = await asyncio.to_thread(self._governor.machine.gpu)
        total = gpu.memory_bytes if gpu is not None else None
        if not total or GPU_MEMORY in os.environ:
            return {}
        return {GPU_MEMORY: f"{min(1.0, self._config.dream.resources.max_gpu_memory_mb * MB / total):.6f}"}
