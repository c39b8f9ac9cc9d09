"""What the service says of a space: what it does and why it does not dream, what a dream would take."""

from typing import NamedTuple, Protocol

from google.protobuf import duration_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from dreamsvc import __version__
from dreamsvc.clock import Clock, to_timestamp
from dreamsvc.config import InForce
from dreamsvc.dream import estimates, neuromodulation, trigger
from dreamsvc.dream.latency import WakeLatencies
from dreamsvc.dream.night import Night
from dreamsvc.dream.nights import Nights
from dreamsvc.dream.policies import Policies
from dreamsvc.dream.scaling import scaled
from dreamsvc.dream.state import AWAKE
from dreamsvc.dream.trigger import Situation
from dreamsvc.errors import DreamsvcError
from dreamsvc.memory.store import Store
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Dream, Neuromodulators
from dreamsvc.v1.dream_service_pb2 import EstimateDreamResponse, GetStatusResponse


class Asked(Protocol):
    """Whoever decides, and is asked."""

    @property
    def device(self) -> str:
        """Where dreams ran last in this run, '' for nowhere yet."""
        ...

    @property
    def latencies(self) -> WakeLatencies: ...
    @property
    def parallel_notice(self) -> str: ...
    def situation(self, space: str) -> Situation: ...
    def refusal(self, space: str, *, manual: bool) -> DreamsvcError | None: ...


class VitalSigns(NamedTuple):
    """A space at one moment."""

    sleep_state: dream_pb2.SleepState.ValueType
    news: bool
    # Since a dream ended; None where none has since the store was made.
    since_night_s: float | None
    cooldown_s: float
    # Calls a second by users.
    activity: float


class Telling:
    """One for the service; changes nothing."""

    def __init__(
        self, store: Store, config: InForce, policies: Policies, nights: Nights, clock: Clock, asked: Asked
    ) -> None:
        self._store = store
        self._config = config
        self._policies = policies
        self._nights = nights
        self._clock = clock
        self._asked = asked
        self._started_us = clock.now_us()

    async def estimate(self, space: str) -> EstimateDreamResponse:
        """What a dream would touch and take; raises NotFound."""
        graph = self._store.graph(space).view
        last, _ = await self._nights.history(space)
        # One phase takes less than the full cycle that is asked about.
        whole = last if last is not None and last.phase == dream_pb2.DREAM_PHASE_FULL_CYCLE else None
        config = scaled(self._policies.config(space), graph.n)
        answer = estimates.estimate(graph.n, graph.m, graph.dense.dimension, whole, config)
        decision = trigger.decide(self._asked.situation(space), config)
        answer.why_not_dreaming = decision.why_not
        if (eligible := self._wall_time(decision.eligible_s)) is not None:
            answer.next_eligible_time.CopyFrom(eligible)
        return answer

    def _wall_time(self, at_s: float | None) -> Timestamp | None:
        """A time of the monotonic clock as people know it."""
        if at_s is None:
            return None
        return to_timestamp(self._clock.now_us() + int((at_s - self._clock.monotonic()) * 1e6))

    async def status(self, space: str) -> GetStatusResponse:
        """Raises NotFound."""
        self._store.graph(space)
        last, suspended = await self._nights.history(space)
        # Nothing waits from here on: all that is said is of one moment.
        situation = self._asked.situation(space)
        config = self._policies.config(space)
        decision = trigger.decide(situation, config)
        night = self._nights.of(space)
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
        cooldown = trigger.rested_at(situation, config) - situation.now_s
        answer = GetStatusResponse(
            version=__version__,
            space=space,
            sleep_state=night.sleep_state if night else AWAKE,
            dream_available=self._asked.refusal(space, manual=True) is None,
            why_not_dreaming=decision.why_not,
            active_dream=active,
            last_dream=last,
            suspended_dream=suspended,
            activity=situation.activity,
            idle_seconds=max(0.0, situation.now_s - situation.last_call_s),
            device=self._asked.device or (last.report.device if last else ""),
            wake_latency=self._asked.latencies.summary(),
            start_time=to_timestamp(self._started_us),
            neuromodulators=self._neuromodulators(night),
            memory_pressure=situation.pressure,
            parallel_notice=self._asked.parallel_notice,
            in_window=situation.opens(situation.now_s) <= situation.now_s,
            next_eligible_time=self._wall_time(decision.eligible_s),
        )
        if cooldown > 0:
            answer.cooldown_remaining.CopyFrom(duration_pb2.Duration(seconds=int(cooldown)))
        return answer

    def vital_signs(self, space: str) -> VitalSigns:
        """What the status tells, in numbers, without a look at the store."""
        situation, night = self._asked.situation(space), self._nights.of(space)
        cooldown_s = trigger.rested_at(situation, self._policies.config(space)) - situation.now_s
        return VitalSigns(
            sleep_state=night.sleep_state if night else AWAKE,
            news=situation.news,
            since_night_s=None if situation.last_end_s is None else situation.now_s - situation.last_end_s,
            cooldown_s=max(0.0, cooldown_s),
            activity=situation.activity,
        )

    def _neuromodulators(self, night: Night | None) -> Neuromodulators:
        if night is None:
            return neuromodulation.settled(AWAKE, self._config.dream.neuromodulation)
        return night.neuromodulators()
