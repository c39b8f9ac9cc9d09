"""A walk from memory to memory, as a mind wanders: from what a prompt finds, along edges and nearness.

Every step chooses among all that was seen so far: what the prompt finds, and of each memory on the way its neighbours
over living edges and what lies near it by its vector, or, where it has none, by its words.

Three numbers from 0 to 1 lead the choice:
- the strength of the link to the memory before: the greatest of weight x confidence of an edge, cosine, shared words;
- creativity: how far from the prompt a step may lead, whether nearness to it is liked or distance, and how much is
  left to chance (Gumbel-max; the noise belongs to seed, step and memory, in whatever order memories come);
- coherence: the share of the strongest link's strength that the link of a step must have. Where nothing within the
  distance that creativity allows has it, the strongest there will do, and the step says so.

What came out is then measured, whatever was asked for: `Walked.creativity`.

numpy only; one view of the live graph, which is not changed. D: numbers in a vector. p: memories seen. k: some.
"""

from collections.abc import Callable, Collection, Sequence
from enum import Enum, auto
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.memory import associations
from dreamsvc.memory.associations import Edge
from dreamsvc.memory.graph import GraphView
from dreamsvc.memory.recall import Found
from dreamsvc.memory.seen import Places, Seen, Vector

# Steps of a walk where the space has so many memories, whatever links them.
LEAST = 3
# Of what the prompt finds, where a walk may begin.
BEGINNINGS = 16
# Memories that the prompt should find, and slots that say how near a memory at random is.
FOUND = 256
TYPICAL = 1024
# How far a step may lead at creativity 0, of the way from the nearest memories to those at random; at 1 all of it.
LEASH = 0.05
# Noise at creativity 1, beside a preference from 0 to 1; it grows with the square.
WARMTH = 0.3
# A step is unlikely if its link and its nearness, the mean of both, are so much less than the best there was.
UNLIKELY = 0.2

type Numbers = NDArray[np.float64]


class Wish(NamedTuple):
    """What is wanted of a walk."""

    vector: Vector | None  # of the prompt, [D], unit length
    seed: int
    creativity: float
    coherence: float
    steps: int


class Way(Enum):
    """How a step was come to."""

    PROMPT = auto()  # the prompt finds it
    IMPORTANCE = auto()  # the prompt finds nothing
    EDGE = auto()
    MEANING = auto()
    WORDS = auto()
    NONE = auto()  # nothing links it to the one before


class Step(NamedTuple):
    node: int  # row id
    way: Way
    strength: float  # of the link to the one before; of the first its cosine with the prompt, 0 where that is unknown
    edge_type: int  # row id of the edge's type, 0 where it was no edge
    weak: bool  # weaker than coherence asks for
    found: bool  # the prompt finds it


class Walked(NamedTuple):
    """Where a walk led."""

    steps: list[Step]  # as many as wanted, or as there are
    # Mean of two numbers from 0 to 1: how far from the prompt the steps are, between the nearest memories there are (0)
    # and memories at random (1); and the share of steps that were unlikely.
    creativity: float


class _Links(NamedTuple):
    """From the memory before to some others."""

    strength: Numbers  # [k]
    way: list[Way]
    edge_type: list[int]


def wander(
    view: GraphView,
    found: Sequence[Found],
    wish: Wish,
    text_of: Callable[[int], str],
    without: Collection[int] = (),
) -> Walked:
    """A walk over memories, none of them twice; found: what recall finds for the prompt, the best first.

    text_of: of a node, asked for those that have no vector. without: nodes to pass over.
    """
    return _Walk(view, found, wish, text_of, standing(view, without)).run()


def standing(view: GraphView, without: Collection[int] = ()) -> NDArray[np.bool_]:
    """Rows that can be walked, [n]; all that recall may answer with."""
    mask = view.findable().copy()
    if without:
        mask[view.rows_of(sorted(without))] = False
    return mask


