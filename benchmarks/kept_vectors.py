"""Vectors of texts, kept in build/ from run to run, since some embedders take minutes for a set.

They are kept in slices, so that a run that was given up is not lost, and the next one goes on from there.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import harness
from dreamsvc import clock
from dreamsvc.memory.embedder import Embedder

KEPT = harness.ROOT / "build" / "vectors"
A_SLICE = 256


class TooSlow(Exception):
    """The vectors of some texts were not made in time; those that were are kept."""


def vectors_of(
    embedder: Embedder, texts: Sequence[str], tell: Callable[[int], None], *, until_s: float, kept: Path = KEPT
) -> NDArray[np.float32]:
    """Unit vectors, [n, D]; tell: is told how many are there. until_s: by `clock.precise_s`, then raises TooSlow."""
    kept.mkdir(parents=True, exist_ok=True)
    vectors = np.zeros((len(texts), embedder.dim), np.float32)
    for start in range(0, len(texts), A_SLICE):
        part = texts[start : start + A_SLICE]
        file = kept / f"{hashlib.sha256('\0'.join([embedder.id, *part]).encode()).hexdigest()[:24]}.npy"
        if not file.is_file():
            if clock.precise_s() > until_s:
                raise TooSlow(f"{start} of {len(texts)} vectors of {embedder.id} were made in time")
            unfinished = file.with_suffix(".part.npy")
            np.save(unfinished, embedder.embed(part))
            unfinished.replace(file)
        vectors[start : start + A_SLICE] = np.load(file)
        tell(start + len(part))
    return vectors
