"""What speaks for pairs: texts, times, a learned link score, and how far the reach of both overlaps; how much that is
worth together, and how sure it makes (REQ-DREAM-012). p: pairs."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.link_scores import LinkScorer, features_of
from dreamsvc.dreamer.memories import NEVER, NOWHERE, Memories
from dreamsvc.dreamer.merging import Search, Step
from dreamsvc.dreamer.reach import Graph, Overlap, overlap_of, reach_of
from dreamsvc.dreamer.spot_candidates import Candidates
from dreamsvc.dreamer.text_evidence import TextEvidence, text_strength
from dreamsvc.v1.config_pb2 import RemConfig

# What neighbours in time and a link score are worth beside a mention, which is worth 3, and a name, worth 1. What only
# looks like a link comes last.
ADJACENT, LINKED = 0.5, 0.2
# Names that many share are no evidence alone: together they must be worth a whole one that 5 memories have.
LEAST_RARE = 0.4
# How sure each kind makes, the rest is doubt: confidence = 1 - product of (1 - share x strength).
SURE = {"mention": 0.85, "rare": 0.6, "adjacent": 0.3, "linked": 0.3, "overlap": 0.3}
# Two that follow each other in one session are neighbours, and half as much those with one between them.
NEIGHBOURS = (0.0, 1.0, 0.5)
PAIRS = 512  # in one step
MINUTE_US = 60_000_000


class Judged(NamedTuple):
    """What speaks for candidates, [p] each."""

    mention: NDArray[np.float32]
    rare: NDArray[np.float32]
    adjacent: NDArray[np.float32]  # 1 for who follows whom in one session, a half with one between
    linked: NDArray[np.float64]  # link score where it counts, else 0
    overlap: Overlap

    def strength(self) -> NDArray[np.float64]:
        """Evidence in one number."""
        return text_strength(self.mention, self.rare) + ADJACENT * self.adjacent + LINKED * self.linked

    def verified(self) -> NDArray[np.bool_]:
        return (self.mention > 0) | (self.rare >= LEAST_RARE) | (self.adjacent > 0) | (self.linked > 0)

    def confidence(self) -> NDArray[np.float64]:
        """0 to 1."""
        doubt = (1 - SURE["mention"] * self.mention) * (1 - SURE["rare"] * np.minimum(self.rare, 1))
        doubt *= (1 - SURE["adjacent"] * self.adjacent) * (1 - SURE["linked"] * self.linked)
        return 1 - doubt * (1 - SURE["overlap"] * self.overlap.overlap)


def judge(
    memories: Memories,
    graph: Graph,
    evidence: TextEvidence,
    found: Candidates,
    scorer: LinkScorer,
    config: RemConfig,
) -> Search[Judged]:
    """What speaks for the candidates; the link score counts only where reach overlaps too."""
    left, right = found.left, found.right
    reach = yield from reach_of(graph, np.unique(np.concatenate([left, right])), config.max_causal_depth // 2)
    overlap = yield from overlap_of(reach, left, right, graph.n)
    mention, rare = np.zeros(len(left), np.float32), np.zeros(len(left), np.float32)
    adjacent = np.zeros(len(left), np.float32)
    for start in range(0, len(left), PAIRS):
        part = slice(start, start + PAIRS)
        mention[part] = evidence.mention(left[part], right[part])
        rare[part] = evidence.shared(left[part], right[part])
        yield Step("evidence", start, len(left))
    in_session = _in_one_session(memories, left, right)
    places: dict[int, dict[int, int]] = {}
    for at in np.flatnonzero(in_session).tolist():
        session = int(memories.sessions[left[at]])
        if session not in places:
            places[session] = _places(memories, session)
        apart = abs(places[session][int(left[at])] - places[session][int(right[at])])
        adjacent[at] = NEIGHBOURS[apart] if apart < len(NEIGHBOURS) else 0.0
        yield Step("evidence", at, len(left))
    linked = np.zeros(len(left))
    if scorer.usable:
        features = yield from features_of(memories, graph, evidence, left, right, overlap.overlap)
        scores = scorer.score(features)
        # All of one session looks alike; who is whose neighbour there is known.
        counts = (scores >= scorer.bar) & (overlap.overlap >= config.min_causal_overlap) & ~in_session
        linked = np.where(counts, scores, 0.0)
    return Judged(mention, rare, adjacent, linked, overlap)


def _in_one_session(memories: Memories, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
    session = memories.sessions[left]
    return (session != NOWHERE) & (session == memories.sessions[right])


def _places(memories: Memories, session: int) -> dict[int, int]:
    """Where in its session each memory comes, by event time or else by when it was made."""
    inside = np.flatnonzero((memories.sessions == session) & memories.alive)
    times = memories.event_us[inside]
    if (times == NEVER).any():
        times = memories.created_us[inside]
    return {row: place for place, row in enumerate(inside[np.lexsort((inside, times))].tolist())}


def time_apart(memories: Memories, left: int, right: int) -> str:
    """How far apart two of one session were told, in words."""
    one, two = int(memories.event_us[left]), int(memories.event_us[right])
    if NEVER in (one, two):
        return "told one after the other in one session"
    minutes = abs(one - two) / MINUTE_US
    if minutes < 1:
        return "told within a minute in one session"
    return f"told {minutes:.0f} minute{'' if round(minutes) == 1 else 's'} apart in one session"
