"""Finds, and what they say of themselves: evidence in words, where the reach of both ends meets, the walk that led
there (REQ-DREAM-012). q: walks. L: their steps. d: numbers of a point. p: pairs."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.exploring import Explored
from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.merging import Search, Step
from dreamsvc.dreamer.spot_candidates import Candidates
from dreamsvc.dreamer.spot_evidence import Judged, time_apart
from dreamsvc.dreamer.text_evidence import TextEvidence

LABEL = 40  # characters
# Meeting points that are named; the others are only counted.
MEETING_NAMED = 3


class Spot(NamedTuple):
    """Two memories that belong together."""

    source: int  # row, of the memory near the walk
    target: int
    distance: float  # 1 - cosine
    overlap: float
    confidence: float
    score: float  # by which they are ranked: evidence x distance
    evidence: list[str]
    meeting: list[int]  # rows
    walk: NDArray[np.float32]  # [L + 1, d], empty where no walk led to it


class Teller(NamedTuple):
    """Puts finds in words."""

    memories: Memories
    explored: Explored
    points: NDArray[np.float32]
    evidence: TextEvidence
    found: Candidates
    judged: Judged

    def spots(self, places: NDArray[np.int64], value: NDArray[np.floating], most: int) -> Search[list[Spot]]:
        """The candidates at these places, the highest values first; value: [p]."""
        order = places[np.lexsort((places, -value[places]))][:most]
        confidence = self.judged.confidence()
        walks: dict[int, list[int]] = {}
        for walk, near in enumerate(self.explored.nearest.tolist()):
            for row in near:
                walks.setdefault(row, []).append(walk)
        spots: list[Spot] = []
        for done, place in enumerate(order.tolist()):
            source, target = int(self.found.left[place]), int(self.found.right[place])
            overlap = self.judged.overlap
            meeting = overlap.meeting[overlap.indptr[place] : overlap.indptr[place + 1]].tolist()
            spots.append(
                Spot(
                    source=source,
                    target=target,
                    distance=float(self.found.distance[place]),
                    overlap=float(overlap.overlap[place]),
                    confidence=float(confidence[place]),
                    score=float(value[place]),
                    evidence=self._words(place, source, target, meeting),
                    meeting=meeting,
                    walk=self._walk(walks.get(source, []), target),
                )
            )
            yield Step("finds", done, len(order))
        return spots

    def _words(self, place: int, source: int, target: int, meeting: list[int]) -> list[str]:
        found = self.evidence.in_words(self.memories, source, target)
        if self.judged.adjacent[place] > 0:
            found.append(time_apart(self.memories, source, target))
        if meeting:
            found.append(self._meeting_words(source, target, meeting))
        if self.judged.linked[place] > 0:
            found.append(f"look like what is linked here ({self.judged.linked[place]:.2f})")
        return found

    def _meeting_words(self, source: int, target: int, meeting: list[int]) -> str:
        """E.g. 'meet at "Hub", "Oslo" and 3 more'; what would be named twice is named once."""
        titles = [self.memories.titles[row] for row in (source, target, *meeting)]
        labels = dict.fromkeys(self._label(row, titled=titles.count(self.memories.titles[row]) == 1) for row in meeting)
        named = list(labels)[:MEETING_NAMED]
        more = len(meeting) - len(named)
        return "meet at " + ", ".join(f'"{label}"' for label in named) + (f" and {more} more" if more else "")

    def _label(self, row: int, *, titled: bool) -> str:
        """The title where it tells it from the others, else the beginning of the text."""
        title, text = self.memories.titles[row], " ".join(self.memories.texts[row].split())
        said = title if title and (titled or not text) else text
        return said if len(said) <= LABEL else said[: LABEL - 1].rstrip() + "…"

    def _walk(self, walks: list[int], target: int) -> NDArray[np.float32]:
        """Of the walks that ended near the source the one that ended nearest to the target in the ball."""
        paths = self.explored.paths
        if not walks:
            return np.zeros((0, paths.shape[2]), np.float32)
        point = self.points[target]
        if len(point) != paths.shape[2] or not np.isfinite(point).all():
            return paths[walks[0]]
        ends = paths[walks, -1]
        away = ((ends - point) ** 2).sum(axis=1) / np.maximum(1 - (ends**2).sum(axis=1), 1e-6)
        return paths[walks[int(np.argmin(away))]]
