"""From what recall found to what it answers: nothing said twice, and no more tokens than asked for.

A hit is left out where a better one says the same: a copy to the letter, or one whose vector is near and whose text the
evidence guard does not hold against it. Nothing is lost by it, the memory stays and may be asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import batched
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc import two_stage
from dreamsvc.memory.graph import GraphView, words_of
from dreamsvc.memory.recall import Found
from dreamsvc.tokens import count_tokens
from dreamsvc.v1.memory_pb2 import Memory

if TYPE_CHECKING:
    from dreamsvc.evidence import Signature

# Candidates looked at for each hit that is asked for, since some say the same.
CANDIDATES = 3
# Cosine from which two texts that are told in other words, or of which the worse hit says more, count as the same. It
# is where a dream folds duplicates by default; below it such pairs are rather two facts about one thing.
SURELY_SIMILAR = 0.95
# Better hits that one is compared with, the nearest first: bounds the work where a thousand are all near each other.
COMPARED = 8
# Characters; longer texts only match to the letter, since comparing takes time in proportion.
COMPARED_LENGTH = 20_000

type MemoriesOf = Callable[[list[int]], Mapping[int, Memory]]


class Wish(NamedTuple):
    """What of the found is wanted."""

    limit: int
    token_budget: int  # tokens of titles and texts in all, 0 for any number
    similar: float | None  # cosine from which hits may say the same, 1 for copies only; None: all are wanted

    @property
    def candidates(self) -> int:
        """How many recall should find for it."""
        return self.limit if self.similar is None else CANDIDATES * self.limit


class Read(NamedTuple):
    """What is answered."""

    hits: list[tuple[Found, Memory]]  # the best first
    left_out: int  # that say what a better hit says
    tokens: int  # of titles and texts of all hits
    over_budget: int  # tokens of the hit that did not fit any more; 0 where all did


def read(view: GraphView, found: Sequence[Found], memories_of: MemoriesOf, wish: Wish) -> Read:
    """Walks down the found and keeps what says something new, up to the limit and before the budget is passed.

    The budget is a bound: where the best hit alone passes it, there is none. memories_of: messages of some nodes, for
    those that exist; asked for as many as may be needed, so mostly once.
    """
    kept = _Kept(view, wish)
    hits: list[tuple[Found, Memory]] = []
    left_out = tokens = 0
    for part in batched(found, wish.limit):
        nodes = [one.node for one in part]
        memories = memories_of(nodes)
        for one, vector in zip(part, kept.vectors_of(nodes), strict=True):
            memory = memories.get(one.node)
            # Forgotten in this very moment.
            if memory is None or memory.HasField("delete_time"):
                continue
            if kept.say(one, memory, vector):
                left_out += 1
                continue
            length = count_tokens(memory.title) + count_tokens(memory.text)
            if wish.token_budget and tokens + length > wish.token_budget:
                return Read(hits, left_out, tokens, length)
            kept.add(one, memory, vector)
            hits.append((one, memory))
            tokens += length
            if len(hits) == wish.limit:
                return Read(hits, left_out, tokens, 0)
    return Read(hits, left_out, tokens, 0)


class _Kept:
    """The hits so far, and whether they say what another says."""

    def __init__(self, view: GraphView, wish: Wish) -> None:
        self._dense = view.dense
        self._view = view
        self._similar = wish.similar
        self._found: list[Found] = []
        self._words: list[str] = []
        self._by_words: dict[str, list[Found]] = {}
        self._vectors = np.zeros((wish.limit, view.dense.dimension), np.float32)
        self._texts = _Texts()

    def vectors_of(self, nodes: Sequence[int]) -> NDArray[np.float32]:
        """Unit vectors, [k, D], zero where there is none."""
        if self._similar is None or self._similar >= 1:
            return np.zeros((len(nodes), 0), np.float32)
        return two_stage.vectors_of(self._dense, self._view.rows_of(nodes))

    def add(self, found: Found, memory: Memory, vector: NDArray[np.float32]) -> None:
        words = words_of(memory.title, memory.text)
        self._vectors[len(self._found), : len(vector)] = vector
        self._by_words.setdefault(words, []).append(found)
        self._found.append(found)
        self._words.append(words)

    def say(self, found: Found, memory: Memory, vector: NDArray[np.float32]) -> bool:
        """Whether one of them says what this says. Versions of one fact never count as the same."""
        words = words_of(memory.title, memory.text)
        if self._similar is None or not words:
            return False
        if any(not _are_versions(found, better) for better in self._by_words.get(words, ())):
            return True
        if not vector.any():
            return False
        cosines = self._vectors[: len(self._found)] @ vector
        near = np.flatnonzero(cosines >= self._similar)
        near = near[np.argsort(-cosines[near], kind="stable")][:COMPARED]
        places: list[int] = near.tolist()
        return any(
            not _are_versions(found, self._found[place])
            and self._texts.say_the_same(self._words[place], words, float(cosines[place]))
            for place in places
        )


def _are_versions(one: Found, other: Found) -> bool:
    return (one.superseded_by or one.node) == (other.superseded_by or other.node)


class _Texts:
    """What texts say, each read once."""

    def __init__(self) -> None:
        self._read: dict[str, Signature] = {}

    def say_the_same(self, better: str, other: str, cosine: float) -> bool:
        """Whether a better hit says all that another says, as far as words and cosine can tell."""
        # Compiles patterns for 40 ms, which a start need not wait for.
        from dreamsvc import evidence

        if max(len(better), len(other)) > COMPARED_LENGTH:
            return False
        for words in (better, other):
            if words not in self._read:
                self._read[words] = evidence.signature(words)
        found = evidence.conflict(self._read[better], self._read[other])
        if found is None or (found.kind is evidence.Kind.EXTRA and not found.right):
            return True
        return not found.kind.contradicts and cosine >= SURELY_SIMILAR
