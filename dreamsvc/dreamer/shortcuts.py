"""Which paths the replay takes so often that an edge of their own is worth it (REQ-DREAM-036, 037).

Walks start at the replayed memories and go over the edges of what stands for them: a memory itself, or its container.
A path of 0.7 has no edge below 0.7, so the walks that shortcuts come from follow such edges alone; where they could
follow all, most would leave the paths that can pass. As many walks again follow every edge: they find what is walked
as often and is refused for its confidence, which the first ones would hardly ever see.

n: rows. e: edges. k: edges between what stands for memories.
"""

# JAX leaves some of its own types out.
# pyright: reportUnknownMemberType=false

from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.adjacency import Adjacency, by_end
from dreamsvc.dreamer.memories import NOT_WALKED, Memories
from dreamsvc.dreamer.merging import Search, Step
from dreamsvc.v1.config_pb2 import ShortcutConfig
from kernels.padding import capacity, pad_column
from kernels.paths import OutEdges, PathCounts, count_paths, out_edges, tally, walk_paths

CAUSAL = "CAUSAL"
# Walks drawn and counted in one step: about 3 ms.
WALKS = 4_096
# Paths looked at in one step.
LOOKED_AT = 8_192
# Confidences are of single precision: three edges of 0.9 and a limit of 0.729 are equal.
WHIM = 1e-6


class Shortcut(NamedTuple):
    """An edge that stands for a path."""

    source: int  # row of the memory at which the path begins, a member where a container stands for it
    target: int
    # Rows along it, both ends included; the container where it was entered by one member and left by another.
    path: list[int]
    confidence: float  # product over the path
    weight: float  # product over the path
    traversals: int  # walks that took it
    edges: list[int]  # of the snapshot, along it


class FoundShortcuts(NamedTuple):
    """What was found."""

    edges: list[Shortcut]  # the strongest first
    walks: int
    paths: int  # of 3 or 4 edges, that any walk took: those of `edges` and all that were rejected
    rejected: dict[str, int]  # by reason


class _Graph(NamedTuple):
    """Living edges by the row that stands for their source, ascending."""

    adjacency: Adjacency  # places of the snapshot's edges
    src: NDArray[np.int32]  # [k]
    dst: NDArray[np.int32]  # [k]
    weight: NDArray[np.float32]  # [k]
    confidence: NDArray[np.float32]  # [k]
    is_shortcut: NDArray[np.bool_]  # [k], not to be walked: each shortcut stands for real edges


def are_shortcuts(memories: Memories) -> NDArray[np.bool_]:
    """Which edges stand for a path, [e]: causal ones that no user and no import made."""
    if CAUSAL not in memories.type_names:
        return np.zeros(len(memories.edge_ids), np.bool_)
    return (memories.types == list(memories.type_names).index(CAUSAL)) & ~memories.trusted


def find_shortcuts(
    memories: Memories, rows: NDArray[np.integer], config: ShortcutConfig, *, seed: int
) -> Search[FoundShortcuts]:
    """At most `max_shortcuts_per_cycle` edges for paths that walks from these rows take; the same for the same seed."""
    owners = memories.owners()
    yield Step("walking", 0, len(rows))
    graph = yield from _graph(memories, owners)
    starts = np.unique(owners[rows])
    starts = starts[graph.adjacency.indptr[starts + 1] > graph.adjacency.indptr[starts]]
    walkable = ~graph.is_shortcut
    passing = walkable & (graph.confidence >= config.min_confidence - WHIM)
    counts: dict[bytes, int] = {}
    walks = 0
    key = jax.random.fold_in(jax.random.key(np.uint32(seed & 0xFFFFFFFF), impl="threefry2x32"), np.uint32(seed >> 32))
    for number, chosen in enumerate((passing, walkable)):
        yield Step("walking", number * len(starts), 2 * len(starts))
        walked = yield from _walked(jax.random.fold_in(key, number), memories, graph, starts, chosen, config.walkers)
        walks += len(starts) * config.walkers
        for place, (path, taken) in enumerate(walked.items()):
            # A path that both kinds of walks took is not walked more often for that.
            counts[path] = max(taken, counts.get(path, 0))
            if place % LOOKED_AT == 0:
                yield Step("counting paths", place, len(walked))
    frequent = count_paths(
        counts,
        graph.src,
        graph.dst,
        graph.weight,
        graph.confidence,
        edges=_room(memories),
        least=config.min_traversals,
    )
    yield Step("shortcuts", 0, len(frequent.hops))
    edges, rejected = yield from _chosen(memories, graph, frequent, config)
    rejected["few_traversals"] = len(counts) - len(frequent.hops)
    return FoundShortcuts(edges, walks, len(counts), {reason: count for reason, count in rejected.items() if count})


