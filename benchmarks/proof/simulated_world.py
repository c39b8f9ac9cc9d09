"""A simulated world: the service with all its surroundings, for some days, by a seed (see `benchmarks/simulation.py`).

Scheduler, nights, records, store, journal and a real SQLite file run as they are. Simulated are time, threads, the
dreamer, the users, the disk, and the end of the process. Everything is drawn from one seed in one thread, so the same
seed gives the same world, to the last event: `trace` sums it up.
"""

import asyncio
import contextlib
import hashlib
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Coroutine, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.proof import simulated_checks as checks
from benchmarks.proof.scripted_dreamer import Played
from benchmarks.proof.simulated_chance import Chance
from benchmarks.proof.simulated_promises import Promises
from benchmarks.proof.simulated_rules import Rules
from benchmarks.proof.simulated_service import Service, Unexpected, image, loops
from benchmarks.proof.simulated_users import SPACES, Users
from benchmarks.proof.simulated_watching import Heard, Watched
from benchmarks.proof.virtual_time import VirtualClock, simulated
from dreamsvc.config import defaults
from dreamsvc.errors import DreamsvcError, ShuttingDown, StoreUnavailable
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.config_pb2 import Config
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import RejectDreamRequest, StreamStatusResponse

# Seconds between two looks for idle spaces, and how long such a world lasts at most.
PACES = ((1.0, 1800.0), (5.0, 4 * 3600.0), (60.0, 2 * 86_400.0), (300.0, 12 * 86_400.0))
# Until a service that was told to stop has stopped: the wake, the writing down, and the burial of dreamers.
STOP_S = 30.0
ENTERING = (dream_pb2.SLEEP_STATE_ENTERING_NREM, dream_pb2.SLEEP_STATE_TRANSITIONING)
# How long all of it may take beyond that, with the sleep of the machine.
MOST_BEYOND_S = 400_000.0
# A world ends before its days are over where so much has happened.
MOST_RUNS, MOST_NIGHTS = 8, 24


@dataclass
class Outcome:
    """What came of a seed."""

    seed: int
    trace: str
    wrong: list[str]
    count: Counter[str]
    simulated_s: float


