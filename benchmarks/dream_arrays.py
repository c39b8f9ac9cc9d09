"""The arrays of a dream's snapshot, made without a store: what a night reads, for benchmarks that need nothing else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc import facet_blocks, snapshot_files
from dreamsvc.dreamer import memories as memory_columns
from dreamsvc.dreamer.memories import NEVER, NOWHERE, Memories
from dreamsvc.dreamer.merging import Search
from dreamsvc.snapshot_files import Arrays

SECOND_US = 1_000_000
KIND = "note"


class MadeEdges(NamedTuple):
    """Living edges of one type, all made by a user."""

    sources: NDArray[np.integer]  # [e], rows
    targets: NDArray[np.integer]  # [e], rows
    weights: NDArray[np.floating]  # [e], 0..1
    confidences: NDArray[np.floating]  # [e], 0..1
    type_name: str


NO_EDGES = MadeEdges(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0), np.zeros(0), "near")


def dream_arrays(
    titles: Sequence[str], texts: Sequence[str], vectors: NDArray[np.floating], edges: MadeEdges = NO_EDGES
) -> Arrays:
    """Memories in this order, a second apart, none of them compressed; vectors: [n, D], zero where there is none."""
    n, e = len(texts), len(edges.sources)
    return {
        "node_ids": np.arange(1, n + 1, dtype=np.int64),
        "uids": np.arange(1, n + 1, dtype=">u8").repeat(2).view(np.uint8).reshape(n, 16),
        "alive": np.ones(n, np.bool_),
        "roles": np.zeros(n, np.int8),
        "merged_into": np.full(n, NOWHERE, np.int32),
        "pinned": np.zeros(n, np.bool_),
        "apart": np.zeros(n, np.bool_),
        "kinds": np.zeros(n, np.int32),
        "kind_names": _packed([KIND])[0],
        "importance": np.full(n, 0.5, np.float32),
        "created_us": np.arange(n, dtype=np.int64) * SECOND_US,
        "event_us": np.full(n, NEVER, np.int64),
        "accessed_us": np.full(n, NEVER, np.int64),
        **dict(zip(("titles", "title_ends"), _packed(titles), strict=True)),
        **dict(zip(("texts", "text_ends"), _packed(texts), strict=True)),
        **dict(zip(("names", "names_ends"), _packed(["[]"] * n), strict=True)),
        **dict(zip(("entities", "entities_ends"), _packed(["[]"] * n), strict=True)),
        "sessions": np.full(n, NOWHERE, np.int32),
        "changed": np.ones(n, np.bool_),
        "expansions": np.zeros(0, np.uint8),
        "expansions_ends": np.zeros(n, np.int64),
        "points": np.zeros((n, 0), np.float32),
        "together": np.zeros((0, 2), np.int32),
        "together_recalled": np.zeros(0, np.int32),
        "together_confirmed": np.zeros(0, np.int32),
        "rejected": np.zeros((0, 2), np.int32),
        "vectors": vectors.astype(np.float16),
        **facet_blocks.pack({}, vectors.shape[1]),
        "edge_ids": np.arange(1, e + 1, dtype=np.int64),
        "sources": edges.sources.astype(np.int32),
        "targets": edges.targets.astype(np.int32),
        "weights": edges.weights.astype(np.float32),
        "confidences": edges.confidences.astype(np.float32),
        "edges_alive": np.ones(e, np.bool_),
        # Types are numbered from 1.
        "types": np.ones(e, np.int32),
        "type_names": np.frombuffer(f"\0{edges.type_name}".encode(), np.uint8),
        "dreamt_edges": np.zeros(0, np.int64),
    }


def read_memories(directory: Path) -> Memories:
    """A snapshot as a dream reads it."""
    arrays = snapshot_files.read(directory)
    if arrays is None:
        raise FileNotFoundError(f"no whole snapshot at {directory}")
    return memory_columns.read(arrays)


def finished[T](search: Search[T]) -> T:
    """What a search of the dreamer gives, driven to its end."""
    while True:
        try:
            next(search)
        except StopIteration as end:
            return end.value


def _packed(texts: Sequence[str]) -> tuple[NDArray[Any], NDArray[Any]]:
    """UTF-8 of all texts one after the other, and where each ends."""
    encoded = [text.encode() for text in texts]
    return np.frombuffer(b"".join(encoded), np.uint8), np.cumsum([len(text) for text in encoded], dtype=np.int64)