def gumbel(seed: int, step: int, nodes: NDArray[np.int64]) -> Numbers:
    """Noise of the standard Gumbel distribution, [k], that belongs to seed, step and node (splitmix64)."""
    start = np.array([(seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03) % 2**64], np.uint64)
    mixed = start + (nodes.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    uniform = ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53
    return -np.log(-np.log(uniform))


class _Walk:
    """One walk, from its first step to its last."""

    def __init__(
        self,
        view: GraphView,
        found: Sequence[Found],
        wish: Wish,
        text_of: Callable[[int], str],
        allowed: NDArray[np.bool_],
    ) -> None:
        self._view = view
        self._wish = wish
        self._text_of = text_of
        self._seen = Seen(view, allowed)
        rows = view.rows_of([one.node for one in found]).tolist()
        best = max((one.score for one in found), default=0.0)
        # What the prompt finds, by row, as a share of the best score.
        self._found = {row: one.score / best for row, one in zip(rows, found, strict=True) if allowed[row]}
        self._unlikely = 0
        self._part = associations.part_of(view, wish.seed)

    def run(self) -> Walked:
        steps = self._first()
        if not steps:
            return Walked([], 0.0)
        anchor = self._anchor()
        self._seen.add(self._found)
        if anchor is not None:
            # Also what recall finds later than by its vector: distance counts from the nearest there are.
            self._seen.add(associations.nearest(self._view, anchor, self._part))
        self._prompt = _Nearness(self._view, self._seen, self._found, anchor, self._wish)
        while len(steps) < self._wish.steps and (step := self._next(len(steps))) is not None:
            steps.append(step)
        travelled = 1 - float(self._prompt.of(self._seen.walked).mean())
        return Walked(steps, (min(1.0, max(0.0, travelled)) + self._unlikely / len(steps)) / 2)

    def _first(self) -> list[Step]:
        """One of what the prompt finds; where that is nothing, one of the most important memories."""
        self._seen.add(list(self._found)[:BEGINNINGS])
        way, liking = Way.PROMPT, np.array([self._found[row] for row in self._seen.rows.tolist()])
        if not liking.size:
            self._seen.add_most_important()
            way, liking = Way.IMPORTANCE, self._view.importance[self._seen.rows].astype(np.float64)
        if not liking.size:
            return []
        place = int(np.argmax(liking + self._noise(0, self._seen.rows)))
        self._take(place, likely=bool(liking[place] >= liking.max() - UNLIKELY))
        strength = 0.0
        if way is Way.PROMPT and self._wish.vector is not None:
            strength = float(np.clip(self._seen.vectors[place] @ self._wish.vector, 0, 1))
        return [Step(self._node(place), way, strength, 0, weak=False, found=way is Way.PROMPT)]

    def _next(self, number: int) -> Step | None:
        before = self._seen.walked[-1]
        row, vector = int(self._seen.rows[before]), self._seen.vectors[before]
        edges = associations.edges_of(self._view, row)
        words = {} if vector.any() else associations.alike_in_words(self._view, row, self._text_of(self._node(before)))
        self._seen.add([*edges, *words, *associations.nearest(self._view, vector, self._part)])
        places = self._seen.left()
        if not places.size and number < LEAST:
            self._seen.add_most_important()
            places = self._seen.left()
        if not places.size:
            return None
        links = self._links(vector, places, edges, words)
        chosen, weak = self._choose(number, places, links.strength)
        place = int(places[chosen])
        return Step(
            node=self._node(place),
            way=links.way[chosen],
            strength=float(links.strength[chosen]),
            edge_type=links.edge_type[chosen],
            weak=weak,
            found=int(self._seen.rows[place]) in self._found,
        )

    def _choose(self, number: int, places: Places, strength: Numbers) -> tuple[int, bool]:
        """Which of some places is the next, and whether its link is weaker than asked for."""
        creativity, coherence = self._wish.creativity, self._wish.coherence
        nearness = np.clip(self._prompt.of(places), 0, 1)
        # Within reach is always the nearest, however far that may be.
        reached = nearness >= nearness.max() - (LEASH + (1 - LEASH) * creativity)
        strongest = float(strength.max())
        fit = reached & (strength >= coherence * strongest)
        weak = not fit.any()
        if weak:
            fit = reached & (strength >= coherence * float(strength[reached].max()))
        linked = strength / strongest if strongest > 0 else strength
        liked = creativity * (1 - nearness) + (1 - creativity) * nearness
        wanted = (linked + liked) / 2 + self._noise(number, self._seen.rows[places])
        chosen = int(np.argmax(np.where(fit, wanted, -np.inf)))
        likely = (linked + nearness) / 2
        self._take(int(places[chosen]), likely=bool(likely[chosen] >= likely.max() - UNLIKELY))
        return chosen, weak

    def _links(self, vector: Vector, places: Places, edges: dict[int, Edge], words: dict[int, float]) -> _Links:
        cosines = (self._seen.vectors @ vector)[places]
        strength = np.clip(cosines.astype(np.float64), 0, 1)
        way = [Way.MEANING if value > 0 else Way.NONE for value in strength.tolist()]
        types = [0] * len(places)
        for i, row in enumerate(self._seen.rows[places].tolist()):
            if row in words and words[row] > strength[i]:
                strength[i], way[i] = words[row], Way.WORDS
            if row in edges and edges[row].strength >= strength[i]:
                strength[i], way[i], types[i] = edges[row].strength, Way.EDGE, edges[row].type
        return _Links(strength, way, types)

    def _take(self, place: int, *, likely: bool) -> None:
        self._seen.walk_to(place)
        self._unlikely += not likely

    def _noise(self, number: int, rows: NDArray[np.int64]) -> Numbers:
        return WARMTH * self._wish.creativity**2 * gumbel(self._wish.seed, number, self._view.node_ids[rows])

    def _node(self, place: int) -> int:
        return int(self._view.node_ids[self._seen.rows[place]])

    def _anchor(self) -> Vector | None:
        """What distance is measured from: the prompt, or the first memory where the prompt has no vector."""
        vector = self._wish.vector if self._wish.vector is not None else self._seen.vectors[self._seen.walked[0]]
        return vector if vector.any() else None


class _Nearness:
    """How near to the prompt memories are: 0 as near as one at random, 1 as near as the nearest are in the mean."""

    def __init__(self, view: GraphView, seen: Seen, found: dict[int, float], anchor: Vector | None, wish: Wish) -> None:
        self._seen = seen
        self._found = found
        self._anchor = anchor
        self._far = 0.0
        if anchor is not None:
            self._far = associations.typical_cosine(view, anchor, associations.part_of(view, wish.seed, TYPICAL))
        nearest = np.sort(self._affinity())[::-1][: wish.steps]
        self._near = max(self._far, float((nearest - self._far).sum()) / wish.steps + self._far)

    def of(self, places: Places | list[int]) -> Numbers:
        """Of places, [k]; above 1 and below 0 where they are nearer or farther than that."""
        width = self._near - self._far
        return (self._affinity()[places] - self._far) / width if width > 1e-6 else np.ones(len(places))

    def _affinity(self) -> Numbers:
        """Of all that was seen, [p]: the cosine, 0 to 1, and of what has no vector that of any memory; without an
        anchor the score that the prompt gives."""
        if self._anchor is None:
            return np.array([self._found.get(row, 0.0) for row in self._seen.rows.tolist()])
        cosines = np.clip((self._seen.vectors @ self._anchor).astype(np.float64), 0, 1)
        return np.where(self._seen.known, cosines, self._far)