class World(Chance):
    """One seed's world; `run` lives through it."""

    def __init__(self, seed: int, *, keep_lines: bool = False) -> None:
        super().__init__(seed)
        self.seed = seed
        self.clock = VirtualClock()
        self.promises = Promises(self.clock)
        self.count: Counter[str] = Counter()
        self.lines: list[str] | None = [] if keep_lines else None
        self.rules: Rules
        self.service: Service
        self.users = Users(self)
        self._tick_s, longest_s = self.random.choices(PACES, (3, 3, 3, 1))[0]
        self._lasts_s = self.random.uniform(longest_s / 4, longest_s)
        self.clock.end_s = self.clock.now_s + self._lasts_s + MOST_BEYOND_S + 1000 * self._tick_s
        self.longest_pause_s = longest_s / 10
        self._sum = hashlib.blake2b(digest_size=16)
        self._wrong: list[str] = []
        self._published: dict[str, list[int]] = {space: [] for space in SPACES}
        self._digests: dict[str, str] = {}
        self._troubled_until_s = -1.0
        self._crash_in = 0
        self._crashed = False
        self._calls: set[asyncio.Task[None]] = set()
        self._dreaming: dict[Played, str] = {}
        self._home = Path(tempfile.mkdtemp(prefix="dreamsvc-sim-", dir=_fast_place()))
        self._runs = 0

    # ── what moments and the stage ask ──────────────────────────────────────────

    def point(self) -> None:
        """The process may end here: what is on disk now is what the next one finds."""
        self.count["points"] += 1
        if self._crash_in and not self._crashed:
            self._crash_in -= 1
            if not self._crash_in:
                self._crashed = True
                self.count["crashes"] += 1
                self._runs += 1
                image(self._store(self._runs - 1), self._store(self._runs))
                self._ending.set()

    def meanwhile(self) -> None:
        # Not always: what is changed while a space dreams has it dream again.
        if not self.good and not self._crashed and self._serving and self.random.random() < 0.05:
            self.users.remember_now()

    def wrong(self, what: str) -> None:
        self.tell_wrong(what)

    def opened(self, start: Any, process: Played) -> None:
        """A dreamer was given a dream."""
        space = next((space for space, dream in self._dreams_by_space().items() if dream == start.dream_id), "")
        if not self._crashed and space in self._dreaming.values():
            self.tell_wrong(f'two dreamers dream of space "{space}" at a time')
        if not space and not self._crashed:
            self.tell_wrong(f"a dreamer was given dream {start.dream_id}, which does not run")
        self._dreaming[process] = space
        self.trace(f"dreamer {process.pid} dreams {start.dream_id} from part {start.staged_parts}")

    def closed(self, process: Played) -> None:
        self._dreaming.pop(process, None)

    def _dreams_by_space(self) -> dict[str, str]:
        return {name: one.dream.id for name, one in self.rules.spaces.items() if one.dream is not None}

    def completed(self, start: Any, digest: str) -> None:
        self._digests[start.dream_id] = digest

    # ── what is noted ───────────────────────────────────────────────────────────

    def trace(self, what: str) -> None:
        if self._crashed:
            return
        line = f"{self.clock.now_s:.6f} {what}"
        self._sum.update(line.encode())
        if self.lines is not None:
            self.lines.append(line)

    def tell_wrong(self, what: str) -> None:
        if not self._crashed:
            self.trace(f"WRONG: {what}")
            self._wrong.append(f"at {self.clock.now_s:.3f} s: {what}")

    def alive(self, service: Service) -> bool:
        """False once the process has ended: whatever still goes on here is nobody's."""
        return not self._crashed and service is self.service

    def was_in_trouble(self, error: DreamsvcError, since_s: float) -> bool:
        """Whether a refusal was to be expected since then."""
        if isinstance(error, ShuttingDown):
            return not self._serving
        unavailable = isinstance(error, StoreUnavailable)
        return unavailable and (bool(self.failing) or self._troubled_until_s >= since_s or not self._serving)

    def published(self, event: StreamStatusResponse) -> None:
        if self._crashed:
            return
        space = event.dream.space
        self.count["events"] += 1
        self.trace(f"{space} {event.WhichOneof('event')} {event.sleep_state} {event.dream.state} {event.dream.id}")
        if self._published[space] and event.sequence <= self._published[space][-1]:
            self.tell_wrong(f'event {event.sequence} of space "{space}" comes after {self._published[space][-1]}')
        self._published[space].append(event.sequence)
        self.rules.heard(event)
        dream = event.dream
        if event.sleep_state in ENTERING and self._serving and not self.good and self.random.random() < 0.5:
            self.users.visit()
        if event.HasField("closing"):
            self.count["nights"] += 1
            if self.count["nights"] == MOST_NIGHTS:
                self._ending.set()
            self.count[Dream.State.Name(dream.state)] += 1
            kept = dream.state in (Dream.STATE_SUCCEEDED, Dream.STATE_PROPOSED)
            if kept and dream.report.journal_digest != self._digests.get(dream.id):
                self.tell_wrong(f"dream {dream.id} has another journal than an uninterrupted one")

    def wrongs(self) -> list[str]:
        return [*self._wrong, *self.rules.wrong]

    def watched(self, space: str, after: int) -> Watched:
        watched = Watched(space, after, self._published[space])
        self._watchers.append(watched)
        return watched

    def in_state(self, state: int) -> list[Dream]:
        rows = self.service.rows("SELECT body FROM dreams WHERE state=? ORDER BY change", state)
        return [Dream.FromString(body) for (body,) in rows]

    def begin(self, act: Coroutine[Any, Any, None]) -> None:
        """Somebody does something, beside all else, while the service serves."""
        if not self._serving or self._crashed:
            act.close()
            return
        task = asyncio.create_task(act)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    # ── runs of the service ─────────────────────────────────────────────────────

    def run(self) -> Outcome:
        began_s = self.clock.now_s
        end_s = began_s + self._lasts_s
        with self.simulated():
            config = self.config()
            while self.clock.now_s < end_s and self._goes_on():
                config = config if self.random.random() < 0.5 else self.config()
                self.one_run(self._live(config, self.random.uniform(0, end_s - self.clock.now_s)))
                self._between_runs()
            if not self._wrong:
                self.one_run(self._last())
        return Outcome(self.seed, self._sum.hexdigest(), self._wrong, self.count, self.clock.now_s - began_s)

    @contextlib.contextmanager
    def simulated(self) -> Generator[None]:
        """Everything around the service is this world's; its files are gone afterwards."""
        logger = logging.getLogger("dreamsvc")
        unexpected = Unexpected(lambda what: self.tell_wrong(f"the service logs {what}"))
        level, propagates = logger.level, logger.propagate
        logger.setLevel(logging.ERROR)
        logger.propagate = False
        logger.addHandler(unexpected)
        try:
            with (
                simulated(self.clock, self.random, self, self._tick_s),
                patch("dreamsvc.dream.scheduler.Events", lambda clock, first: Heard(clock, first, self.published)),
                patch("dreamsvc.dream.watch.KEPT", 12),
            ):
                yield
        finally:
            logger.removeHandler(unexpected)
            logger.setLevel(level)
            logger.propagate = propagates
            shutil.rmtree(self._home, ignore_errors=True)

    def _goes_on(self) -> bool:
        return self.count["starts"] < MOST_RUNS and self.count["nights"] < MOST_NIGHTS and not self._wrong

    def one_run(self, life: Coroutine[Any, Any, None]) -> None:
        self._crashed, self._serving, self.failing, self.slow = False, False, "", False
        self._dreaming.clear()
        self._watchers: list[Watched] = []
        self._opened: Service | None = None
        try:
            with asyncio.Runner(loop_factory=loops(self.clock, self, lambda: self._opened)) as runner:
                self._loop = runner.get_loop()
                self._loop.set_exception_handler(self._went_wrong)
                runner.run(life)
                # What is left is nobody's.
                crashed, self._crashed = self._crashed, True
        except RuntimeError as error:
            crashed = self._crashed
            self.tell_wrong(str(error))
        self._crashed = False
        if self._opened is not None and (crashed or self._wrong):
            with contextlib.suppress(OSError):
                self._opened.database.abandon()
        if crashed:
            shutil.rmtree(self._store(self._runs - 1).parent)

    def _went_wrong(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # Tasks of a process that has ended may be collected at any time.
        if loop is self._loop:
            culprit = context.get("task") or context.get("future")
            self.tell_wrong(f"{context['message']}: {context.get('exception')!r} of {culprit!r}")

    def _between_runs(self) -> None:
        """The machine is off for a while, or its clock is set."""
        self.clock.now_s += self.random.choice((0.1, 5.0, 600.0))
        if self.random.random() < 0.15:
            self._put_wall(self.random.uniform(-2, 2) * 3600)

    def _put_wall(self, seconds: float) -> None:
        self.clock.put_wall(seconds)
        if seconds > 0:
            self.promises.clock_is_ahead()

    def _store(self, run: int) -> Path:
        return self._home / f"{run}" / "memory.db"

    def begin_run(self, config: Config) -> Service:
        """Opens the store and puts the service together; `start` is to follow."""
        self._ending = asyncio.Event()
        config.store.path = str(self._store(self._runs))
        self.promises.run_begins(config)
        self.rules = Rules(self.clock, config.dream, self._tick_s, getattr(self, "rules", None))
        self.service = self._opened = Service(config, self.clock, self)
        scheduler = self.service.scheduler
        trigger = scheduler.trigger

        async def tapped(request: Any, triggered_by: Any) -> Any:
            if triggered_by == dream_pb2.TRIGGERED_BY_REQUEST or self._crashed:
                return await trigger(request, triggered_by)
            self.count["by themselves"] += 1
            self.rules.asked(request.space)
            self.rules.triggers[request.space] += 1
            try:
                return await trigger(request, triggered_by)
            finally:
                self.rules.triggers[request.space] -= 1

        scheduler.trigger = tapped
        return self.service

    async def _live(self, config: Config, lasts_s: float) -> None:
        """One run of the service with users, until it is stopped or its process ends."""
        random = self.random
        self._crash_in = int(10 ** random.uniform(1, 3.7)) if random.random() < 0.7 else 0
        service = self.begin_run(config)
        self._started_s = self.clock.now_s
        await service.start()
        if self._crashed:
            return
        self._take_stock(service)
        self._serving = True
        beside = [asyncio.create_task(task) for task in (self.users.live(), self._watch_over(), self._trouble())]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), lasts_s)
        for task in beside:
            task.cancel()
        if not self._crashed:
            await self._stop(service)

    async def _stop(self, service: Service) -> None:
        self._serving = False
        began_s = self.clock.now_s
        # Whoever has just come is let in.
        await asyncio.sleep(0)
        await service.stop()
        if self.clock.now_s - began_s > STOP_S:
            self.tell_wrong(f"it took {self.clock.now_s - began_s:.1f} s to stop")
        if self._calls and not self._crashed:
            _, left = await asyncio.wait(set(self._calls), timeout=4 * STOP_S)
            if left:
                self.tell_wrong(f"{len(left)} calls never end")
        self._end_watching()
        self.count["stops"] += 1

    def _end_watching(self) -> None:
        for watched in self._watchers:
            if missed := watched.missed():
                self.tell_wrong(
                    f'a watcher of space "{watched.space}" was not told of {len(missed)} events: {missed[:3]}'
                )

    async def _watch_over(self) -> None:
        """Looks all the time whether what was told comes true."""
        while True:
            await asyncio.sleep(self._tick_s)
            wrong, self.rules.wrong = self.rules.wrong, []
            for what in wrong:
                self.tell_wrong(what)
            troubled = bool(self.failing) or self.slow or self.clock.now_s < self._troubled_until_s + 10
            for what in self.rules.late(troubled=troubled):
                self.tell_wrong(what)

    async def _trouble(self) -> None:
        """The disk is full for a while, or slow; the machine sleeps; its clock is set."""
        random = self.random
        while True:
            await asyncio.sleep(random.expovariate(3 / self._lasts_s) + 1)
            match random.choice(("disk", "disk", "slow", "wall", "sleep", "sleep counted")):
                case "disk":
                    self.failing = random.choice(("BEGIN IMMEDIATE", "SAVEPOINT", "COMMIT"))
                    await asyncio.sleep(random.choice((0.5, 5.0, 120.0, 1500.0)))
                    self.failing, self._troubled_until_s = "", self.clock.now_s
                case "slow":
                    self.slow = True
                    await asyncio.sleep(random.uniform(1, 300))
                    self.slow, self._troubled_until_s = False, self.clock.now_s
                case "wall":
                    self._put_wall(random.uniform(-2, 2) * 10 ** random.uniform(0, 5))
                case asleep:
                    self.clock.sleep(random.uniform(1, 36_000), counted=asleep == "sleep counted")
                    self.rules.jumped()

    # ── looking at it ───────────────────────────────────────────────────────────

    def _take_stock(self, service: Service) -> None:
        """What a start finds is what was promised, and nothing else."""
        for space, history in checks.histories(service).items():
            self.rules.found(space, history, self.clock.now_s - self._started_s)
        for what in self._at_rest(service):
            self.tell_wrong(f"after start {self.count['starts']}, {what}")
        self.count["starts"] += 1

    def _at_rest(self, service: Service) -> Iterator[str]:
        yield from self.promises.broken(service)
        yield from checks.of_dreams(service)
        yield from checks.of_snapshots(service)
        yield from checks.of_graphs(service)
        if self.good or not self.count["starts"] % 3:
            yield from checks.of_doctor(service)

    async def _last(self) -> None:
        """Nobody does anything any more, and all goes well: each space dreams of its news once; nothing is left."""
        self.good = True
        self._crash_in = 0
        config = defaults()
        config.dream.trigger.cooldown_minutes = 5
        config.dream.resources.dreamer_idle_seconds = 30
        service = self.begin_run(config)
        self._started_s = self.clock.now_s
        await service.start()
        self._take_stock(service)
        self._serving = True
        watch = asyncio.create_task(self._watch_over())
        for dream in self.in_state(Dream.STATE_PROPOSED):
            answer = await service.dreams.reject_dream(RejectDreamRequest(space=dream.space, dream_id=dream.id))
            self.rules.decided(dream.space, answer.dream)
        await asyncio.sleep(3600 + 8 * self._tick_s * len(SPACES))
        for space in service.store.space_names():
            told = self.rules.spaces[space]
            # An interrupted dream may have become a proposal.
            if told.dream is not None or (self.rules.has_news(told) and not told.proposed):
                self.tell_wrong(f'space "{space}" has news and never dreamt of it')
        for what in (*self._at_rest(service), *self._leaks(service)):
            self.tell_wrong(f"at the end, {what}")
        for space in service.store.space_names():
            *_, summary = service.store.export(space)
            self.trace(f"{space} {summary}")
        watch.cancel()
        await self._stop(service)
        if self._dreaming:
            self.tell_wrong("a dreamer dreams after the end")

    def _leaks(self, service: Service) -> Iterator[str]:
        scheduler = service.scheduler
        if scheduler._nights or scheduler._beginning or len(scheduler._tasks) != 1:
            yield f"the scheduler holds {len(scheduler._nights)} nights and {len(scheduler._tasks)} tasks"
        yield from service.dreamers.leaks(service.config.dream.resources)
        # This one, the look for idle spaces, touches, purge, and who watches over it.
        tasks = [task for task in asyncio.all_tasks() if not task.done()]
        if len(tasks) > 5:
            yield f"{len(tasks)} tasks are left: {sorted(str(task.get_coro()) for task in tasks)}"


def _fast_place() -> Path | None:
    shm = Path("/dev/shm")
    return shm if shm.is_dir() else None