def starts_a_step(walkers: int) -> int:
    """Memories that walks begin at in one step."""
    return max(1, WALKS // walkers)


def _room(memories: Memories) -> int:
    """E of the walks."""
    return capacity(len(memories.edge_ids))


def _graph(memories: Memories, owners: NDArray[np.int32]) -> Search[_Graph]:
    src, dst = owners[memories.src], owners[memories.dst]
    yield Step("walking", 0, 1)
    ignored = memories.types_named(NOT_WALKED)
    wanted = memories.edges_alive & (src != dst) & ~np.isin(memories.types, ignored)
    yield Step("walking", 0, 1)
    wanted &= memories.alive[src] & memories.alive[dst]
    adjacency = yield from by_end(src, wanted, len(memories.node_ids))
    edge = adjacency.edge
    columns = (src[edge], dst[edge], memories.weights[edge], memories.confidences[edge])
    yield Step("walking", 0, 1)
    graph = _Graph(adjacency, *columns, are_shortcuts(memories)[edge])
    yield Step("walking", 0, 1)
    return graph


def _walked(
    key: jax.Array,
    memories: Memories,
    graph: _Graph,
    starts: NDArray[np.int32],
    walkable: NDArray[np.bool_],
    walkers: int,
) -> Search[dict[bytes, int]]:
    """How many walks from the starts took each path; walkable: [k]."""
    nodes, edges = capacity(len(memories.node_ids)), _room(memories)
    table = out_edges(graph.src, graph.dst, graph.weight, walkable, nodes=nodes, edges=edges)
    yield Step("walking", 0, len(starts))
    counts: dict[bytes, int] = {}
    size = starts_a_step(walkers)
    for number, start in enumerate(range(0, len(starts), size)):
        part = pad_column(starts[start : start + size], nodes, size=size)
        walks = _walks(jax.random.fold_in(key, number), part, table, walkers)
        tally(counts, walks, edges=edges)
        yield Step("walking", start, len(starts))
    return counts


def _walks(key: jax.Array, rows: NDArray[np.int32], table: OutEdges, walkers: int) -> NDArray[np.int32]:
    return np.asarray(walk_paths(key, jax.device_put(rows), table, walkers=walkers))


def _chosen(
    memories: Memories, graph: _Graph, frequent: PathCounts, config: ShortcutConfig
) -> Search[tuple[list[Shortcut], dict[str, int]]]:
    """The strongest of the paths, one for each pair of ends, and how many of the others were rejected for what."""
    passing = frequent.confidence >= config.min_confidence - WHIM
    rejected = {"low_confidence": int(np.count_nonzero(~passing)), "exists": 0, "over_limit": 0}
    order = np.lexsort((-frequent.taken, -frequent.confidence, -frequent.weight))
    order = order[passing[order]]
    chosen: list[Shortcut] = []
    joined: set[tuple[int, int]] = set()
    for done, place in enumerate(order.tolist()):
        ends = (int(frequent.nodes[place, 0]), int(frequent.nodes[place, 1]))
        if ends in joined or _is_direct(memories, graph, *ends):
            rejected["exists"] += 1
        elif len(chosen) == config.max_shortcuts_per_cycle:
            rejected["over_limit"] += 1
        else:
            joined.add(ends)
            chosen.append(_shortcut(memories, graph, frequent, place))
        if done % 256 == 255:
            yield Step("shortcuts", done, len(order))
    return chosen, rejected


def _is_direct(memories: Memories, graph: _Graph, source: int, target: int) -> bool:
    """Whether one of the edges from source to target is causal: a user's, or a shortcut."""
    places = slice(int(graph.adjacency.indptr[source]), int(graph.adjacency.indptr[source + 1]))
    edges = graph.adjacency.edge[places][graph.dst[places] == target]
    return any(memories.type_names[place] == CAUSAL for place in memories.types[edges].tolist())


def _shortcut(memories: Memories, graph: _Graph, paths: PathCounts, place: int) -> Shortcut:
    steps = paths.edges[place, : int(paths.hops[place])]
    edges = graph.adjacency.edge[steps]
    left, entered = memories.src[edges].tolist(), memories.dst[edges].tolist()
    between = [
        there if there == on else int(owner)
        for there, on, owner in zip(entered[:-1], left[1:], graph.src[steps[1:]], strict=True)
    ]
    return Shortcut(
        source=left[0],
        target=entered[-1],
        path=[left[0], *between, entered[-1]],
        confidence=float(paths.confidence[place]),
        weight=float(paths.weight[place]),
        traversals=int(paths.taken[place]),
        edges=edges.tolist(),
    )
