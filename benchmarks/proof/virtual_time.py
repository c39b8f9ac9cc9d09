"""Time that jumps: an event loop, a thread pool and a store's writer in one thread, for the simulation.

Nothing here waits. Where an event loop would sleep until its next timer, its clock is moved there. What a thread would
do is done at a moment that a seed chooses, whole, by the one thread there is. So a run depends on its seed alone.
"""

import asyncio
import contextlib
import math
import os
from collections.abc import Callable, Generator
from concurrent.futures import Future
from pathlib import Path
from random import Random
from typing import Any, Protocol
from unittest.mock import patch

import apsw

from dreamsvc.clock import Clock, Micros
from dreamsvc.errors import StoreUnavailable
from dreamsvc.memory.database import MOST_JOINED, Database, Priority, _Job
from dreamsvc.memory.sqlite import Connection

BEGINNING_US = 1_700_000_000_123_456
# More steps than this between two timers are a loop that spins.
MOST_STEPS_AT_ONCE = 20_000
# After a failed write, until the writer looks whether it can write again.
REST_S = 1.0


class VirtualClock(Clock):
    """Seconds that somebody moves; the wall clock goes along, but it can be put to another time."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self._offset_us = BEGINNING_US
        self._asleep_s = 0.0
        # No simulation lasts longer.
        self.end_s = math.inf

    def now_us(self) -> Micros:
        return Micros(int(self.now_s * 1e6) + self._offset_us)

    def monotonic(self) -> float:
        return self.now_s

    def asleep(self) -> float:
        return self._asleep_s

    @property
    def passed_s(self) -> float:
        """Seconds that have passed, whatever the clocks of the machine say."""
        return self.now_s + self._asleep_s

    def put_wall(self, seconds: float) -> None:
        """Somebody puts the wall clock forward, or back where negative."""
        self._offset_us += int(seconds * 1e6)

    def sleep(self, seconds: float, *, counted: bool) -> None:
        """The machine sleeps. counted: the monotonic clock goes on meanwhile, as on some systems; timers are late."""
        if counted:
            self.now_s += seconds
        else:
            self._asleep_s += seconds
            self.put_wall(seconds)


class Moments(Protocol):
    """What decides when things happen, and is told that they do."""

    def thread_delay_s(self) -> float: ...
    def write_delay_s(self) -> float: ...
    def point(self) -> None:
        """Something happened; the process may end here."""
        ...

    def meanwhile(self) -> None:
        """A thread waits: others may do something."""
        ...

    def wrong(self, what: str) -> None: ...

    # How writes fail now: at "BEGIN", "SAVEPOINT" or "COMMIT"; '' where they do not.
    failing: str


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop whose time is a VirtualClock's; raises RuntimeError where all wait for what never comes."""

    def __init__(self, clock: VirtualClock, moments: Moments, *, at_once: Callable[[Any], bool]) -> None:
        """at_once: whether an executor has a thread to spare at any time."""
        super().__init__()
        self._clock = clock
        self._moments = moments
        self._at_once = at_once
        self._selector = self
        self._clock_resolution = 1e-9
        self._steps = 0

    def time(self) -> float:
        return self._clock.now_s

    def select(self, timeout: float | None) -> list[Any]:
        """Moves the clock to the next timer, where nothing is ready before."""
        if timeout is None:
            raise RuntimeError("everybody waits, and nothing will ever happen")
        if timeout > 0:
            self._steps = 0
            self._clock.now_s = max(self._clock.now_s, self._scheduled[0]._when)
        if self._clock.now_s > self._clock.end_s:
            raise RuntimeError("somebody waits for what never comes")
        self._steps += 1
        if self._steps > MOST_STEPS_AT_ONCE:
            raise RuntimeError("the loop spins: time stands still")
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":
        """Runs it as one step later on, and gives the result later still; as a thread does, also for who has gone."""
        answer = self.create_future()
        at_once = self._at_once(executor)

        def work() -> None:
            self._moments.point()
            try:
                result, error = func(*args), None
            except Exception as raised:
                result, error = None, raised
            self._moments.point()
            if at_once:
                tell(result, error)
            else:
                self.call_later(self._moments.thread_delay_s(), tell, result, error)

        def tell(result: Any, error: Exception | None) -> None:
            if answer.cancelled():
                return
            if error is None:
                answer.set_result(result)
            else:
                answer.set_exception(error)

        self.call_later(0.0 if at_once else self._moments.thread_delay_s(), work)
        return answer


