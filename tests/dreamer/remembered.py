"""Memories made for a test, and the result of a search."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dreamsvc.dreamer.memories import NEVER, NOWHERE, Bodies, Memories, Texts
from dreamsvc.dreamer.merging import Step

TEXTS = ("titles", "names", "entities")

type Edge = tuple[int, int, str] | tuple[int, int, str, float] | tuple[int, int, str, float, float]


def unit(rows: Any) -> np.ndarray:
    rows = np.asarray(rows, np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def packed(texts: Sequence[str]) -> Texts:
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    return Texts(np.frombuffer(b"".join(encoded), np.uint8), ends)


def remembered(
    texts: Sequence[str],
    *,
    vectors: Any = None,
    edges: Sequence[Edge] = (),
    columns: Mapping[str, Any] | None = None,
    dead_edges: Sequence[int] = (),
    kinds: Sequence[str] = ("note",),
) -> Memories:
    """Memories of these texts in this order, created a second apart; vectors: one each, of any length, zero for none.

    edges: source, target, type, weight (1), confidence (1). columns: others than the plain ones, whole. kinds: names.
    """
    n = len(texts)
    given = np.zeros((n, 4), np.float32) if vectors is None else np.asarray(vectors, np.float32)
    names = sorted({edge[2] for edge in edges})
    alive = np.ones(len(edges), np.bool_)
    alive[list(dead_edges)] = False
    plain = Memories(
        node_ids=np.arange(n, dtype=np.int64) * 10 + 7,
        uids=np.arange(n * 16, dtype=np.uint32).astype(np.uint8).reshape(n, 16),
        alive=np.ones(n, np.bool_),
        roles=np.zeros(n, np.int8),
        merged_into=np.full(n, NOWHERE, np.int32),
        untouchable=np.zeros(n, np.bool_),
        apart=np.zeros(n, np.bool_),
        kinds=np.zeros(n, np.int32),
        kind_names=kinds,
        importance=np.full(n, 0.5, np.float32),
        created_us=np.arange(n, dtype=np.int64) * 1_000_000,
        event_us=np.full(n, NEVER, np.int64),
        accessed_us=np.full(n, NEVER, np.int64),
        titles=packed([""] * n),
        texts=packed(texts),
        vectors=unit(given),
        embedded=given.any(axis=1),
        containers={},
        edge_ids=np.arange(len(edges), dtype=np.int64) * 3 + 1,
        src=np.array([edge[0] for edge in edges], np.int32),
        dst=np.array([edge[1] for edge in edges], np.int32),
        weights=np.array([edge[3] if len(edge) > 3 else 1.0 for edge in edges], np.float32),
        confidences=np.array([edge[4] if len(edge) > 4 else 1.0 for edge in edges], np.float32),
        weights_before=np.array([edge[3] if len(edge) > 3 else 1.0 for edge in edges], np.float32),
        edges_alive=alive,
        edges_alive_before=alive,
        trusted=np.ones(len(edges), np.bool_),
        types=np.array([names.index(edge[2]) for edge in edges], np.int32),
        type_names=names,
        names=packed(["[]"] * n),
        entities=packed(["[]"] * n),
        sessions=np.full(n, NOWHERE, np.int32),
        changed=np.ones(n, np.bool_),
        expansions=Bodies(np.zeros(0, np.uint8), np.zeros(n, np.int64)),
        points=np.full((n, 0), np.nan, np.float32),
        together=np.zeros((0, 2), np.int32),
        recalled=np.zeros(0, np.int32),
        confirmed=np.zeros(0, np.int32),
        rejected=np.zeros((0, 2), np.int32),
    )
    changed: Mapping[str, Any] = columns or {}
    return plain._replace(
        **{
            name: packed(value)
            if name in ("titles", "names", "entities")
            else np.asarray(value, getattr(plain, name).dtype)
            for name, value in changed.items()
        }
    )


def result(search: Any) -> Any:
    """What a search returns at its end."""
    while True:
        try:
            assert isinstance(next(search), Step)
        except StopIteration as end:
            return end.value
