"""Memories made up for measuring: communities with words, vectors and edges of their own; equal for equal sizes."""

import base64
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from dreamsvc_client import Client
from numpy.typing import NDArray

from benchmarks.serving import ServerFailed
from dreamsvc import clock

SEED = 2025
COMMUNITY_NODES = 50
# Of the edges, those that stay within a community.
INSIDE = 0.8
WORDS = 20_000
COMMUNITY_WORDS = 40
TEXT_WORDS = (6, 14)
AGE_DAYS = 30
# Memories that are made up at once.
SLICE = 1_000_000
SYLLABLES = [f"{head}{tail}" for head in "bdfgklmnprstvz" for tail in ("a", "e", "i", "o", "u", "an", "el", "or")]


class Query(NamedTuple):
    text: str
    vector: list[float]


class MadeMemory:
    """`nodes` memories with vectors of `dimension` values (0: none), and `edges` edges between them.

    Keys are `name` and the row; two memories of different names share a space.
    """

    def __init__(self, nodes: int, edges: int, dimension: int, name: str = "n") -> None:
        self.nodes, self.edges, self.dimension, self._name = nodes, edges, dimension, name
        rng = np.random.default_rng([SEED, nodes, edges, dimension])
        self._words = _words()
        self._communities = max(1, nodes // COMMUNITY_NODES)
        self._community = np.arange(nodes) % self._communities
        self._own_words = rng.integers(0, WORDS, (self._communities, COMMUNITY_WORDS))
        self._centres = rng.standard_normal((self._communities, dimension), np.float32)
        self.sources, self.targets = self._ends(rng)
        self._rng = rng

    def write(self, file: Path) -> None:
        """As DREAMSVC_JSONL."""
        with file.open("w", encoding="utf-8") as lines:
            lines.writelines(json.dumps(line, separators=(",", ":")) + "\n" for line in self._lines())

    def import_into(self, client: Client) -> float:
        """Fills a server's space; seconds that the import took. Raises ServerFailed unless all of it is there."""
        with tempfile.TemporaryDirectory(prefix="dreamsvc-bench-") as directory:
            file = Path(directory) / "memory.jsonl"
            self.write(file)
            began_s = clock.precise_s()
            report = client.import_file(file)
            took_s = clock.precise_s() - began_s
        if (report.memories_created, report.edges_created) != (self.nodes, self.edges):
            raise ServerFailed(f"not all of it was imported: {report}")
        return took_s

    def write_mcp(self, file: Path, observations: int) -> None:
        """As MCP_MEMORY: an entity a node, a relation an edge, and so many observations in all."""
        texts = list(self.texts())
        with file.open("w", encoding="utf-8") as lines:
            for row in range(self.nodes):
                own = len(range(row, observations, self.nodes))
                seen = [f"{texts[row]} {number}" for number in range(own)]
                entity = {"type": "entity", "name": f"{self._name}{row}", "entityType": "thing", "observations": seen}
                lines.write(json.dumps(entity) + "\n")
            for source, target in zip(self.sources.tolist(), self.targets.tolist(), strict=True):
                ends = {"from": f"{self._name}{source}", "to": f"{self._name}{target}"}
                lines.write(json.dumps({"type": "relation", **ends, "relationType": "knows"}) + "\n")

    def queries(self, count: int) -> list[Query]:
        """Questions about one community each: some of its words, and a vector near it."""
        rng = np.random.default_rng([SEED, count])
        made: list[Query] = []
        for community in rng.integers(0, self._communities, count).tolist():
            words = rng.choice(self._own_words[community], 4)
            vector = self._centres[community] + rng.standard_normal(self.dimension).astype(np.float32) / 2
            made.append(Query(" ".join(self._words[word] for word in words), vector.tolist()))
        return made

    def _ends(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the ends of every edge; no edge twice and none from a node to itself."""
        found = np.zeros(0, np.int64)
        while len(found) < self.edges:
            count = self.edges - len(found) + self.edges // 8 + 8
            source = rng.integers(0, self.nodes, count)
            near = source + self._communities * rng.integers(1, COMMUNITY_NODES, count)
            target = np.where(rng.random(count) < INSIDE, near % self.nodes, rng.integers(0, self.nodes, count))
            found = np.unique(np.concatenate([found, (source * self.nodes + target)[source != target]]))
        found = np.sort(rng.choice(found, self.edges, replace=False))
        return found // self.nodes, found % self.nodes

    def texts(self) -> Iterator[str]:
        """Of every memory, one after the other."""
        for start in range(0, self.nodes, SLICE):
            community = self._community[start : start + SLICE]
            n = len(community)
            lengths: list[int] = self._rng.integers(*TEXT_WORDS, n).tolist()
            own = self._own_words[community[:, None], self._rng.integers(0, COMMUNITY_WORDS, (n, 14))]
            common = self._rng.zipf(1.3, (n, 14)) % WORDS
            chosen: list[list[int]] = np.where(self._rng.random((n, 14)) < 0.5, own, common).tolist()
            for words, length in zip(chosen, lengths, strict=True):
                yield " ".join(self._words[word] for word in words[:length])

    def vectors(self) -> NDArray[np.float16]:
        """Of all memories, [n, D]: each near the centre of its community."""
        made = np.empty((self.nodes, self.dimension), np.float16)
        for start in range(0, self.nodes, SLICE):
            centres = self._centres[self._community[start : start + SLICE]]
            made[start : start + SLICE] = centres + self._rng.standard_normal(centres.shape, np.float32)
        return made

    def weights(self) -> NDArray[np.float64]:
        """Of all edges, [e]."""
        return self._rng.beta(2, 3, self.edges).clip(0.06, 1)

    def _lines(self) -> Iterator[dict[str, Any]]:
        importance = self._rng.uniform(0.2, 1.0, self.nodes).round(4).tolist()
        now_us = clock.Clock().now_us()
        created = (now_us - self._rng.uniform(0, AGE_DAYS * 86_400e6, self.nodes)).astype(np.int64).tolist()
        texts = list(self.texts())
        vectors = self.vectors().astype("<f2") if self.dimension else None
        for row, text in enumerate(texts):
            line = {
                "type": "memory",
                "key": f"{self._name}{row}",
                "kind": "note",
                "text": text,
                "importance": importance[row],
                "create_time": clock.iso(created[row]),
            }
            if vectors is not None:
                line["vector"] = base64.b64encode(vectors[row].tobytes()).decode("ascii")
            yield line
        weights = self.weights().round(4).tolist()
        for source, target, weight in zip(self.sources.tolist(), self.targets.tolist(), weights, strict=True):
            ends = {"source": f"{self._name}{source}", "target": f"{self._name}{target}"}
            yield {"type": "edge", **ends, "edge_type": "near", "weight": weight}


def _words() -> list[str]:
    """Made of three syllables each, all different."""
    base = len(SYLLABLES)
    step = 7919  # coprime to the number of words that there could be, so that neighbours differ
    numbers = [(place * step) % base**3 for place in range(WORDS)]
    return ["".join(SYLLABLES[number // base**place % base] for place in range(3)) for number in numbers]
