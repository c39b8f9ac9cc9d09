"""Graphs to try the kernels on."""

from collections.abc import Callable

import numpy as np
import pytest

from kernels.arrays import Graph
from kernels.padding import pad_graph

type MakeGraph = Callable[..., Graph]


@pytest.fixture
def eight() -> MakeGraph:
    """Eight nodes: a ring 0-1-2-3-0, a tail 3-4-5, node 6 alone, node 7 dead and tied to 5; edge 6 (1-3) dead."""

    def make(*, nodes: int = 256, edges: int = 256) -> Graph:
        return pad_graph(
            src=np.array([0, 1, 2, 3, 3, 4, 1, 5], np.int32),
            dst=np.array([1, 2, 3, 0, 4, 5, 3, 7], np.int32),
            importance=np.array([0.8, 0.6, 0.4, 0.2, 1.0, 0.5, 0.9, 1.0], np.float32),
            alive=np.array([True] * 7 + [False]),
            edge_alive=np.array([True] * 6 + [False, True]),
            nodes=nodes,
            edges=edges,
        )

    return make


@pytest.fixture
def random_graph() -> MakeGraph:
    """A graph drawn from a seed, one node in ten and one edge in ten dead."""

    def make(*, seed: int, n: int, e: int, nodes: int = 256, edges: int = 1024) -> Graph:
        rng = np.random.default_rng(seed)
        return pad_graph(
            src=np.sort(rng.integers(0, n, e)).astype(np.int32),
            dst=rng.integers(0, n, e).astype(np.int32),
            importance=rng.random(n, dtype=np.float32),
            alive=rng.random(n) < 0.9,
            edge_alive=rng.random(e) < 0.9,
            nodes=nodes,
            edges=edges,
        )

    return make