class _Awaited[T](Future[T]):
    """Whoever waits for it in a thread has the writer work until it is done."""

    database: "VirtualDatabase"

    def result(self, timeout: float | None = None) -> T:
        self.database.work_until(self)
        return super().result(0)


class VirtualDatabase(Database):
    """A database whose queue is worked off step by step, at moments that somebody else chooses."""

    def __init__(self, path: Path, moments: Moments, *, create: bool = True) -> None:
        self._moments = moments
        self._loop: asyncio.AbstractEventLoop | None = None
        self._due: asyncio.TimerHandle | None = None
        # Hears in the order of the commits what comes of the next write by a user.
        self.listener: Callable[[Future[Any]], None] | None = None
        super().__init__(path, create=create)
        self._writer: Any = _Disk(self._writer, moments)

    def work_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """From here on the steps are timers of a loop."""
        self._loop = loop

    @property
    def due_s(self) -> float:
        """When the next step comes; what a user has queued is in it."""
        return self._due.when() if self._due is not None else 0.0

    def _begin_work(self) -> None:
        pass

    def _end_work(self) -> None:
        while any(self._waiting):
            self._step()

    def write[T](
        self,
        run: Callable[[Connection], T],
        *,
        committed: Callable[[T], None] | None = None,
        priority: Priority = Priority.USER,
    ) -> Future[T]:
        future = _Awaited[T]()
        future.database = self
        if self.listener is not None and priority == Priority.USER:
            future.add_done_callback(self.listener)
            self.listener = None
        if self._closing:
            future.set_exception(StoreUnavailable("the store is closed"))
            return future
        self._waiting[priority].append(_Job(run, committed, future))
        self._schedule()
        return future

    def _schedule(self) -> None:
        if self._loop is not None and self._due is None and any(self._waiting) and not self._loop.is_closed():
            self._due = self._loop.call_later(self._moments.write_delay_s(), self._when_due)

    def _when_due(self) -> None:
        self._due = None
        if any(self._waiting):
            self._step()
        self._schedule()
        if self._due is None and self.trouble and self._loop is not None:
            self._loop.call_later(REST_S, self._rest_if_quiet)

    def _rest_if_quiet(self) -> None:
        if self._due is None and not self._closing:
            self._rest()

    def _step(self) -> None:
        self._moments.point()
        waiting = len(self._waiting[Priority.USER])
        jobs = self._take()
        if waiting and (
            len(jobs) != min(waiting, MOST_JOINED) or len(self._waiting[Priority.USER]) != waiting - len(jobs)
        ):
            self._moments.wrong("a user's write waited behind another")
        self._commit(jobs)
        self._moments.point()

    def work_until(self, future: Future[Any]) -> None:
        self._moments.meanwhile()
        while not future.done():
            self._step()

    @contextlib.contextmanager
    def moment(self) -> Generator[Connection]:
        self._moments.meanwhile()
        with super().moment() as connection:
            yield connection

    def abandon(self) -> None:
        """Lets go of the files as the end of a process does: nothing is finished, nothing is moved."""
        self._closing = True
        connections: list[Any] = [*self._readers, self._writer]
        for connection in connections:
            with contextlib.suppress(apsw.Error):
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self._readers.close()
        with contextlib.suppress(apsw.Error):
            self._writer.close()
        os.close(self._lock_file)


class _Disk:
    """The writer's connection, on a disk that may be full."""

    def __init__(self, connection: Any, moments: Moments) -> None:
        self._connection = connection
        self._moments = moments

    def execute(self, statements: str, bindings: Any = None) -> Any:
        if self._moments.failing and statements.startswith(self._moments.failing):
            raise apsw.FullError("database or disk is full")
        return self._connection.execute(statements, bindings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class _Draws:
    """Stands for the system's randomness."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def randbits(self, count: int) -> int:
        return self._random.getrandbits(count)

    def token_hex(self, count: int) -> str:
        return self._random.randbytes(count).hex()


@contextlib.contextmanager
def simulated(clock: VirtualClock, random: Random, moments: Moments, tick_s: float) -> Generator[None]:
    """Clock, randomness and the store's writer are the simulation's own; everything else is as it always is."""
    with (
        patch("dreamsvc.clock.precise_s", clock.monotonic),
        patch("dreamsvc.entropy.secrets", _Draws(random)),
        patch("dreamsvc.memory.store.Database", lambda path: VirtualDatabase(path, moments)),
        patch("dreamsvc.dream.choosing.TICK_S", tick_s),
        patch("dreamsvc.server.memory_service.TOUCH_EVERY_S", tick_s),
    ):
        yield
