"""Parts of a night beside the straightforward way to do the same, over the same memories; what `compress` compares.

    python -m benchmarks.straightforward TASK SNAPSHOT

A process of its own for each; tells its seconds, its peak of memory and what it found as one line of JSON.
"""

# scipy has no types of its own.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

import json
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from benchmarks import harness
from benchmarks.dream_arrays import read_memories
from benchmarks.laps import forget_peak, peak_mb
from benchmarks.made_memory import COMMUNITY_NODES
from dreamsvc import clock
from dreamsvc import config as configuration
from dreamsvc.dreamer.clusters import TopicPlan, topic_clusters
from dreamsvc.dreamer.compiling import calls_of
from dreamsvc.dreamer.consolidation import EDGE_BONUS, NEAREST, ROUNDS
from dreamsvc.dreamer.memories import Memories
from dreamsvc.dreamer.merging import Edges, Rows, Search, Step
from dreamsvc.dreamer.redundancy import STEP_PLACES
from dreamsvc.dreamer.shortcuts import find_shortcuts
from dreamsvc.facet_codes import decode_centroid, encode_centroid, encode_facets
from kernels.compile_ahead import compile_ahead
from kernels.near_duplicates import NearDuplicates, find_near_duplicates, plan_tables, room_for
from kernels.padding import capacity

SEED = 17
PACKAGES = harness.ROOT / "build" / "compress_packages"
# Communities of the made memory that are clustered: what is quadratic, or slow in Python, must end.
PART_COMMUNITIES = 200


# ── near-duplicates ─────────────────────────────────────────────────────────────


def near_duplicates(memories: Memories, threshold: float) -> dict[str, Any]:
    """Random hyperplanes, as the dream looks for them."""
    n, dim = memories.vectors.shape
    room = room_for(capacity(n), dim)
    room[:n] = memories.vectors[:]
    alive = np.zeros(capacity(n), np.bool_)
    alive[:n] = True
    plan = plan_tables(n, threshold)
    key, vectors, living = jax.random.key(SEED), jax.device_put(room), jax.device_put(alive)

    def search() -> NearDuplicates:
        return _done(
            find_near_duplicates(key, vectors, living, threshold=threshold, plan=plan, places=STEP_PLACES, most=n)
        )

    # Once before, so that what it needs is compiled, as it is in a dream.
    search()
    began = clock.precise_s()
    found = search()
    return {"seconds": clock.precise_s() - began, "pairs": len(found.pairs), "tables": plan.tables}


def near_duplicates_numpy(memories: Memories, threshold: float) -> dict[str, Any]:
    """Every memory against every other, in tiles."""
    vectors, rows, pairs = memories.vectors[:], 512, 0
    began = clock.precise_s()
    for start in range(0, len(vectors), rows):
        cosines = vectors[start : start + rows] @ vectors[start:].T
        low, high = np.nonzero(cosines >= threshold)
        pairs += int(np.count_nonzero(low < high))
    return {"seconds": clock.precise_s() - began, "pairs": pairs}


def near_duplicates_faiss(memories: Memories, threshold: float) -> dict[str, Any]:
    """An inverted file of 4 sqrt(n) lists, of which 8 are looked into."""
    faiss: Any = import_module("faiss")
    vectors = memories.vectors[:]
    lists = 1 << int(np.log2(4 * np.sqrt(len(vectors))))
    dim = vectors.shape[1]
    began = clock.precise_s()
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter = 10
    index.train(vectors)
    index.add(vectors)
    index.nprobe = 8
    limits: NDArray[np.int64]
    others: NDArray[np.int64]
    limits, _, others = index.range_search(vectors, threshold)
    own = np.repeat(np.arange(len(vectors)), np.diff(limits.astype(np.int64)))
    pairs = int(np.count_nonzero(own < others))
    return {"seconds": clock.precise_s() - began, "pairs": pairs, "lists": lists, "looked_into": 8}


# ── clusters ────────────────────────────────────────────────────────────────────


class _Part(NamedTuple):
    """Some whole communities of the made memory."""

    vectors: NDArray[np.float32]
    community: NDArray[np.int64]
    edges: Edges
    target: int


