"""What is known of each space that decides when it dreams next: who called, how the last dream ended, what waits."""

from dreamsvc.clock import Clock
from dreamsvc.config import InForce
from dreamsvc.dream import trigger
from dreamsvc.dream.trigger import Activity, Situation


class Situations:
    """One for the service; times are in seconds of the monotonic clock."""

    def __init__(self, config: InForce, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._activity: dict[str, Activity] = {}
        self._last_end_s: dict[str, float] = {}
        # The dream of a space that waits for somebody's word.
        self._proposed: dict[str, str] = {}
        # Spaces of which all was dreamed that was there when their last dream ended, and those whose last dream failed.
        self._seen: set[str] = set()
        self._failed: set[str] = set()
        self._looked_s: dict[str, float] = {}

    def of(self, space: str, *, dreaming: bool, others: int) -> Situation:
        """What a decision about a space looks at. others: dreams in other spaces."""
        now = self._clock.monotonic()
        activity = self._activity_of(space)
        return Situation(
            now_s=now,
            activity=activity.rate(now),
            last_call_s=activity.last_call_s,
            last_end_s=self._last_end_s.get(space),
            dreaming=dreaming,
            others=others,
            held=space in self._config.dream.hold_spaces,
            proposed=self._proposed.get(space, ""),
            failed=space in self._failed,
            parallel_key=self._config.parallel_key,
            news=space not in self._seen or (activity.called and activity.last_call_s > self._looked_s[space]),
        )

    def proposed(self, space: str) -> str:
        """The dream that waits for somebody's word, '' for none."""
        return self._proposed.get(space, "")

    def note_call(self, space: str) -> None:
        """A user asked or told something."""
        self._activity_of(space).note(self._clock.monotonic())

    def note_end(self, space: str, looked_s: float, *, failed: bool, all_dreamt: bool) -> None:
        """A dream came to its end; what a failed one was to dream of, or what was changed meanwhile, is still news.

        looked_s: when it was looked whether anything was changed; whoever called since then may have.
        """
        self._last_end_s[space] = self._clock.monotonic()
        self._looked_s[space] = looked_s
        (self._failed.add if failed else self._failed.discard)(space)
        (self._seen.add if all_dreamt else self._seen.discard)(space)

    def note_earlier_end(self, space: str, end_us: int, *, failed: bool, all_dreamt: bool) -> None:
        """The last dream of an earlier run came to its end."""
        self.note_end(space, self._clock.monotonic(), failed=failed, all_dreamt=all_dreamt)
        self._last_end_s[space] = trigger.end_of_earlier_run_s(end_us, self._clock.now_us(), self._clock.monotonic())

    def note_proposed(self, space: str, dream_id: str) -> None:
        self._proposed[space] = dream_id

    def note_decided(self, space: str, dream_id: str) -> None:
        """A proposal waits no more; a request that is repeated may be about one from long ago."""
        if self._proposed.get(space) == dream_id:
            del self._proposed[space]

    def _activity_of(self, space: str) -> Activity:
        return self._activity.setdefault(space, Activity(self._clock.monotonic()))
