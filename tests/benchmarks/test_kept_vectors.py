"""Vectors are made once, and those of a run that was given up are kept."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.kept_vectors import A_SLICE, TooSlow, vectors_of

TEXTS = [f"text {number}" for number in range(A_SLICE + 10)]


class Counting:
    """Gives each text the number in it, and counts how many it was given."""

    id, dim = "counting", 1

    def __init__(self) -> None:
        self.embedded = 0

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.embedded += len(texts)
        return np.array([[float(text.split()[-1])] for text in texts], np.float32)


def test_each_text_is_embedded_once(tmp_path: Path) -> None:
    embedder = Counting()
    told: list[int] = []
    for _ in range(2):
        vectors = vectors_of(embedder, TEXTS, told.append, until_s=math.inf, kept=tmp_path)
        assert vectors[:, 0].tolist() == list(range(len(TEXTS)))
    assert embedder.embedded == len(TEXTS)
    assert told == [A_SLICE, len(TEXTS)] * 2


def test_what_was_made_in_time_is_kept_and_what_is_kept_needs_no_time(tmp_path: Path) -> None:
    embedder = Counting()
    vectors_of(embedder, TEXTS[:A_SLICE], lambda _: None, until_s=math.inf, kept=tmp_path)
    with pytest.raises(TooSlow, match=f"{A_SLICE} of {len(TEXTS)} vectors of counting"):
        vectors_of(embedder, TEXTS, lambda _: None, until_s=-math.inf, kept=tmp_path)
    vectors_of(embedder, TEXTS[:A_SLICE], lambda _: None, until_s=-math.inf, kept=tmp_path)
    assert embedder.embedded == A_SLICE


def test_vectors_of_another_embedder_are_others(tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    second.id = "another"
    for embedder in (first, second):
        vectors_of(embedder, TEXTS[:3], lambda _: None, until_s=math.inf, kept=tmp_path)
    assert second.embedded == 3
