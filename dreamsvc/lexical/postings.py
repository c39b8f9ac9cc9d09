"""Postings in CSR form: built from documents, united, thinned; immutable once made.

Aliases are postings too: a term that starts with NUL, which no word contains, followed by the
alias' words. So they are added, removed, merged and saved by the same code as the words.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.lexical.words import tokenize

ALIAS = "\0"
ALIAS_WORDS = 16  # longer titles do not occur word by word in a query, and each length costs one lookup per query word
_BLOCK = 1 << 20  # terms indexed in one sort by a bulk load: bounds its memory


class Postings(NamedTuple):
    """t terms, p postings, h rows; never written to once published. Term i owns indptr[i]:indptr[i + 1]."""

    vocabulary: dict[str, int]  # term -> i, inserted in the order of i
    indptr: NDArray[np.int64]  # [t + 1]
    rows: NDArray[np.int32]  # [p], each row at most once within a term
    tf: NDArray[np.float32]  # [p], a count, or any weight
    length: NDArray[np.float32]  # [h] words of the row's document, -1 where there is none


def alias_terms(aliases: Sequence[str]) -> list[str]:
    """The distinct alias terms of one memory; an alias without words, or with too many, is none."""
    split = (tokenize(alias) for alias in aliases)
    return list(dict.fromkeys(ALIAS + " ".join(words) for words in split if 0 < len(words) <= ALIAS_WORDS))


type Document = tuple[int, str, Sequence[str]]  # row, text, aliases


def blocks(documents: "Iterable[Document]") -> Iterator[Postings]:
    """The documents' postings, about `_BLOCK` terms at a time."""
    terms, rows, ids, lengths = _fresh(), list[int](), list[NDArray[np.int64]](), list[int]()
    size = 0
    for row, text, aliases in documents:
        found = tokenize(text)
        rows.append(row)
        lengths.append(len(found))
        found += alias_terms(aliases)
        ids.append(np.fromiter(map(terms.__getitem__, found), np.int64, len(found)))
        size += len(found)
        if size >= _BLOCK:
            yield _sorted_by_term(terms, rows, ids, lengths)
            terms, rows, ids, lengths, size = _fresh(), [], [], [], 0
    if rows:
        yield _sorted_by_term(terms, rows, ids, lengths)


def weighted_blocks(documents: Iterable[tuple[int, Mapping[str, float], float]]) -> Iterator[Postings]:
    """Postings of documents that come as row, weights of terms and length, about `_BLOCK` terms at a time."""
    terms, rows, ids, lengths, weights = _fresh(), list[int](), list[NDArray[np.int64]](), list[float](), list[float]()
    for row, weighted, length in documents:
        rows.append(row)
        lengths.append(length)
        ids.append(np.fromiter(map(terms.__getitem__, weighted), np.int64, len(weighted)))
        weights += weighted.values()
        if len(weights) >= _BLOCK:
            yield _weighted(terms, rows, ids, lengths, weights)
            terms, rows, ids, lengths, weights = _fresh(), [], [], [], []
    if rows:
        yield _weighted(terms, rows, ids, lengths, weights)


def _fresh() -> defaultdict[str, int]:
    """A vocabulary that numbers a term when it is first asked for."""
    return defaultdict(count().__next__)


def _sorted_by_term(
    terms: dict[str, int], rows: list[int], ids: list[NDArray[np.int64]], lengths: Sequence[float]
) -> Postings:
    keys, tf = np.unique(_keys(rows, ids), return_counts=True)
    return _assembled(terms, rows, keys, tf.astype(np.float32), lengths)


def _weighted(
    terms: dict[str, int],
    rows: list[int],
    ids: list[NDArray[np.int64]],
    lengths: Sequence[float],
    weights: Sequence[float],
) -> Postings:
    keys = _keys(rows, ids)
    order = np.argsort(keys)
    return _assembled(terms, rows, keys[order], np.array(weights, np.float32)[order], lengths)


def _keys(rows: list[int], ids: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Ascending as the postings lie: by term, then by document."""
    document = np.repeat(np.arange(len(rows)), [len(one) for one in ids])
    return np.concatenate(ids) * len(rows) + document


def _assembled(
    terms: dict[str, int],
    rows: list[int],
    keys: NDArray[np.int64],
    tf: NDArray[np.float32],
    lengths: Sequence[float],
) -> Postings:
    term, document = np.divmod(keys, len(rows))
    row_of = np.array(rows, np.int32)
    length = np.full(int(row_of.max()) + 1, -1, np.float32)
    length[row_of] = lengths
    indptr = starts(np.bincount(term, minlength=len(terms)))
    return Postings(dict(terms), indptr, row_of[document], tf, length)


def union(base: Postings, more: Postings) -> Postings:
    """Both as new postings; no row has a document in both."""
    length = np.full(max(base.length.size, more.length.size), -1, np.float32)
    length[: base.length.size] = base.length
    np.copyto(length[: more.length.size], more.length, where=more.length >= 0)
    vocabulary = base.vocabulary.copy()
    numbers = (vocabulary.setdefault(term, len(vocabulary)) for term in more.vocabulary)
    target = np.fromiter(numbers, np.int64, len(more.vocabulary))
    new = len(vocabulary) - len(base.vocabulary)
    sizes = np.concatenate((np.diff(base.indptr), np.zeros(new, np.int64)))
    sizes[target] += np.diff(more.indptr)
    of_term = np.repeat(target, np.diff(more.indptr))
    order = np.argsort(of_term, kind="stable")
    ends = np.concatenate((base.indptr[1:], np.full(new, base.rows.size)))
    at = ends[of_term[order]]  # each posting goes to the end of its term's slice, those of new terms to the very end
    return Postings(
        vocabulary,
        starts(sizes),
        np.insert(base.rows, at, more.rows[order]),
        np.insert(base.tf, at, more.tf[order]),
        length,
    )


def without(postings: Postings, gone: NDArray[np.int32]) -> Postings:
    """The postings of all rows but `gone`, and only the terms that still have some."""
    length = postings.length.copy()
    length[gone] = -1
    keep = length[postings.rows] >= 0
    indptr = starts(keep)[postings.indptr]
    used = np.diff(indptr) > 0
    terms = (term for term, kept in zip(postings.vocabulary, used.tolist(), strict=True) if kept)
    return postings._replace(
        vocabulary={term: i for i, term in enumerate(terms)},
        indptr=np.concatenate((indptr[:1], indptr[1:][used])),
        rows=postings.rows[keep],
        tf=postings.tf[keep],
        length=length,
    )


def starts(sizes: NDArray[np.integer | np.bool_]) -> NDArray[np.int64]:
    """Where each of n slices starts, and the last one's end: int64[n + 1]."""
    begins = np.zeros(sizes.size + 1, np.int64)
    np.cumsum(sizes, out=begins[1:])
    return begins


def empty() -> Postings:
    none = np.zeros(0, np.float32)
    return Postings({}, np.zeros(1, np.int64), np.zeros(0, np.int32), none, none)
