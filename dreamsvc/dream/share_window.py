"""The share of a device that something takes, from counters that only grow: of the last second, on average, at most."""

from collections import deque

WINDOW_S = 1.0


class ShareWindow:
    """Of one process; shares are of `whole`, e.g. of all cores together."""

    def __init__(self, whole: float, now_s: float, used_s: float, age_s: float | None) -> None:
        """used_s: what its counter shows now. age_s: how long it has counted; None where it is known to have rested."""
        self.whole = whole
        self._began_s = now_s
        self._first_used_s = used_s
        # Times and counts, the first of them at the beginning of the last second or before it.
        self._samples: deque[tuple[float, float]] = deque()
        if age_s is None or age_s >= WINDOW_S:
            # Of a process that is older it is not known what it took when; it has rested, or its start is over.
            self._samples.append((now_s - WINDOW_S, used_s))
        else:
            self._samples.append((now_s - WINDOW_S, 0.0))
            self._samples.append((now_s - age_s, 0.0))
        self._samples.append((now_s, used_s))
        self.highest = self.last_second(now_s)

    def is_of(self, now_s: float) -> bool:
        """Whether anything in it is of the last second."""
        return self._samples[-1][0] > now_s - WINDOW_S

    def begin(self, now_s: float, used_s: float) -> None:
        """Mean and most count anew from here; what the last second took is still known."""
        self.note(now_s, used_s)
        self._began_s, self._first_used_s = now_s, used_s
        self.highest = self.last_second(now_s)

    def note(self, now_s: float, used_s: float) -> None:
        self._samples.append((now_s, max(used_s, self._samples[-1][1])))
        while len(self._samples) > 2 and self._samples[1][0] <= now_s - WINDOW_S:
            self._samples.popleft()
        self.highest = max(self.highest, self.last_second(now_s))

    def used_since(self, since_s: float) -> float:
        """What the counter grew by since a time in the last second, evenly between two looks."""
        samples = list(self._samples)
        before_s, before = samples[0]
        for at_s, used in samples[1:]:
            if at_s > since_s:
                share = 0.0 if at_s <= before_s else max(0.0, since_s - before_s) / (at_s - before_s)
                return samples[-1][1] - (before + share * (used - before))
            before_s, before = at_s, used
        return 0.0

    def last_second(self, now_s: float) -> float:
        return self.used_since(now_s - WINDOW_S) / (self.whole * WINDOW_S)

    def mean(self, now_s: float) -> float:
        """Since it is measured; what came before is no part of it."""
        lasted_s = now_s - self._began_s
        return (self._samples[-1][1] - self._first_used_s) / (self.whole * lasted_s) if lasted_s > 0 else 0.0

    def lasted_s(self, now_s: float) -> float:
        return now_s - self._began_s
