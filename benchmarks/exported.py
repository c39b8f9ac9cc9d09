"""Vectors and edges in files of a server, and edges to compare with: chance, and what the vectors say already."""

import base64
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.evaluation_sets import EvaluationSet

TYPE = "RELATED"
# Products held at a time, rows of them.
ROWS = 512


class Edge(NamedTuple):
    source: str  # key
    target: str  # key
    weight: float


def read(file: Path) -> list[Edge]:
    """Edges between memories with keys, as Export writes them."""
    keys: dict[str, str] = {}
    edges: list[Edge] = []
    with file.open(encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            if line["type"] == "memory" and line.get("key"):
                keys[line["id"]] = line["key"]
            elif line["type"] == "edge" and line["source"] in keys and line["target"] in keys:
                edges.append(Edge(keys[line["source"]], keys[line["target"]], line["weight"]))
    return edges


def vectors(file: Path) -> NDArray[np.float32]:
    """Of all memories in their order, at unit length, [n, D]."""
    with file.open(encoding="utf-8") as lines:
        packed = [base64.b64decode(line["vector"]) for line in map(json.loads, lines) if line["type"] == "memory"]
    found = np.frombuffer(b"".join(packed), "<f2").reshape(len(packed), -1).astype(np.float32)
    found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    return found


def shuffled(edges: Sequence[Edge], *, seed: int) -> list[Edge]:
    """As many edges, less those that would join a memory to itself or two of them twice; every end as often as before.

    Which memories have many edges stays; only what they are joined to is chance.
    """
    targets = np.random.default_rng(seed).permutation(len(edges)).tolist()
    mixed = (Edge(edge.source, edges[to].target, edge.weight) for edge, to in zip(edges, targets, strict=True))
    return _once(edge for edge in mixed if edge.source != edge.target)


def nearest(given: EvaluationSet, units: NDArray[np.float32], count: int) -> list[Edge]:
    """The `count` nearest of all pairs of a memory and the nearest one to it, each of weight 1; units: [facts, D]."""
    found: list[tuple[float, int, int]] = []
    for start in range(0, len(units), ROWS):
        cosines = units[start : start + ROWS] @ units.T
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = -np.inf
        best = cosines.argmax(axis=1)
        found += zip(cosines[rows, best].tolist(), (start + rows).tolist(), best.tolist(), strict=True)
    found.sort(key=lambda one: (-one[0], one[1]))
    keys = [fact.key for fact in given.facts]
    return _once(Edge(keys[row], keys[to], 1.0) for _, row, to in found)[:count]


def write(memories: Path, edges: Sequence[Edge], file: Path) -> None:
    """The memories of a file, joined as a user joins them."""
    with file.open("w", encoding="utf-8") as lines:
        lines.write(memories.read_text(encoding="utf-8"))
        for edge in edges:
            line = {"type": "edge", "source": edge.source, "target": edge.target, "weight": edge.weight}
            lines.write(json.dumps({**line, "edge_type": TYPE, "confidence": 1.0, "origin": "USER_CREATED"}) + "\n")


def _once(edges: Iterable[Edge]) -> list[Edge]:
    """The first of all edges between the same two."""
    return list({frozenset((edge.source, edge.target)): edge for edge in reversed(list(edges))}.values())[::-1]
