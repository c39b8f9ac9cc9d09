"""Recall at 2, 5 and 10, how much of it a night lifts, and what the same questions find without the service.

Recall@k of a question: of the facts that answer it the share that is among the first k. q: questions.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.asking import RESAMPLES, SEED, found_share
from benchmarks.evaluation_sets import EvaluationSet
from dreamsvc import scoring
from dreamsvc.lexical.index import LexicalIndex
from dreamsvc.memory.graph import words_of

AT = (2, 5, 10)
MOST = max(AT)
# Beside minmax(dense), as in the service.
LEXICAL_WEIGHT = 0.5

type Shares = NDArray[np.float64]
type First = Sequence[Sequence[tuple[str, str]]]


class Recalls(NamedTuple):
    """Recall at each of AT, [q] each."""

    at: Mapping[int, Shares]

    @property
    def five(self) -> Shares:
        return self.at[5]

    def pct(self, count: int) -> float:
        return 100 * float(self.at[count].mean())

    def shown(self) -> dict[str, float]:
        return {f"recall_at_{count}": round(self.pct(count), 2) for count in AT}


def recalls(given: EvaluationSet, first: First) -> Recalls:
    """first: for each question title and text of what it found, the best first."""
    said = {fact.key: fact.said for fact in given.facts}
    asked = list(zip(given.questions, first, strict=True))
    return Recalls(
        {count: np.array([found_share(one, said, set(hits[:count])) for one, hits in asked]) for count in AT}
    )


# ── without the service ─────────────────────────────────────────────────────────


def baselines(given: EvaluationSet, vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> dict[str, Recalls]:
    """What the questions find by vectors alone, by BM25 alone, and by both, minmax(dense) + 0.5 minmax(BM25).

    The same vectors and the same index of words as in the service, without its aliases; vectors: [facts, D].
    """
    count = len(given.facts)
    index = LexicalIndex()
    index.add_many(range(count), [words_of(fact.title, fact.text) for fact in given.facts], [()] * count)
    view, everywhere = index.view(), np.ones(count, np.bool_)
    found: dict[str, list[list[tuple[str, str]]]] = {"dense": [], "bm25": [], "plain": []}
    for question, query in zip(given.questions, queries, strict=True):
        dense, words = vectors @ query, view.scores(question.text, count)
        plain = scoring.minmax(dense, everywhere) + np.float32(LEXICAL_WEIGHT) * scoring.minmax(words, everywhere)
        for name, scores in (("dense", dense), ("bm25", words), ("plain", plain)):
            rows = scoring.best(scores.astype(np.float32), MOST)
            if name == "bm25":
                rows = rows[scores[rows] > 0]
            found[name].append([given.facts[row].said for row in rows.tolist()])
    return {name: recalls(given, first) for name, first in found.items()}


# ── what is lifted ──────────────────────────────────────────────────────────────


class Pair(NamedTuple):
    """The same questions, [q] each."""

    before: Shares
    after: Shares


def lift_pct(pair: Pair) -> float:
    """After / before - 1 of mean shares, in percent; 0 where nothing was found before."""
    found = float(pair.before.mean())
    return 100 * (float(pair.after.mean()) / found - 1) if found else 0.0


def worse_pct(pair: Pair) -> float:
    """Of the questions the share that finds less than before, in percent."""
    return 100 * float((pair.after < pair.before).mean())


def macro(values: Iterable[float]) -> float:
    """Every set counts the same."""
    return float(np.mean(list(values)))


def macro_interval(pairs: Sequence[Pair]) -> tuple[float, float]:
    """The 95 % interval of the mean lift of some sets, by a paired bootstrap over the questions of each."""
    rng = np.random.default_rng(SEED)
    lifts = np.zeros(RESAMPLES)
    for place in range(RESAMPLES):
        drawn = [rng.integers(0, len(pair.before), len(pair.before)) for pair in pairs]
        lifts[place] = macro(
            lift_pct(Pair(pair.before[some], pair.after[some])) for pair, some in zip(pairs, drawn, strict=True)
        )
    low, high = np.percentile(lifts, (2.5, 97.5))
    return float(low), float(high)


def shown(pair: Pair) -> dict[str, Any]:
    low, high = macro_interval([pair])
    return {
        "lift_pct": round(lift_pct(pair), 2),
        "lift_95_pct": [round(low, 2), round(high, 2)],
        "questions_worse": int((pair.after < pair.before).sum()),
        "questions_better": int((pair.after > pair.before).sum()),
    }


def by_kind(given: EvaluationSet, pair: Pair) -> dict[str, Pair]:
    """The questions of each kind that the set names."""
    kinds = np.array([question.kind for question in given.questions])
    return {str(kind): Pair(pair.before[kinds == kind], pair.after[kinds == kind]) for kind in np.unique(kinds) if kind}
