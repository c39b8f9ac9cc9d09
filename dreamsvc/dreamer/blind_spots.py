"""Blind spots: memories that lie far apart in meaning and yet belong together (REQ-DREAM-012).

Distance alone selects nothing: 97 of 100 random pairs lie 0.7 apart. So the search begins near where walks ended, and
looks there at what the memories reach over edges and at what their texts have in common with others; of that it keeps
what lies far away. Where the walks lead to few, the most important memories are started from too.

Verified is what evidence speaks for: a title said in the other's text, rare names of both, neighbours in one session,
or a link score learned from the memory's own links, which never verifies alone but beside reach that overlaps. What
only overlaps is a hypothesis. The same search over edges whose ends were exchanged tells what chance would find.

n: rows. q: walks. L: their steps. d: numbers of a point. p: pairs.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.exploring import Explored
from dreamsvc.dreamer.link_scores import LinkScorer, learn
from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.merging import Edges, Search, let_go
from dreamsvc.dreamer.reach import Graph, graph_of, shuffled, together, walked_edges
from dreamsvc.dreamer.shortcuts import are_shortcuts
from dreamsvc.dreamer.spot_candidates import CANDIDATES_EACH, Candidates, candidates_of, start_rows
from dreamsvc.dreamer.spot_evidence import Judged, judge
from dreamsvc.dreamer.spot_telling import Spot, Teller
from dreamsvc.dreamer.text_evidence import TextEvidence, read_texts
from dreamsvc.v1.config_pb2 import RemConfig
from dreamsvc.v1.dream_pb2 import NullModel

# Edges that this night's linking made have no weight yet.
LINK_STRENGTH = 0.7
# What dreams found by structure is nothing to learn from: they would believe themselves.
DREAM_DISCOVERED = "DREAM_DISCOVERED"
# The best are told; others will be found again.
MOST_VERIFIED, MOST_HYPOTHESES = 2_000, 100


class Spots(NamedTuple):
    """What a night found."""

    verified: list[Spot]  # the best first
    hypotheses: list[Spot]
    candidates: int  # pairs that were looked at: all of these and those that were dismissed
    dismissed: dict[str, int]  # by reason
    null: NullModel
    scorer: LinkScorer
    texts_read: int


def find_blind_spots(
    memories: Memories,
    explored: Explored,
    points: NDArray[np.float32],
    links_src: NDArray[np.integer],
    links_dst: NDArray[np.integer],
    config: RemConfig,
    *,
    seed: int,
) -> Search[Spots]:
    """Blind spots near where walks ended; the same for the same seed.

    points: f32[n, d], positions in the ball, NaN for none. links_src, links_dst: rows, links of this night that the
    memories do not hold yet.
    """
    n = len(memories.node_ids)
    evidence = yield from read_texts(memories)
    walked = yield from walked_edges(memories)
    links = Edges(
        links_src.astype(np.int64), links_dst.astype(np.int64), np.full(len(links_src), LINK_STRENGTH, np.float32)
    )
    edges = together([walked.edges, links])
    types = memories.types[walked.places]
    kinds = np.concatenate([types, np.full(len(links_src), len(memories.type_names), np.int32)])
    self_made = np.isin(types, memories.types_named((DREAM_DISCOVERED,)))
    self_made |= are_shortcuts(memories)[walked.places]
    shown = np.concatenate([~self_made, np.ones(len(links_src), np.bool_)])
    graph = yield from graph_of(edges, n)
    hops = config.max_causal_depth // 2
    leap = config.min_semantic_leap
    scorer = yield from learn(memories, edges, shown, graph, evidence, hops=hops, leap=leap, seed=seed)
    starts = yield from start_rows(memories, explored)
    most = CANDIDATES_EACH * max(1, len(explored.nearest))
    found = yield from candidates_of(memories, graph, graph, evidence, starts, config, most=most)
    judged = yield from judge(memories, graph, evidence, found, scorer, config)
    verified = judged.verified()
    hypotheses = ~verified & (judged.overlap.overlap >= config.min_causal_overlap)
    found.dismissed["no_evidence"] += int(np.count_nonzero(~verified & ~hypotheses))
    chance = yield from graph_of((yield from shuffled(edges, kinds, seed=seed)), n)
    null = yield from _null_model(memories, graph, chance, evidence, starts, config, found=(found, judged), most=most)
    told = Teller(memories, explored, points, evidence, found, judged)
    best = judged.strength() * found.distance
    spots = yield from told.spots(np.flatnonzero(verified), best, MOST_VERIFIED)
    # Of structure alone the strongest overlap over the longest distance is told.
    guesses = yield from told.spots(
        np.flatnonzero(hypotheses), judged.overlap.overlap * found.distance, MOST_HYPOTHESES
    )
    found.dismissed["over_limit"] += int(np.count_nonzero(verified | hypotheses)) - len(spots) - len(guesses)
    yield from let_go(evidence.titles.held)
    dismissed = {reason: count for reason, count in sorted(found.dismissed.items()) if count}
    looked_at = len(spots) + len(guesses) + sum(dismissed.values())
    return Spots(spots, guesses, looked_at, dismissed, null, scorer, evidence.read)


def _null_model(
    memories: Memories,
    graph: Graph,
    chance: Graph,
    evidence: TextEvidence,
    starts: NDArray[np.int64],
    config: RemConfig,
    *,
    found: tuple[Candidates, Judged],
    most: int,
) -> Search[NullModel]:
    """Finds of both graphs that texts or times speak for and whose reach overlaps, and the overlap of the former."""
    if not len(graph.keys):
        return NullModel()
    plain = LinkScorer.unknown()
    others = yield from candidates_of(memories, graph, chance, evidence, starts, config, most=most)
    judged = yield from judge(memories, chance, evidence, others, plain, config)
    told = found[1]._replace(linked=np.zeros(len(found[0].left)))
    counts, means = list[int](), list[float]()
    first = min(int(one.verified().sum()) for one in (told, judged))
    for pairs, one in ((found[0], told), (others, judged)):
        best = np.argsort(-(one.strength() * pairs.distance * one.verified()), kind="stable")[:first]
        counts.append(int((one.verified() & (one.overlap.overlap >= config.min_causal_overlap)).sum()))
        means.append(float(one.overlap.overlap[best].mean()) if first else 0.0)
    return NullModel(
        measured=True, overlap=means[0], overlap_shuffled=means[1], found=counts[0], found_shuffled=counts[1]
    )
