"""Pairs worth a closer look: what rows reach and what their texts have in common with others, as far as it lies far
away and is not linked (REQ-DREAM-012). n: rows. p: pairs."""

from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.exploring import Explored
from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.merging import Search, Step
from dreamsvc.dreamer.reach import TOGETHER, Graph, Reach, found_in, reach_of, spread
from dreamsvc.dreamer.text_evidence import TextEvidence, text_strength
from dreamsvc.v1.config_pb2 import RemConfig

# Pairs that are looked at closely, for each walk.
CANDIDATES_EACH = 20
# Of one start, by what texts say and by reach.
BY_TEXT, BY_REACH = 6, 2


class Candidates(NamedTuple):
    """Pairs that lie far apart and are not linked."""

    left: NDArray[np.int64]  # [p], where the search started
    right: NDArray[np.int64]  # [p]
    distance: NDArray[np.float32]  # [p]
    dismissed: Counter[str]


def start_rows(memories: Memories, explored: Explored) -> Search[NDArray[np.int64]]:
    """Rows to start from: the nearest of all walks, then the second nearest, and after all of these the others by
    importance."""
    usable = memories.findable & memories.embedded
    near = explored.nearest.T.ravel().astype(np.int64)
    near = near[near >= 0]
    yield Step("starts", 0, 1)
    first = np.array(list(dict.fromkeys(near[usable[near]].tolist())), np.int64)
    rest = np.flatnonzero(usable)
    rest = rest[~found_in(np.sort(first), rest)]
    yield Step("starts", 0, 1)
    # No more than this are ever reached.
    if len(rest) > (wanted := CANDIDATES_EACH * max(1, len(explored.nearest))):
        rest = np.sort(rest[np.argpartition(-memories.importance[rest], wanted)[:wanted]])
    order = np.argsort(-memories.importance[rest], kind="stable")
    yield Step("starts", 1, 1)
    return np.concatenate([first, rest[order]])


def candidates_of(
    memories: Memories,
    linked: Graph,
    graph: Graph,
    evidence: TextEvidence,
    starts: NDArray[np.int64],
    config: RemConfig,
    *,
    most: int,
) -> Search[Candidates]:
    """Pairs of a start and what it reaches in `graph` or has words in common with, until there are `most`.

    linked: what is linked there is no candidate either.
    """
    n = len(memories.node_ids)
    usable, owners = memories.findable & memories.embedded, memories.owners()
    rejected = np.sort(pair_keys(memories.rejected[:, 0], memories.rejected[:, 1], n))
    dismissed: Counter[str] = Counter()
    seen: set[int] = set()
    lefts, rights = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    distances, count = [np.zeros(0, np.float32)], 0
    for first in range(0, len(starts), TOGETHER):
        if count >= most:
            break
        part = np.sort(starts[first : first + TOGETHER])
        reach = yield from reach_of(graph, part, config.max_causal_depth)
        left, right, text, reached = _around(part, evidence, reach)
        keys = pair_keys(left, right, n)
        # Of two starts that lead to each other the first has the pair.
        _, once = np.unique(keys, return_index=True)
        kept = np.zeros(len(keys), np.bool_)
        kept[once] = True
        kept &= usable[right] & np.array([key not in seen for key in keys.tolist()], np.bool_)
        left, right, text, reached, keys = left[kept], right[kept], text[kept], reached[kept], keys[kept]
        yield Step("candidates", min(count, most), most)
        distance = 1 - np.einsum("pd,pd->p", memories.vectors[left], memories.vectors[right])
        why = np.full(len(left), "", object)
        why[owners[left] == owners[right]] = "together"
        why[found_in(rejected, keys)] = "rejected_before"
        why[linked.are_linked(left, right) | graph.are_linked(left, right)] = "linked"
        why[distance < config.min_semantic_leap] = "near"
        apart = np.flatnonzero(why == "")
        apart = apart[_best(left[apart], text[apart], reached[apart], right[apart])][: most - count]
        gone = np.flatnonzero(why != "")
        dismissed.update(why[gone].tolist())
        seen.update(keys[gone].tolist())
        seen.update(keys[apart].tolist())
        lefts.append(left[apart])
        rights.append(right[apart])
        distances.append(distance[apart].astype(np.float32))
        count += len(apart)
        yield Step("candidates", count, most)
    return Candidates(np.concatenate(lefts), np.concatenate(rights), np.concatenate(distances), dismissed)


def _around(
    starts: NDArray[np.int64], evidence: TextEvidence, reach: Reach
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Starts, rows around them, how much their texts have in common, and how well the row is reached; pairs once."""
    n = evidence.n
    owner, other = evidence.beside(starts)
    reached, place = spread(reach.indptr, np.arange(len(starts)))
    keys = np.concatenate([owner, reached]) * n + np.concatenate([other, reach.row[place]])
    keys, at = np.unique(keys, return_inverse=True)
    strength = np.zeros(len(keys), np.float32)
    strength[at[len(owner) :]] = reach.strength[place]
    left, right = starts[keys // n], keys % n
    apart = left != right
    left, right, strength = left[apart], right[apart], strength[apart]
    return left, right, text_strength(evidence.mention(left, right), evidence.shared(left, right)), strength


def _best(
    left: NDArray[np.int64], text: NDArray[np.float32], reached: NDArray[np.float32], right: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Places of the BY_TEXT best of each start by their texts and the BY_REACH best of its others, ascending."""
    order = np.lexsort((right, -reached, -text, left))
    rank = np.arange(len(order)) - np.searchsorted(left[order], left[order])
    by_text = order[(rank < BY_TEXT) & (text[order] > 0)]
    rest = np.setdiff1d(np.flatnonzero(reached > 0), by_text)
    order = rest[np.lexsort((right[rest], -reached[rest], left[rest]))]
    rank = np.arange(len(order)) - np.searchsorted(left[order], left[order])
    return np.sort(np.concatenate([by_text, order[rank < BY_REACH]]))


def pair_keys(left: NDArray[np.integer], right: NDArray[np.integer], n: int) -> NDArray[np.int64]:
    """One number for each pair of rows, whichever comes first."""
    return np.minimum(left, right).astype(np.int64) * n + np.maximum(left, right)
