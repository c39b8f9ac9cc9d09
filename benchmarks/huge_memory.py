"""Writes the snapshot of a memory that is made up, as a dream reads it, for `huge`.

    python -m benchmarks.huge_memory DIRECTORY NODES EDGES DIMENSION

A process of its own: what making it up takes is nobody else's.
"""

import sys
from pathlib import Path

import numpy as np

from benchmarks.dream_arrays import MadeEdges, dream_arrays
from benchmarks.made_memory import MadeMemory
from dreamsvc import snapshot_files

CONFIDENCE = 0.9


def write_snapshot(directory: Path, nodes: int, edges: int, dimension: int) -> None:
    made = MadeMemory(nodes, edges, dimension)
    living = MadeEdges(made.sources, made.targets, made.weights(), np.full(edges, CONFIDENCE), "near")
    snapshot_files.write(directory, 1, dream_arrays([""] * nodes, list(made.texts()), made.vectors(), living))


if __name__ == "__main__":
    write_snapshot(Path(sys.argv[1]), *map(int, sys.argv[2:]))
