"""What is known of each space that decides when it dreams next: who called, how the last dream ended, what waits."""

from collections.abc import Callable
from functools import cache
from typing import Protocol

import numpy as np

from dreamsvc import clock as clocks
from dreamsvc import windows
from dreamsvc.clock import Clock
from dreamsvc.config import InForce
from dreamsvc.dream import trigger
from dreamsvc.dream.policies import Policies
from dreamsvc.dream.seen import Seen
from dreamsvc.dream.trigger import Activity, Situation
from dreamsvc.memory.store import Store
from dreamsvc.v1.config_pb2 import TriggerConfig
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_FACET, MEMORY_ROLE_UNSPECIFIED
from dreamsvc.windows import Windows


class Around(Protocol):
    """What is the same for all spaces."""

    @property
    def parallel_notice(self) -> str:
        """Why fewer dreams run at the same time than may."""
        ...

    @property
    def most_parallel(self) -> int: ...
    @property
    def busy(self) -> str:
        """Why the machine has no room for a dream."""
        ...

    @property
    def busy_for_s(self) -> float:
        """How long a space that is due waits for room."""
        ...


class Situations:
    """One for the service; times are in seconds of the monotonic clock."""

    def __init__(self, store: Store, config: InForce, policies: Policies, clock: Clock, around: Around) -> None:
        self._store = store
        self._config = config
        self._policies = policies
        self._clock = clock
        self._around = around
        self._activity: dict[str, Activity] = {}
        self._last_end_s: dict[str, float] = {}
        # When a space was awake again last, after a dream that ended or was woken.
        self._last_awake_s: dict[str, float] = {}
        # The dream of a space that waits for somebody's word.
        self._proposed: dict[str, str] = {}
        # Spaces of which all was dreamed that was there when their last dream ended, and those whose last dream failed.
        self._seen: set[str] = set()
        self._failed: set[str] = set()
        self._looked_s: dict[str, float] = {}
        # The newest memory that the last dream knew.
        self._newest: dict[str, int] = {}

    def of(self, space: str, *, dreaming: bool, others: int) -> Situation:
        """What a decision about a space looks at. others: dreams in other spaces."""
        now = self._clock.monotonic()
        activity = self._activity_of(space)
        config = self._policies.config(space)
        return Situation(
            now_s=now,
            activity=activity.rate(now),
            last_call_s=activity.last_call_s,
            last_end_s=self._last_end_s.get(space),
            dreaming=dreaming,
            others=others,
            disabled_by=self._policies.disabled_by(space),
            held=space in config.hold_spaces,
            proposed=self._proposed.get(space, ""),
            failed=space in self._failed,
            parallel_key=self._around.parallel_notice or self._config.parallel_key,
            most_parallel=self._around.most_parallel,
            busy=self._around.busy,
            busy_for_s=self._around.busy_for_s,
            pressure=self._new_memories(space) / config.trigger.memory_capacity,
            last_awake_s=self._last_awake_s.get(space),
            opens=self._opens(config.trigger, now),
            news=space not in self._seen or (activity.called and activity.last_call_s >= self._looked_s[space]),
        )

    def proposed(self, space: str) -> str:
        """The dream that waits for somebody's word, '' for none."""
        return self._proposed.get(space, "")

    # ── what happens ────────────────────────────────────────────────────────────

    def note_call(self, space: str) -> None:
        """A user asked or told something."""
        self._activity_of(space).note(self._clock.monotonic())

    def note_end(self, space: str, looked_s: float, seen: Seen, *, failed: bool) -> None:
        """A dream came to its end; what a failed one was to dream of, or what was changed meanwhile, is still news.

        looked_s: when it was looked what was seen; whoever called since then may have changed something.
        """
        self._last_end_s[space] = self._clock.monotonic()
        self._looked_s[space] = looked_s
        (self._failed.add if failed else self._failed.discard)(space)
        (self._seen.add if seen.all_dreamt and not failed else self._seen.discard)(space)
        if not failed:
            self._newest[space] = seen.newest

    def note_earlier_end(self, space: str, end_us: int, seen: Seen, *, failed: bool) -> None:
        """The last dream of an earlier run came to its end."""
        self.note_end(space, self._clock.monotonic(), seen, failed=failed)
        self._last_end_s[space] = trigger.end_of_earlier_run_s(end_us, self._clock.now_us(), self._clock.monotonic())

    def note_awake(self, space: str) -> None:
        """A night is over, or a piece of it."""
        self._last_awake_s[space] = self._clock.monotonic()

    def note_proposed(self, space: str, dream_id: str) -> None:
        self._proposed[space] = dream_id

    def note_decided(self, space: str, dream_id: str) -> None:
        """A proposal waits no more; a request that is repeated may be about one from long ago."""
        if self._proposed.get(space) == dream_id:
            del self._proposed[space]

    # ── what follows ────────────────────────────────────────────────────────────

    def _activity_of(self, space: str) -> Activity:
        return self._activity.setdefault(space, Activity(self._clock.monotonic()))

    def _new_memories(self, space: str) -> int:
        """How many came since the last night began, by users: what dreams make is neither memory nor facet."""
        view = self._store.graph(space).view
        first = int(np.searchsorted(view.node_ids[: view.n], self._newest.get(space, -1), side="right"))
        roles = view.roles[first : view.n]
        own = (roles == MEMORY_ROLE_UNSPECIFIED) | (roles == MEMORY_ROLE_FACET)
        return int(np.count_nonzero(view.alive[first : view.n] & own))

    def _opens(self, config: TriggerConfig, now_s: float) -> Callable[[float], float]:
        """From a time to the first one from then on that lies in a window."""
        times = parsed(tuple(config.windows))
        if times.always:
            return trigger.any_time
        where, now_us = clocks.zone(config.time_zone), self._clock.now_us()

        def opens(at_s: float) -> float:
            at_us = now_us + int((at_s - now_s) * 1e6)
            found = times.next_in(at_us, lambda us: clocks.utc_offset_s(us, where))
            return trigger.NEVER_S if found is None else at_s + (found - at_us) / 1e6

        return opens


@cache
def parsed(texts: tuple[str, ...]) -> Windows:
    """Of a configuration that was checked."""
    return windows.parse(texts)
