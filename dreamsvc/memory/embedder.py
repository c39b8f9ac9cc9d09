"""What turns text into vectors: the one protocol, its errors, and what every embedder does with texts and rows."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

INSTALL_EXTRA = "pip install 'dreamsvc[embed]'"

# A tokenizer reads a text whole before it truncates, at about 100 bytes a token: these two bounds keep its share of
# memory below roughly 100 MB whatever is sent. 32,768 characters are some 8,000 tokens of English, 32 times what
# MiniLM reads.
MAX_TEXT_CHARS = 32_768
MAX_SLICE_CHARS = 262_144


class EmbedderUnavailable(Exception):
    """The embedder that was asked for cannot be opened; the message says why and how to mend it."""


class EmbeddingFailed(Exception):
    """An open embedder gave no usable vectors for these texts: no answer, a wrong shape, or not finite."""


class Embedder(Protocol):
    """Text in, unit vectors out. Every method may be called from several threads at once."""

    @property
    def id(self) -> str:
        """Which space the vectors lie in; kept with them, since vectors of two spaces must never be compared."""
        ...

    @property
    def dim(self) -> int:
        """Numbers in a vector, > 0."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors (n, dim), row i for text i, each of length 1; a text that is empty or only whitespace gives zeros.

        Of a text longer than `MAX_TEXT_CHARS` only the head is read. Raises EmbeddingFailed.
        """
        ...


def filled_slices(texts: Sequence[str], max_texts: int) -> Iterator[tuple[list[int], list[str]]]:
    """The texts that hold more than whitespace, in order, as (their rows, the texts fit to be tokenised).

    A slice holds 1 to `max_texts` texts and at most `MAX_SLICE_CHARS` characters.
    """
    rows: list[int] = []
    fit: list[str] = []
    chars = 0
    for row, text in enumerate(texts):
        head = _fit(text)
        if not head:
            continue
        if rows and (len(rows) == max_texts or chars + len(head) > MAX_SLICE_CHARS):
            yield rows, fit
            rows, fit, chars = [], [], 0
        rows.append(row)
        fit.append(head)
        chars += len(head)
    if rows:
        yield rows, fit


def unit_rows(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """The rows of (n, dim) scaled to length 1; a row of zeros stays one.

    Raises EmbeddingFailed where a number is not finite: one such row would poison every distance it takes part in.
    """
    if not np.isfinite(vectors).all():
        raise EmbeddingFailed("the embedder produced numbers that are not finite")
    # Dividing by the largest first: squares of what an endpoint may send overflow even float64.
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0.0)
    scaled = vectors / np.where(largest == 0.0, 1.0, largest)
    length = np.sqrt(np.square(scaled).sum(axis=1, keepdims=True))
    return (scaled / np.where(length == 0.0, 1.0, length)).astype(np.float32)


def _fit(text: str) -> str:
    head = text[:MAX_TEXT_CHARS]
    if head.isspace():
        return ""
    # JSON may carry half of a surrogate pair, which is no Unicode text and which no tokenizer takes.
    return head.encode("utf-8", "replace").decode("utf-8")