def _part_of(memories: Memories, communities: int) -> _Part:
    """Communities of the made memory; row i belongs to community i modulo their number."""
    community = np.arange(len(memories.node_ids)) % communities
    rows = np.flatnonzero(community < PART_COMMUNITIES)
    place = np.full(len(community), -1)
    place[rows] = np.arange(len(rows))
    src, dst = place[memories.src], place[memories.dst]
    inside = (src >= 0) & (dst >= 0)
    edges = Edges(src[inside], dst[inside], memories.weights[inside])
    return _Part(memories.vectors[rows], community[rows], edges, max(1, len(rows) // 10))


def _nothing_against(left: Rows, right: Rows) -> Search[bool]:
    return False
    yield Step("", 0, 0)


def clusters(part: _Part) -> dict[str, Any]:
    """Topic clusters as the dream makes them, ten to one, without reading a text."""
    n = len(part.vectors)
    plan = TopicPlan(part.target, 10, ROUNDS, 0.2, EDGE_BONUS, NEAREST)
    lots = np.zeros(n, np.int64)
    began = clock.precise_s()
    found = _done(topic_clusters(part.vectors, np.arange(n), lots, part.edges, _nothing_against, plan, seed=SEED))
    return _clustered(clock.precise_s() - began, part, found)


def clusters_networkx(part: _Part) -> dict[str, Any]:
    """Louvain over the edges, weighted by the cosine of their ends."""
    networkx: Any = import_module("networkx")
    began = clock.precise_s()
    graph: Any = networkx.Graph()
    graph.add_nodes_from(range(len(part.vectors)))
    cosines = np.einsum("ed,ed->e", part.vectors[part.edges.src], part.vectors[part.edges.dst])
    weights = (part.edges.weight * np.maximum(cosines, 0)).tolist()
    graph.add_weighted_edges_from(zip(part.edges.src.tolist(), part.edges.dst.tolist(), weights, strict=True))
    found = networkx.community.louvain_communities(graph, seed=SEED, resolution=1.0)
    return _clustered(clock.precise_s() - began, part, [np.fromiter(held, np.int64, len(held)) for held in found])


def clusters_scipy(part: _Part) -> dict[str, Any]:
    """Average-link clusters by cosine, ten to one, without edges and without a largest size."""
    began = clock.precise_s()
    tree: Any = linkage(part.vectors, method="average", metric="cosine")
    labels: NDArray[np.int64] = fcluster(tree, part.target, criterion="maxclust").astype(np.int64) - 1
    took = clock.precise_s() - began
    order = np.argsort(labels, kind="stable")
    return _clustered(took, part, np.split(order, np.cumsum(np.bincount(labels))[:-1]))


def _clustered(took_s: float, part: _Part, found: list[NDArray[np.int64]]) -> dict[str, Any]:
    """Of the pairs of memories that share a cluster the share that shares a community, and how large clusters are."""
    together = pure = 0
    for rows in found:
        together += len(rows) * (len(rows) - 1) // 2
        pure += sum(count * (count - 1) // 2 for count in Counter(part.community[rows].tolist()).values())
    return {
        "seconds": took_s,
        "memories": len(part.vectors),
        "edges": len(part.edges.src),
        "clusters": len(found),
        "largest": max(len(rows) for rows in found),
        "pairs_of_one_community_pct": round(100 * pure / max(1, together), 2),
    }


# ── paths ───────────────────────────────────────────────────────────────────────


def _starts(memories: Memories) -> NDArray[np.int64]:
    most = configuration.defaults().dream.nrem.max_replay_count
    rng, n = np.random.default_rng(SEED), len(memories.node_ids)
    return np.sort(rng.choice(n, min(n, most), replace=False))


def paths(memories: Memories) -> dict[str, Any]:
    """Shortcuts as the dream finds them."""
    config = configuration.defaults().dream
    compile_ahead(calls_of(memories, config))
    starts = _starts(memories)
    began = clock.precise_s()
    found = _done(find_shortcuts(memories, starts, config.shortcuts, seed=SEED))
    return {"seconds": clock.precise_s() - began, "walks": found.walks, "paths": found.paths, "made": len(found.edges)}


def paths_networkx(memories: Memories) -> dict[str, Any]:
    """The same walks over a graph of dictionaries: those that may become a shortcut, and over all edges."""
    networkx: Any = import_module("networkx")
    config = configuration.defaults().dream.shortcuts
    columns = (memories.src, memories.dst, memories.weights, memories.confidences)
    began = clock.precise_s()
    graph: Any = networkx.DiGraph()
    graph.add_edges_from(
        (source, target, {"weight": weight, "confidence": confidence})
        for source, target, weight, confidence in zip(*(column.tolist() for column in columns), strict=True)
    )
    built_s = clock.precise_s() - began
    random = Random(SEED)
    walks, taken = 0, dict[tuple[int, ...], int]()
    for least in (config.min_confidence, 0.0):
        counts = Counter[tuple[int, ...]]()
        for start in _starts(memories).tolist():
            for _ in range(config.walkers):
                path = _walk(graph, start, least, random)
                walks += 1
                counts.update(path[i : i + size] for size in (4, 5) for i in range(len(path) - size + 1))
        # A path that both kinds of walks took is not walked more often for that.
        for path, count in counts.items():
            taken[path] = max(count, taken.get(path, 0))
    frequent = [path for path, count in taken.items() if count >= config.min_traversals]
    made = sum(_confidence(graph, path) >= config.min_confidence for path in frequent)
    took = clock.precise_s() - began
    return {
        "seconds": took,
        "of_which_building_s": round(built_s, 2),
        "walks": walks,
        "paths": len(taken),
        "passing": made,
    }


def _walk(graph: Any, start: int, least: float, random: Random) -> tuple[int, ...]:
    path = [start]
    while len(path) < 5 and path[-1] in graph:
        ways = [(to, held["weight"]) for to, held in graph[path[-1]].items() if held["confidence"] >= least]
        if not ways:
            break
        (to,) = random.choices([to for to, _ in ways], [weight for _, weight in ways])
        if to in path:
            break
        path.append(to)
    return tuple(path)


def _confidence(graph: Any, path: tuple[int, ...]) -> float:
    product = 1.0
    for source, target in pairwise(path):
        product *= graph[source][target]["confidence"]
    return product


# ── containers ──────────────────────────────────────────────────────────────────


def _tens(memories: Memories, communities: int) -> Iterator[NDArray[np.int64]]:
    order = np.argsort(np.arange(len(memories.node_ids)) % communities, kind="stable")
    for start in range(0, len(order), 10):
        yield order[start : start + 10]


def containers(memories: Memories, communities: int) -> dict[str, Any]:
    """Centroids and 4-bit codes of tens of memories, a container at a time, as the dream makes them."""
    began, made = clock.precise_s(), 0
    for rows in _tens(memories, communities):
        vectors = memories.vectors[rows]
        centroid = encode_centroid(vectors.mean(axis=0))
        made += len(encode_facets(vectors, decode_centroid(centroid), bits=4).codes)
    return {"seconds": clock.precise_s() - began, "facets": made}


def containers_loop(memories: Memories, communities: int) -> dict[str, Any]:
    """The same, a facet at a time."""
    began, made = clock.precise_s(), 0
    for rows in _tens(memories, communities):
        total = np.zeros(memories.vectors.shape[1], np.float32)
        for row in rows.tolist():
            total += memories.vectors[row]
        centroid = decode_centroid(encode_centroid((total / len(rows)).astype(np.float32)))
        for row in rows.tolist():
            made += len(encode_facets(memories.vectors[row : row + 1], centroid, bits=4).codes)
    return {"seconds": clock.precise_s() - began, "facets": made}


# ── the process ─────────────────────────────────────────────────────────────────


def _done[T](search: Generator[Any, None, T]) -> T:
    while True:
        try:
            next(search)
        except StopIteration as end:
            return end.value


def run(task: str, directory: Path) -> dict[str, Any]:
    sys.path.append(str(PACKAGES))
    memories = read_memories(directory)
    communities = max(1, len(memories.node_ids) // COMMUNITY_NODES)
    threshold = configuration.defaults().dream.redundancy.similarity_threshold
    tasks: dict[str, Callable[[], dict[str, Any]]] = {
        "near_duplicates": lambda: near_duplicates(memories, threshold),
        "near_duplicates_numpy": lambda: near_duplicates_numpy(memories, threshold),
        "near_duplicates_faiss": lambda: near_duplicates_faiss(memories, threshold),
        "clusters": lambda: clusters(_part_of(memories, communities)),
        "clusters_networkx": lambda: clusters_networkx(_part_of(memories, communities)),
        "clusters_scipy": lambda: clusters_scipy(_part_of(memories, communities)),
        "paths": lambda: paths(memories),
        "paths_networkx": lambda: paths_networkx(memories),
        "containers": lambda: containers(memories, communities),
        "containers_loop": lambda: containers_loop(memories, communities),
    }
    forget_peak()
    made = tasks[task]()
    return made | {"seconds": round(made["seconds"], 4), "peak_mb": round(peak_mb(), 1)}


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], Path(sys.argv[2]))))
