"""Decides which space dreams when, and knows every night that runs.

All of it runs on one event loop, so a decision and what it changes happen in one step: two
triggers cannot both win, and a wake never queues behind anything.
"""

import asyncio
import logging
from typing import Any

from dreamsvc import calling
from dreamsvc.clock import Clock, from_timestamp
from dreamsvc.config import InForce
from dreamsvc.dream import outcome, trigger
from dreamsvc.dream.choosing import Choosing
from dreamsvc.dream.conversation import Source
from dreamsvc.dream.dreamers import Dreamers
from dreamsvc.dream.governor import Governor
from dreamsvc.dream.latency import WakeLatencies
from dreamsvc.dream.leash import on_gpu
from dreamsvc.dream.lending import Lending
from dreamsvc.dream.meters import ThisMachine
from dreamsvc.dream.night import Night, Woken
from dreamsvc.dream.nights import RESTING, Nights, heard_of
from dreamsvc.dream.policies import Policies
from dreamsvc.dream.records import Records
from dreamsvc.dream.room import Room
from dreamsvc.dream.seen import seen_by
from dreamsvc.dream.situations import Situations
from dreamsvc.dream.state import AWAKE
from dreamsvc.dream.telling import Telling
from dreamsvc.dream.trigger import Situation
from dreamsvc.dream.verdicts import Verdicts
from dreamsvc.dream.watch import Events
from dreamsvc.errors import (
    Disabled,
    DreamCooldown,
    DreamInProgress,
    DreamProposed,
    DreamsvcError,
    NotFound,
    OnHold,
    ShuttingDown,
    StoreUnavailable,
)
from dreamsvc.memory.journal import Journal
from dreamsvc.memory.store import Store
from dreamsvc.telemetry import logs
from dreamsvc.telemetry.logs import Subject
from dreamsvc.telemetry.observer import Observer
from dreamsvc.v1 import dream_pb2, error_reason_pb2
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import (
    AbortRequest,
    AbortResponse,
    StreamStatusResponse,
    TriggerRequest,
    TriggerResponse,
)

logger = logging.getLogger(__name__)
DRY_RUNS_KEPT = 16


type _Begun = tuple[TriggerResponse, Night | None]


