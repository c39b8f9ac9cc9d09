"""Vectors of texts, kept in build/ from run to run, since some embedders take minutes for a set."""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks import harness
from dreamsvc.memory.embedder import Embedder

KEPT = harness.ROOT / "build" / "vectors"
A_STEP = 256


def vectors_of(embedder: Embedder, texts: Sequence[str], tell: Callable[[int], None]) -> NDArray[np.float32]:
    """Unit vectors, [n, D]; tell: is told how many are made."""
    name = hashlib.sha256("\0".join([embedder.id, *texts]).encode()).hexdigest()[:24]
    file = KEPT / f"{name}.npy"
    if not file.is_file():
        made = np.zeros((len(texts), embedder.dim), np.float32)
        for start in range(0, len(texts), A_STEP):
            made[start : start + A_STEP] = embedder.embed(texts[start : start + A_STEP])
            tell(min(start + A_STEP, len(texts)))
        KEPT.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part.npy")
        np.save(part, made)
        part.replace(file)
    tell(len(texts))
    return np.load(file)
