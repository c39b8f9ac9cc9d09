"""Which paths the replay takes again and again: walks along the edges, and how often each path was walked.

A path of 3 or 4 edges that many walks take is worth an edge of its own, a shortcut (REQ-DREAM-036, 037). Walks are
drawn on the device, paths counted on the host. R: rows walked from. W: walkers of each. N, E: capacity for nodes and
edges. M: edges that may be walked.
"""

# JAX leaves some of its own types out.
# pyright: reportUnknownMemberType=false

from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from kernels.draws import words
from kernels.padding import pad_column
from kernels.program import program

HOPS = 4
SHORTEST = 3
# Weights are drawn by as integers, so that every device draws the same edge; 1 is so much.
UNIT = 1 << 12


class OutEdges(NamedTuple):
    """The edges that lead away from each node: those of node u are the places indptr[u] to indptr[u+1]."""

    indptr: jax.Array  # i32[N+1]
    edge: jax.Array  # i32[E], then E
    target: jax.Array  # i32[E], then N
    upto: jax.Array  # u32[E], weights of a node's edges summed up to and with this one, in 1 / UNIT


class PathCounts(NamedTuple):
    """Paths that were walked, the most frequent first."""

    edges: NDArray[np.int32]  # [p, 4], in walking order; E in the last place of a path of 3
    hops: NDArray[np.int32]  # [p], 3 or 4
    nodes: NDArray[np.int32]  # [p, 2], where it begins and ends
    taken: NDArray[np.int32]  # [p], walks that took it
    confidence: NDArray[np.float32]  # [p], product over its edges
    weight: NDArray[np.float32]  # [p], product over its edges


def out_edges(
    src: NDArray[np.int32],
    dst: NDArray[np.int32],
    weight: NDArray[np.float32],
    walkable: NDArray[np.bool_],
    *,
    nodes: int,
    edges: int,
) -> OutEdges:
    """The adjacency of the walks, for the device.

    src, dst: i32[e], rows below N; an edge is walked from src to dst. weight: f32[e], 0..1. walkable: bool[e], alive
    and of enough confidence: where all of a path must reach 0.7, so must each of its edges. nodes, edges: N and E.
    Raises ValueError for a node with more than 2^32 / UNIT edges.
    """
    ticket = np.rint(np.clip(weight, 0.0, 1.0) * UNIT).astype(np.int64)
    edge = np.flatnonzero(walkable & (ticket > 0) & (src != dst)).astype(np.int32)
    # Stable: a node's edges stand in the order of the graph whatever the capacity, so a draw finds the same one.
    edge = edge[np.argsort(src[edge], kind="stable")]
    degree = np.bincount(src[edge], minlength=nodes)
    if degree.max(initial=0) > 2**32 // UNIT - 1:
        raise ValueError("a node has too many edges to draw one of them")
    indptr = np.zeros(nodes + 1, np.int32)
    np.cumsum(degree, out=indptr[1:])
    total = np.concatenate([[0], np.cumsum(ticket[edge])])
    upto = total[1:] - np.repeat(total[indptr[:-1]], degree)
    return OutEdges(
        indptr=jnp.asarray(indptr),
        edge=jnp.asarray(pad_column(edge, edges, size=edges)),
        target=jnp.asarray(pad_column(dst[edge], nodes, size=edges)),
        upto=jnp.asarray(pad_column(upto.astype(np.uint32), 0, size=edges)),
    )