class Scheduler:
    """One for the service; owns the nights, the events, and what decides about the next one."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        config: InForce,
        clock: Clock,
        dreamers: Source | None = None,
        observer: Observer | None = None,
        governor: Governor | None = None,
    ) -> None:
        """dreamers: where processes that dream come from; by default they are started here. observer: who is told of
        wakes and nights. governor: who holds dreams to their share of the machine."""
        self._store = store
        self._journal = journal
        self._config = config
        self._clock = clock
        self._policies = Policies(config)
        self._records = Records(store, journal, config, self._policies, clock)
        self._nights = Nights(store, journal)
        self.governor = governor or Governor(config, ThisMachine())
        self._dreamers = Lending(dreamers or Dreamers(config, self.governor), clock)
        self._room = Room(config, self.governor.machine, self._ours)
        self._situations = Situations(store, config, self._policies, clock, self)
        self.verdicts = Verdicts(store, journal, self._records, self._nights, self._situations, config, clock)
        self.telling = Telling(store, config, self._policies, self._nights, clock, self)
        self._choosing = Choosing(store, self._policies, self, self._room, clock)
        self._events: dict[str, Events] = {}
        # From which the events of this run are numbered.
        self._first_event: int | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._beginning: set[asyncio.Task[_Begun]] = set()
        self._dry_runs: dict[str, Dream] = {}
        self.latencies = WakeLatencies()
        self._observer = observer or Observer()
        self.device = ""
        self._closing = False
        config.on_exchange(lambda _before, _now: self._follow())

    # ── start and end ───────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Brings what a crash left to an end, then begins to look for idle spaces."""
        self._first_event = await self._take_event_numbers()
        await self._records.recover()
        for space in self._store.space_names():
            last = await asyncio.to_thread(self._journal.latest, space, RESTING)
            suspended = await asyncio.to_thread(self._journal.latest, space, [Dream.STATE_SUSPENDED])
            proposed = await asyncio.to_thread(self._journal.latest, space, [Dream.STATE_PROPOSED])
            if proposed is not None:
                self._situations.note_proposed(space, proposed.dream.id)
            if last is not None:
                failed = last.dream.state == Dream.STATE_FAILED
                seen = await seen_by(last.change, space, self._store, self._journal)
                if suspended is not None:
                    seen = seen._replace(all_dreamt=False)
                end_us = from_timestamp(last.dream.end_time)
                self._situations.note_earlier_end(space, end_us, seen, failed=failed)
        self._keep_task(asyncio.create_task(self._choosing.run()))

    async def _take_event_numbers(self) -> int:
        now_us = self._clock.now_us()
        try:
            return await asyncio.wrap_future(self._journal.take_event_numbers(now_us))
        except StoreUnavailable:
            # A full disk keeps nobody from reading; what is lost by it is their order, where the clock went back.
            return now_us

    async def close(self) -> None:
        """Wakes every space, ends the streams and the dreamers; interrupted dreams can be resumed."""
        self._closing = True
        if self._beginning:
            await asyncio.wait(set(self._beginning))
        running = self._nights.running()
        for night in running:
            night.wake(dream_pb2.WAKE_REASON_SHUTDOWN)
        for night in running:
            await night.over.wait()
        for events in self._events.values():
            events.shut_down()
        for task in list(self._tasks):
            task.cancel()
        self._nights.close()
        await self._dreamers.close()

    def events(self, space: str) -> Events:
        return self._events.setdefault(space, Events(self._clock, self._first_event))

    # ── what users do ───────────────────────────────────────────────────────────

    def note_call(self, space: str) -> None:
        """Counts a call by a user as activity."""
        self._situations.note_call(space)

    def wake_for_query(self, space: str) -> str:
        """Wakes the dream of a space if it wants that, and gives its id; waits for nothing."""
        night = self._nights.of(space)
        if night is None or night.awake.is_set() or not night.dream.abort_on_query:
            return ""
        night.wake(dream_pb2.WAKE_REASON_USER_QUERY)
        return night.dream.id

    async def trigger(self, request: TriggerRequest, triggered_by: dream_pb2.TriggeredBy.ValueType) -> _Begun:
        """Starts a dream, or goes on with the interrupted one; a known request id gets its first answer.

        The night is None where it is over. Raises NotFound, DreamInProgress, DreamCooldown,
        RequestIdConflict, Disabled, ShuttingDown.
        """
        beginning = asyncio.create_task(self._trigger(request, triggered_by))
        self._beginning.add(beginning)
        beginning.add_done_callback(self._beginning.discard)
        beginning.add_done_callback(heard_of)
        # Shielded: what has begun is not tied to the life of the call.
        return await asyncio.shield(beginning)

    async def _trigger(self, request: TriggerRequest, triggered_by: dream_pb2.TriggeredBy.ValueType) -> _Begun:
        # One after the other, so that a repeated request finds the answer to the first.
        async with self._nights.turn:
            night = self._nights.of(request.space)
            if request.request_id:
                known = await asyncio.to_thread(self._journal.trigger_answer, request)
                if known is not None:
                    return known, night if night is not None and night.dream.id == known.dream.id else None
            await self._nights.settled(request.space)
            return await self._start(request, triggered_by)

    async def _start(self, request: TriggerRequest, triggered_by: dream_pb2.TriggeredBy.ValueType) -> _Begun:
        self._check(request, triggered_by)
        self._nights.begin(request.space, None)
        night: Night | None = None
        try:
            if request.dry_run:
                begin = self._records.begin_dry(request)
            else:
                begin = await self._records.begin(request, triggered_by)
            if begin.plan is not None:
                if request.dry_run:
                    self._keep_dry_run(begin.plan.dream)
                night = Night(
                    begin.plan,
                    self._store,
                    self._journal,
                    self._dreamers,
                    self.events(request.space),
                    self._clock,
                    self._note_wake,
                    self.governor,
                    self._observer,
                )
                by_itself = triggered_by != dream_pb2.TRIGGERED_BY_REQUEST
                self._nights.begin(request.space, night, by_itself=by_itself)
                # The configuration may have changed while the dream was written down.
                self._follow()
        finally:
            # An interrupted dream may have been given up on the way.
            self._nights.forget(request.space)
            if night is None:
                self._nights.end(request.space)
        if night is not None:
            self._keep_task(asyncio.create_task(self._run(request.space, night)))
        return begin.response, night

    async def abort(self, request: AbortRequest) -> AbortResponse:
        """Wakes a space and answers when it is awake; raises NotFound for a dream that does not run."""
        night = self._nights.of(request.space)
        if night is None or night.awake.is_set():
            return await self._abort_nothing(request)
        if request.dream_id and request.dream_id != night.dream.id:
            raise NotFound(f'dream "{request.dream_id}" does not run; {night.dream.id} does')
        night.discard |= request.discard
        night.wake(dream_pb2.WAKE_REASON_MANUAL_ABORT)
        await night.awake.wait()
        woken = night.woken
        return AbortResponse(
            dream=night.dream,
            was_dreaming=True,
            wake_latency_ms=woken.latency_ms if woken else 0.0,
            killed=woken.killed if woken else False,
        )

    async def _abort_nothing(self, request: AbortRequest) -> AbortResponse:
        """Answers an abort where nothing dreams; with `discard` the interrupted dream is given up."""
        self._store.graph(request.space)
        known = await self.dream(request.space, request.dream_id) if request.dream_id else None
        if not request.discard:
            return AbortResponse(dream=known)
        async with self._nights.turn:
            await self._nights.settled(request.space)
            old = await asyncio.to_thread(self._journal.latest, request.space, [Dream.STATE_SUSPENDED])
            if old is None or request.space in self._nights or (known is not None and known.id != old.dream.id):
                return AbortResponse(dream=known)
            await self._records.give_up(old, "on request", error_reason_pb2.ERROR_REASON_DREAM_ABORTED)
            self._nights.forget(request.space)
            return AbortResponse(dream=old.dream)

    def _follow(self) -> None:
        """Has dreams take what the configuration allows now; where it allows none, they go on from there later."""
        for night in self._nights.running():
            night.allow(self._config.dream.resources)
            if self._policies.disabled_by(night.dream.space) or self.on_hold(night.dream.space):
                night.wake(dream_pb2.WAKE_REASON_SWITCHED_OFF)

    def on_hold(self, space: str) -> bool:
        return space in self._config.dream.hold_spaces

    async def dream(self, space: str, dream_id: str) -> Dream:
        """A dream as it is now; raises NotFound."""
        night = self._nights.of(space)
        if night is not None and night.dream.id == dream_id:
            return night.dream
        dry = self._dry_runs.get(dream_id)
        if dry is not None and dry.space == space:
            return dry
        return (await asyncio.to_thread(self._journal.dream, space, dream_id)).dream

    def present(self, space: str) -> StreamStatusResponse:
        """State of a space as the first event of a stream."""
        night = self._nights.of(space)
        if night is None:
            return StreamStatusResponse(sleep_state=AWAKE)
        return StreamStatusResponse(sleep_state=night.sleep_state, dream=night.dream)

    def running(self, space: str) -> Night | None:
        return self._nights.of(space)

    # ── deciding ────────────────────────────────────────────────────────────────

    def _check(self, request: TriggerRequest, triggered_by: dream_pb2.TriggeredBy.ValueType) -> None:
        self._store.graph(request.space)
        refusal = self.refusal(request.space, manual=triggered_by == dream_pb2.TRIGGERED_BY_REQUEST)
        if refusal is not None:
            raise refusal

    def refusal(self, space: str, *, manual: bool) -> DreamsvcError | None:
        """Why a Trigger would be refused now."""
        if self._closing:
            return ShuttingDown("the service is shutting down")
        if key := self._policies.disabled_by(space):
            return Disabled(f"dreaming is switched off ({key})")
        if self.on_hold(space):
            return OnHold(space)
        if waiting := self._situations.proposed(space):
            return DreamProposed(f"dream {waiting} waits for approval", metadata={"dream_id": waiting})
        if space in self._nights:
            night = self._nights.of(space)
            which = f"dream {night.dream.id} runs" if night else "a dream is starting"
            return DreamInProgress(
                f'{which} in space "{space}"', metadata={"dream_id": night.dream.id} if night else None
            )
        if len(self._nights) >= self.most_parallel:
            # The spaces of others have no names for this caller.
            others = ", ".join(filter(calling.current().sees, self._nights.spaces))
            running, most = len(self._nights), self.most_parallel
            where = f" (in {others})" if others else ""
            why = self.parallel_notice or self._config.parallel_key
            return DreamInProgress(
                f"{running} dreams run{where}, and at most {most} may ({why})",
                metadata={"spaces": others},
                retry_after_s=1,
            )
        if manual and self._policies.config(space).trigger.cooldown_for_manual:
            situation = self.situation(space)
            left = trigger.cooldown_ends(situation, self._policies.config(space)) - situation.now_s
            if left > 0:
                return DreamCooldown(f"the cooldown lasts {left:.0f} s more", retry_after_s=left)
        return None

    @property
    def parallel_notice(self) -> str:
        return self._dreamers.notice if self._config.dream.max_parallel > 1 else ""

    @property
    def most_parallel(self) -> int:
        return self._dreamers.most(self._config.dream.max_parallel)

    @property
    def busy(self) -> str:
        return self._room.busy

    @property
    def busy_for_s(self) -> float:
        return self._room.wait_s

    @property
    def on_gpu(self) -> bool:
        return on_gpu(self.device)

    def _ours(self) -> tuple[float, list[int]]:
        """The share that dreamers take now, and their process ids."""
        return self.governor.account.share or 0.0, self.governor.pids()

    def situation(self, space: str) -> Situation:
        """What a decision about a space looks at now."""
        return self._situations.of(space, dreaming=space in self._nights, others=self._nights.others(space))

    async def lull(self, space: str, by: dream_pb2.TriggeredBy.ValueType) -> str:
        """Lets a space sleep that is due, and gives the dream's id; raises DreamsvcError."""
        request = TriggerRequest(space=space, abort_on_query=True)
        answer, _ = await self.trigger(request, by)
        return answer.dream.id

    def wake_for_window(self, space: str) -> None:
        """Wakes a dream that began by itself, since its time window is over; one that was asked for goes on."""
        night = self._nights.of(space)
        if night is not None and self._nights.began_by_itself(space):
            night.wake(dream_pb2.WAKE_REASON_WINDOW_CLOSED)

    async def _run(self, space: str, night: Night) -> None:
        with logs.about(Subject(space, night.dream.id)):
            logger.info("dream %s %s", night.dream.id, outcome.begun_in_words(night.dream))
            await night.run()
            logger.info("dream %s %s", night.dream.id, outcome.in_words(night.dream))
        if night.dream.state == Dream.STATE_PROPOSED:
            self._situations.note_proposed(space, night.dream.id)
        self.device = night.dream.report.device or self.device
        if night.dream.state in (*RESTING, Dream.STATE_PROPOSED) and not night.dream.dry_run:
            failed = night.dream.state == Dream.STATE_FAILED
            self._situations.note_end(space, night.looked_s, night.seen, failed=failed)
        if not night.dream.dry_run:
            self._situations.note_awake(space)
        self._nights.end(space)
        self._observer.night_over(night.dream)

    def _note_wake(self, woken: Woken) -> None:
        self.latencies.note(woken)
        self._observer.woken(woken.latency_ms / 1000, woken.reason, killed=woken.killed)

    def _keep_dry_run(self, dream: Dream) -> None:
        self._dry_runs[dream.id] = dream
        while len(self._dry_runs) > DRY_RUNS_KEPT:
            del self._dry_runs[next(iter(self._dry_runs))]

    def _keep_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
