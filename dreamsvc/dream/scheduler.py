"""Decides which space dreams when, and knows every night that runs.

All of it runs on one event loop, so a decision and what it changes happen in one step: two
triggers cannot both win, and a wake never queues behind anything.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf import duration_pb2

from dreamsvc import __version__, snapshot_files
from dreamsvc.clock import Clock, from_timestamp, to_timestamp
from dreamsvc.config import InForce
from dreamsvc.dream import estimates, neuromodulation, trigger
from dreamsvc.dream.conversation import Source
from dreamsvc.dream.dreamers import Dreamers
from dreamsvc.dream.latency import WakeLatencies
from dreamsvc.dream.night import Night
from dreamsvc.dream.records import Records
from dreamsvc.dream.state import AWAKE
from dreamsvc.dream.trigger import Activity, Situation
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
)
from dreamsvc.memory.journal import Journal
from dreamsvc.memory.store import Store
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Dream, Neuromodulators
from dreamsvc.v1.dream_service_pb2 import (
    AbortRequest,
    AbortResponse,
    ApproveDreamRequest,
    ApproveDreamResponse,
    EstimateDreamResponse,
    GetStatusResponse,
    RejectDreamRequest,
    RejectDreamResponse,
    RevertRequest,
    RevertResponse,
    StreamStatusResponse,
    TriggerRequest,
    TriggerResponse,
)

logger = logging.getLogger(__name__)
TICK_S = 1.0
# After these the cooldown begins; after a failure too, or a dreamer that cannot start would be tried every second.
RESTING = (Dream.STATE_SUCCEEDED, Dream.STATE_SKIPPED, Dream.STATE_FAILED)
ENDED = (*RESTING, Dream.STATE_DISCARDED, Dream.STATE_REVERTED)
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
    ) -> None:
        """dreamers: where processes that dream come from; by default they are started here."""
        self._store = store
        self._journal = journal
        self._config = config
        self._clock = clock
        self._records = Records(store, journal, config, clock)
        self._dreamers = dreamers or Dreamers()
        self._events: dict[str, Events] = {}
        # From which the events of this run are numbered.
        self._first_event: int | None = None
        # The night of each space that has one; None while its trigger is being written down.
        self._nights: dict[str, Night | None] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._turn = asyncio.Lock()
        self._beginning: set[asyncio.Task[_Begun]] = set()
        self._dry_runs: dict[str, Dream] = {}
        # What the store says of a space's last and interrupted dream, until the next night changes it.
        self._history: dict[str, tuple[Dream | None, Dream | None]] = {}
        self._activity: dict[str, Activity] = {}
        self._last_end_s: dict[str, float] = {}
        # The dream of a space that waits for somebody's word.
        self._proposed: dict[str, str] = {}
        # Spaces of which all was dreamed that was there when their last dream ended, and those whose last dream failed.
        self._seen: set[str] = set()
        self._failed: set[str] = set()
        self._looked_s: dict[str, float] = {}
        self._latencies = WakeLatencies()
        self._started_us = clock.now_us()
        self._device = ""
        self._closing = False
        config.on_exchange(lambda _before, _now: self._wake_unwanted())

    # ── start and end ───────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Brings what a crash left to an end, then begins to look for idle spaces."""
        self._first_event = await asyncio.wrap_future(self._journal.take_event_numbers(self._clock.now_us()))
        await self._records.recover()
        for space in self._store.space_names():
            last = await asyncio.to_thread(self._journal.latest, space, RESTING)
            suspended = await asyncio.to_thread(self._journal.latest, space, [Dream.STATE_SUSPENDED])
            proposed = await asyncio.to_thread(self._journal.latest, space, [Dream.STATE_PROPOSED])
            if proposed is not None:
                self._proposed[space] = proposed.dream.id
            if last is not None:
                failed = last.dream.state == Dream.STATE_FAILED
                looked_s = self._clock.monotonic()
                changed = failed or await asyncio.wrap_future(self._journal.changed_since(last.change))
                self._note_end(space, looked_s, failed=failed, all_dreamt=suspended is None and not changed)
                end_us = from_timestamp(last.dream.end_time)
                self._last_end_s[space] = trigger.end_of_earlier_run_s(
                    end_us, self._clock.now_us(), self._clock.monotonic()
                )
        self._keep_task(asyncio.create_task(self._look_around()))

    async def close(self) -> None:
        """Wakes every space, ends the streams and the dreamers; interrupted dreams can be resumed."""
        self._closing = True
        if self._beginning:
            await asyncio.wait(set(self._beginning))
        running = [night for night in self._nights.values() if night is not None]
        for night in running:
            night.wake(dream_pb2.WAKE_REASON_SHUTDOWN)
        for night in running:
            await night.over.wait()
        for events in self._events.values():
            events.shut_down()
        for task in list(self._tasks):
            task.cancel()
        await self._dreamers.close()

    def events(self, space: str) -> Events:
        return self._events.setdefault(space, Events(self._clock, self._first_event))

    # ── what users do ───────────────────────────────────────────────────────────

    def note_call(self, space: str) -> None:
        """Counts a call by a user as activity."""
        self._activity_of(space).note(self._clock.monotonic())

    def wake_for_query(self, space: str) -> str:
        """Wakes the dream of a space if it wants that, and gives its id; waits for nothing."""
        night = self._nights.get(space)
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
        beginning.add_done_callback(_heard_of)
        # Shielded: what has begun is not tied to the life of the call.
        return await asyncio.shield(beginning)

    async def _trigger(self, request: TriggerRequest, triggered_by: dream_pb2.TriggeredBy.ValueType) -> _Begun:
        # One after the other, so that a repeated request finds the answer to the first.
        async with self._turn:
            night = self._nights.get(request.space)
            if request.request_id:
                known = await asyncio.to_thread(self._journal.trigger_answer, request)
                if known is not None:
                    return known, night if night is not None and night.dream.id == known.dream.id else None
            await self._settled(request.space)
            return await self._start(request, triggered_by)

    async def _start(self, request: TriggerRequest, triggered_by: dream_pb2.TriggeredBy.ValueType) -> _Begun:
        self._check(request, triggered_by)
        self._nights[request.space] = None
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
                    self._latencies.note,
                )
                self._nights[request.space] = night
                # It may have been switched off while the dream was written down.
                self._wake_unwanted()
        finally:
            # An interrupted dream may have been given up on the way.
            self._history.pop(request.space, None)
            if night is None:
                del self._nights[request.space]
        if night is not None:
            self._keep_task(asyncio.create_task(self._run(request.space, night)))
        return begin.response, night

    async def abort(self, request: AbortRequest) -> AbortResponse:
        """Wakes a space and answers when it is awake; raises NotFound for a dream that does not run."""
        night = self._nights.get(request.space)
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
        async with self._turn:
            await self._settled(request.space)
            old = await asyncio.to_thread(self._journal.latest, request.space, [Dream.STATE_SUSPENDED])
            if old is None or request.space in self._nights or (known is not None and known.id != old.dream.id):
                return AbortResponse(dream=known)
            await self._records.give_up(old, "on request")
            self._history.pop(request.space, None)
            return AbortResponse(dream=old.dream)

    async def revert(self, request: RevertRequest) -> RevertResponse:
        """Takes a dream back; raises NotFound, DreamInProgress, ChangedLater."""
        return await self._alone(request.space, lambda: self._revert(request))

    async def _revert(self, request: RevertRequest) -> RevertResponse:
        answer, row = await asyncio.wrap_future(self._journal.begin_revert(request))
        if row is not None:
            return await self._records.take_back(row)
        answer.dream.CopyFrom(await self.dream(request.space, request.dream_id))
        return answer

    async def approve(self, request: ApproveDreamRequest) -> ApproveDreamResponse:
        """Applies a proposal; raises NotFound, DreamInProgress, ChangedLater where it does not wait."""
        return await self._alone(request.space, lambda: self._approve(request))

    async def _approve(self, request: ApproveDreamRequest) -> ApproveDreamResponse:
        answer, row = await asyncio.wrap_future(self._journal.approve_dream(request))
        self._decided(request.space, request.dream_id)
        if row is not None:
            await self._records.finish(row)
            answer.dream.CopyFrom(row.dream)
            looked_s = self._clock.monotonic()
            changed = await asyncio.wrap_future(self._journal.changed_since(row.change))
            self._note_end(request.space, looked_s, failed=False, all_dreamt=not changed)
        else:
            answer.dream.CopyFrom(await self.dream(request.space, request.dream_id))
        return answer

    async def reject(self, request: RejectDreamRequest) -> RejectDreamResponse:
        """Gives a proposal up; raises NotFound, DreamInProgress, ChangedLater where it does not wait."""
        return await self._alone(request.space, lambda: self._reject(request))

    async def _reject(self, request: RejectDreamRequest) -> RejectDreamResponse:
        answer = await asyncio.wrap_future(self._journal.reject_dream(request))
        self._decided(request.space, request.dream_id)
        await asyncio.to_thread(snapshot_files.remove, self._store.dream_snapshot_path(answer.dream.id))
        return answer

    def _decided(self, space: str, dream_id: str) -> None:
        """A proposal waits no more; a request that is repeated may be about one from long ago."""
        if self._proposed.get(space) == dream_id:
            del self._proposed[space]

    async def _alone[Answer](self, space: str, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """Lets work on a space's dreams come to its end while nothing begins to dream there."""
        async with self._turn:
            await self._settled(space)
            self._store.graph(space)
            if space in self._nights:
                raise DreamInProgress(f'space "{space}" dreams; abort that first')
            self._nights[space] = None
        task = asyncio.create_task(self._then_free(space, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_heard_of)
        # Shielded: what has begun is not tied to the life of the call.
        return await asyncio.shield(task)

    async def _then_free[Answer](self, space: str, work: Callable[[], Awaitable[Answer]]) -> Answer:
        try:
            return await work()
        finally:
            del self._nights[space]
            self._history.pop(space, None)

    def _wake_unwanted(self) -> None:
        """Ends the dreaming where the configuration allows it no more; what was dreamt is kept to go on from."""
        for space, night in self._nights.items():
            if night is not None and (not self._config.dream.enabled or self.on_hold(space)):
                night.wake(dream_pb2.WAKE_REASON_SWITCHED_OFF)

    def on_hold(self, space: str) -> bool:
        return space in self._config.dream.hold_spaces

    async def estimate(self, space: str) -> EstimateDreamResponse:
        """What a dream would touch and take; raises NotFound."""
        graph = self._store.graph(space).view
        last, _ = self._history.get(space) or await self._look_up(space)
        # One phase takes less than the full cycle that is asked about.
        whole = last if last is not None and last.phase == dream_pb2.DREAM_PHASE_FULL_CYCLE else None
        return estimates.estimate(graph.n, graph.m, graph.dense.dimension, whole, self._config.dream)

    async def _settled(self, space: str) -> None:
        """Waits while the outcome of a dream that was woken, or has failed, is being written down."""
        night = self._nights.get(space)
        if night is None or night.dream.state == Dream.STATE_FOLDING:
            return
        if night.awake.is_set() or night.dream.state != Dream.STATE_RUNNING:
            await night.over.wait()

    async def dream(self, space: str, dream_id: str) -> Dream:
        """A dream as it is now; raises NotFound."""
        night = self._nights.get(space)
        if night is not None and night.dream.id == dream_id:
            return night.dream
        dry = self._dry_runs.get(dream_id)
        if dry is not None and dry.space == space:
            return dry
        return (await asyncio.to_thread(self._journal.dream, space, dream_id)).dream

    def present(self, space: str) -> StreamStatusResponse:
        """State of a space as the first event of a stream."""
        night = self._nights.get(space)
        if night is None:
            return StreamStatusResponse(sleep_state=AWAKE)
        return StreamStatusResponse(sleep_state=night.sleep_state, dream=night.dream)

    def running(self, space: str) -> Night | None:
        return self._nights.get(space)

    async def status(self, space: str) -> GetStatusResponse:
        """Raises NotFound."""
        self._store.graph(space)
        last, suspended = self._history.get(space) or await self._look_up(space)
        # Nothing waits from here on: all that is said is of one moment.
        situation = self._situation(space)
        decision = trigger.decide(situation, self._config.dream)
        night = self._nights.get(space)
        active = None
        if night is not None:
            # It is ahead of what is written down.
            match night.dream.state:
                case Dream.STATE_RUNNING | Dream.STATE_FOLDING:
                    active, suspended = night.dream, None
                case Dream.STATE_SUSPENDED:
                    suspended = night.dream
                case _:
                    last, suspended = night.dream, None
        cooldown = trigger.rested_at(situation, self._config.dream) - situation.now_s
        answer = GetStatusResponse(
            version=__version__,
            space=space,
            sleep_state=night.sleep_state if night else AWAKE,
            dream_available=self._refusal(space, manual=True) is None,
            why_not_dreaming=decision.why_not,
            active_dream=active,
            last_dream=last,
            suspended_dream=suspended,
            activity=situation.activity,
            idle_seconds=max(0.0, situation.now_s - situation.last_call_s),
            device=self._device or (last.report.device if last else ""),
            wake_latency=self._latencies.summary(),
            start_time=to_timestamp(self._started_us),
            neuromodulators=self._neuromodulators(night),
        )
        if cooldown > 0:
            answer.cooldown_remaining.CopyFrom(duration_pb2.Duration(seconds=int(cooldown)))
        if decision.eligible_s is not None:
            in_us = int((decision.eligible_s - situation.now_s) * 1e6)
            answer.next_eligible_time.CopyFrom(to_timestamp(self._clock.now_us() + in_us))
        return answer

    def _neuromodulators(self, night: Night | None) -> Neuromodulators:
        if night is None:
            return neuromodulation.settled(AWAKE, self._config.dream.neuromodulation)
        return night.neuromodulators()

    async def _look_up(self, space: str) -> tuple[Dream | None, Dream | None]:
        """The last dream that ended, and the interrupted one; remembered unless a night is about to change it."""
        settled = space not in self._nights
        last = await asyncio.to_thread(self._journal.latest, space, ENDED)
        suspended = await asyncio.to_thread(self._journal.latest, space, [Dream.STATE_SUSPENDED])
        found = last.dream if last else None, suspended.dream if suspended else None
        if settled and space not in self._nights:
            self._history[space] = found
        return found

    # ── deciding ────────────────────────────────────────────────────────────────

    def _check(self, request: TriggerRequest, triggered_by: dream_pb2.TriggeredBy.ValueType) -> None:
        self._store.graph(request.space)
        refusal = self._refusal(request.space, manual=triggered_by == dream_pb2.TRIGGERED_BY_REQUEST)
        if refusal is not None:
            raise refusal

    def _refusal(self, space: str, *, manual: bool) -> DreamsvcError | None:
        """Why a Trigger would be refused now."""
        if self._closing:
            return ShuttingDown("the service is shutting down")
        if not self._config.dream.enabled:
            return Disabled("dreaming is switched off (dream.enabled)")
        if space in self._config.dream.hold_spaces:
            return OnHold(f'space "{space}" is on hold (dream.hold_spaces)')
        if space in self._proposed:
            waiting = self._proposed[space]
            return DreamProposed(f"dream {waiting} waits for approval", metadata={"dream_id": waiting})
        if space in self._nights:
            night = self._nights[space]
            which = f"dream {night.dream.id} runs" if night else "a dream is starting"
            return DreamInProgress(
                f'{which} in space "{space}"', metadata={"dream_id": night.dream.id} if night else None
            )
        if len(self._nights) >= self._config.dream.max_parallel:
            others, most = ", ".join(self._nights), self._config.dream.max_parallel
            return DreamInProgress(
                f"{len(self._nights)} dreams run (in {others}), and at most {most} may ({self._config.parallel_key})",
                metadata={"spaces": others},
                retry_after_s=1,
            )
        if manual and self._config.dream.trigger.cooldown_for_manual:
            situation = self._situation(space)
            left = trigger.cooldown_ends(situation, self._config.dream) - situation.now_s
            if left > 0:
                return DreamCooldown(f"the cooldown lasts {left:.0f} s more", retry_after_s=left)
        return None

    def _situation(self, space: str) -> Situation:
        now = self._clock.monotonic()
        activity = self._activity_of(space)
        last_end = self._last_end_s.get(space)
        return Situation(
            now_s=now,
            activity=activity.rate(now),
            last_call_s=activity.last_call_s,
            last_end_s=last_end,
            dreaming=space in self._nights,
            others=len(self._nights.keys() - {space}),
            held=space in self._config.dream.hold_spaces,
            proposed=self._proposed.get(space, ""),
            failed=space in self._failed,
            parallel_key=self._config.parallel_key,
            news=space not in self._seen or (activity.called and activity.last_call_s > self._looked_s[space]),
        )

    def _activity_of(self, space: str) -> Activity:
        return self._activity.setdefault(space, Activity(self._clock.monotonic()))

    async def _look_around(self) -> None:
        """Starts dreams by itself, for as long as the service runs."""
        while True:
            await asyncio.sleep(TICK_S)
            for space in self._store.space_names():
                if not trigger.decide(self._situation(space), self._config.dream).start:
                    continue
                request = TriggerRequest(space=space, abort_on_query=True)
                try:
                    answer, _ = await self.trigger(request, dream_pb2.TRIGGERED_BY_IDLE)
                    logger.info('space "%s" is idle: dream %s', space, answer.dream.id)
                except DreamsvcError as error:
                    logger.info('space "%s" is idle, but: %s', space, error.message)
                except Exception:
                    # One space in trouble must not keep the others awake for ever.
                    logger.exception('space "%s" is idle, but', space)

    async def _run(self, space: str, night: Night) -> None:
        await night.run()
        if night.dream.state == Dream.STATE_PROPOSED:
            self._proposed[space] = night.dream.id
        self._device = night.dream.report.device or self._device
        if night.dream.state in (*RESTING, Dream.STATE_PROPOSED) and not night.dream.dry_run:
            failed = night.dream.state == Dream.STATE_FAILED
            self._note_end(space, night.looked_s, failed=failed, all_dreamt=night.all_dreamt)
        self._history.pop(space, None)
        del self._nights[space]

    def _note_end(self, space: str, looked_s: float, *, failed: bool, all_dreamt: bool) -> None:
        """A dream came to its end; what a failed one was to dream of, or what was changed meanwhile, is still news.

        looked_s: when it was looked whether anything was changed; whoever called since then may have.
        """
        self._last_end_s[space] = self._clock.monotonic()
        self._looked_s[space] = looked_s
        (self._failed.add if failed else self._failed.discard)(space)
        (self._seen.add if all_dreamt else self._seen.discard)(space)

    def _keep_dry_run(self, dream: Dream) -> None:
        self._dry_runs[dream.id] = dream
        while len(self._dry_runs) > DRY_RUNS_KEPT:
            del self._dry_runs[next(iter(self._dry_runs))]

    def _keep_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _heard_of(task: asyncio.Task[Any]) -> None:
    """Whoever waited for it may be gone: then its error concerns nobody."""
    if not task.cancelled():
        task.exception()