@program(static=("walkers",), donated=())
def walk_paths(key: jax.Array, rows: jax.Array, graph: OutEdges, *, walkers: int) -> jax.Array:
    """Walks of up to 4 edges, `walkers` from each of the rows; the edges taken, i32[R W, 4], E after the end.

    Each next edge is drawn with a probability in proportion to its weight. A walk ends where no edge leads on and
    where it would come back to a node it has seen. rows: i32[R], N in the empty places. The walks of row i are
    i W to (i + 1) W - 1 and depend on the key, i and the graph alone. R W is below 2^31.
    """
    edges = graph.edge.shape[0]
    here = jnp.repeat(rows, walkers)
    nodes = graph.indptr.shape[0] - 1
    seen = [here]
    taken: list[jax.Array] = []
    for bits in words(key, here.shape[0], HOPS):
        first = graph.indptr.at[here].get(mode="fill", fill_value=0)
        end = graph.indptr.at[here + 1].get(mode="fill", fill_value=0)
        # Row N is no node, but its end is the last node's.
        end = jnp.where(here < nodes, end, first)
        total = jnp.where(end > first, graph.upto.at[end - 1].get(mode="fill", fill_value=0), 0)
        place = _first_above(graph.upto, first, end, bits % jnp.maximum(total, 1))
        there = jnp.where(end > first, graph.target.at[place].get(mode="fill", fill_value=nodes), nodes)
        new = there < nodes
        for before in seen:
            new &= there != before
        taken.append(jnp.where(new, graph.edge.at[place].get(mode="fill", fill_value=edges), edges))
        here = jnp.where(new, there, nodes)
        seen.append(here)
    return jnp.stack(taken, axis=1)


def _first_above(values: jax.Array, first: jax.Array, end: jax.Array, bound: jax.Array) -> jax.Array:
    """The first place from `first` to `end` whose value exceeds `bound`; values ascend between the two."""

    def halve(_: int, span: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = span
        middle = (low + high) // 2
        above = values.at[middle].get(mode="fill", fill_value=0) > bound
        open_ = low < high
        return jnp.where(open_ & ~above, middle + 1, low), jnp.where(open_ & above, middle, high)

    halvings = values.shape[0].bit_length()
    return cast("tuple[jax.Array, jax.Array]", jax.lax.fori_loop(0, halvings, halve, (first, end)))[0]


def tally(counts: dict[bytes, int], walks: NDArray[np.int32], *, edges: int) -> None:
    """Adds the paths of 3 and of 4 edges of some walks to the counts, in place.

    walks: i32[B, 4], from `walk_paths`; edges: their E. A walk of 4 edges takes one path of 4 and the two of 3 within
    it. A path is known by the bytes of its i32[4], E in the last place of a path of 3. About 0.5 us a walk.
    """
    three = np.full((2, len(walks), HOPS), edges, np.int32)
    three[0, :, :SHORTEST], three[1, :, :SHORTEST] = walks[:, :SHORTEST], walks[:, 1:]
    paths = np.concatenate([three[0], three[1], walks])
    last = np.concatenate([np.full(2 * len(walks), SHORTEST - 1), np.full(len(walks), HOPS - 1)])
    paths = paths[paths[np.arange(len(paths)), last] < edges]
    for path in np.ascontiguousarray(paths).view(f"V{4 * HOPS}").ravel().tolist():
        counts[path] = counts.get(path, 0) + 1


def count_paths(
    counts: dict[bytes, int],
    src: NDArray[np.int32],
    dst: NDArray[np.int32],
    weight: NDArray[np.float32],
    confidence: NDArray[np.float32],
    *,
    edges: int,
    least: int,
) -> PathCounts:
    """The paths that at least `least` walks took, the most frequent first, then by their edges.

    counts: from `tally`, and edges its E. src, dst: i32[e]. weight, confidence: f32[e], 0..1.
    """
    frequent = {path: taken for path, taken in counts.items() if taken >= least}
    paths = np.frombuffer(b"".join(frequent), np.int32).reshape(-1, HOPS)
    taken = np.fromiter(frequent.values(), np.int32, len(frequent))
    order = np.lexsort((*paths.T[::-1], -taken))
    return _described(paths[order], taken[order], src, dst, weight, confidence, edges)


def _described(
    paths: NDArray[np.int32],
    taken: NDArray[np.int32],
    src: NDArray[np.int32],
    dst: NDArray[np.int32],
    weight: NDArray[np.float32],
    confidence: NDArray[np.float32],
    edges: int,
) -> PathCounts:
    hops = (paths < edges).sum(axis=1).astype(np.int32)
    last = np.take_along_axis(paths, hops[:, None] - 1, axis=1)[:, 0]
    # What stands for no edge is replaced by a factor of 1.
    some = np.where(paths < edges, paths, 0)
    products = [
        np.where(paths < edges, column[some], 1.0).prod(axis=1).astype(np.float32) for column in (confidence, weight)
    ]
    return PathCounts(paths, hops, np.stack([src[paths[:, 0]], dst[last]], axis=1), taken, *products)
