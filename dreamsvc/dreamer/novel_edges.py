"""Edges for blind spots that evidence speaks for, and whether what belongs together is found better with them
(REQ-DREAM-013)."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.blind_spots import DREAM_DISCOVERED, Spots
from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.merging import Search, Step
from dreamsvc.dreamer.probes.pair_probe import Strength, Ties, measure_lift
from dreamsvc.dreamer.spot_telling import Spot
from dreamsvc.two_stage import Index
from dreamsvc.v1.config_pb2 import RecallConfig, RemConfig
from dreamsvc.v1.dream_pb2 import Lift

# Of the memories that count as nodes, and of edges, where no number is configured.
SHARE, AT_LEAST = 0.02, 50
# Of one memory.
AT_ONE = 3
# Points of recall@5 that the lower end of the interval may lie below none.
TOLERATED = 1.0


class NovelEdge(NamedTuple):
    """An edge that a find becomes."""

    source: int  # row
    target: int
    weight: float
    confidence: float
    type: str
    evidence: str  # in words


def most_new(memories: Memories, config: RemConfig) -> int:
    """Most novel edges of a night: as configured, or 2 % of the memories, at least 50."""
    return config.max_new_edges or max(AT_LEAST, round(SHARE * int(np.count_nonzero(memories.active))))


def novel_edges(memories: Memories, spots: Spots, config: RemConfig, *, most: int) -> list[NovelEdge]:
    """Edges for the best of the verified finds, at most `most`, the best first; none between what is not found.

    At one memory there are at most AT_ONE, or a name that a dozen memories share would take up a night by itself.
    """
    findable = memories.findable
    chosen: list[Spot] = []
    ends: Counter[int] = Counter()
    for spot in spots.verified:
        room = max(ends[spot.source], ends[spot.target]) < AT_ONE
        if len(chosen) < most and room and findable[spot.source] and findable[spot.target]:
            chosen.append(spot)
            ends.update((spot.source, spot.target))
    return [
        NovelEdge(
            source=spot.source,
            target=spot.target,
            weight=config.new_edge_weight,
            confidence=config.new_edge_confidence,
            type=DREAM_DISCOVERED,
            evidence="; ".join(spot.evidence),
        )
        for spot in chosen
    ]


def gate(
    memories: Memories,
    edges: Sequence[NovelEdge],
    links_src: NDArray[np.integer],
    links_dst: NDArray[np.integer],
    links_weight: NDArray[np.floating],
    index: Index,
    stands_for: NDArray[np.int32],
    recall: RecallConfig,
    *,
    seed: int,
) -> Search[tuple[Lift, bool]]:
    """The pair probe without and with the edges, everything else being as the night leaves it; and whether they are
    refused, because it falls.

    links: of this night, which the memories do not hold yet, [k] each. index: as it will be after the night.
    stands_for: [n] or longer, the row that is read instead of each. What cannot be measured is not refused.
    """
    ties = yield from _ties(memories, edges, (links_src, links_dst, links_weight), stands_for)
    lift = yield from measure_lift(memories, ties, memories.trusted, index, index, stands_for, recall, seed=seed)
    refused = lift.measured and (lift.lift_low < -TOLERATED or lift.lift_points < 0)
    return lift, refused


def _ties(
    memories: Memories,
    edges: Sequence[NovelEdge],
    links: tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.floating]],
    stands_for: NDArray[np.int32],
) -> Search[Ties]:
    """The edges of the memories, those of this night's linking, and after them the novel ones, which are new."""
    ends = np.array([[edge.source, edge.target] for edge in edges], np.int32).reshape(-1, 2)
    src, dst, weights = links
    k, m = len(src), len(edges)
    columns = [
        np.concatenate([memories.src, src, ends[:, 0]]),
        np.concatenate([memories.dst, dst, ends[:, 1]]),
    ]
    yield Step("edges", 0, 2)
    weight = np.concatenate([memories.weights, weights, [edge.weight for edge in edges]]).astype(np.float32)
    before = np.concatenate([memories.edges_alive, np.ones(k, np.bool_), np.zeros(m, np.bool_)])
    after = before.copy()
    after[len(before) - m :] = True
    yield Step("edges", 1, 2)
    return Ties(
        src=stands_for[columns[0]].astype(np.int32),
        dst=stands_for[columns[1]].astype(np.int32),
        before=Strength(weight, before),
        after=Strength(weight, after),
        paths={},
    )
