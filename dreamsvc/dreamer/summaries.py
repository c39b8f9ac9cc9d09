"""What a container is called and what it says: extracts of its members, in their own words.

A sentence is good where its member lies near the centre, and where it says what the other members say too. A few that
differ from each other are taken. No model is asked: this shows a person what is inside, while recall answers with the
members.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from dreamsvc.evidence.lexicon import GLUE

TITLE_LENGTH = 120
TEXT_LENGTH = 600
SENTENCES = 3
# Looked at are so many of the most central members, and of each the first few sentences of its beginning.
SOURCES = 8
SENTENCES_EACH = 4
BEGINNING = 800
# A sentence that shares more of its words with one already taken says nothing new.
ALIKE = 0.5
# A second sentence of one member must be twice as good as the first of another.
AGAIN = 0.5
# Words that nobody shares; so that a short sentence is not the best because it has one word.
EXPECTED_WORDS = 6

_ENDED = re.compile(r"""(?<!\b\w\.)(?<=[.!?…])["'”’»)\]]*\s+(?![a-z])|(?<=[。！？])|\s*\n\s*""")
_WORD = re.compile(r"[\u0e00-\u0eff\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|\w+")


class Source(NamedTuple):
    """A member as an extract sees it."""

    title: str
    text: str
    centrality: float  # cosine with the centroid


class _Sentence(NamedTuple):
    text: str
    words: frozenset[str]
    source: int  # place among the sources
    place: int  # in its source


def title_of(sources: Sequence[Source]) -> str:
    """The title of the most central member, or its first sentence; at most TITLE_LENGTH characters."""
    for source in _by_centrality(sources):
        shown = " ".join(source.title.split()) or next(iter(_split(source.text)), "")
        if shown:
            return shortened(shown, TITLE_LENGTH)
    return ""


def text_of(sources: Sequence[Source]) -> str:
    """Up to SENTENCES sentences of central members, in the order of the sources; at most TEXT_LENGTH characters.

    Where no member has a text, their titles.
    """
    central = _by_centrality(sources)[:SOURCES]
    sentences = [
        _Sentence(shortened(text, TEXT_LENGTH), _words_of(text), number, place)
        for number, source in enumerate(central)
        for place, text in enumerate(_split(source.text)[:SENTENCES_EACH])
    ]
    if not sentences:
        titles = dict.fromkeys(" ".join(source.title.split()) for source in central)
        return shortened("; ".join(title for title in titles if title), TEXT_LENGTH)
    taken = _taken(sentences, central)
    order = {id(source): place for place, source in enumerate(sources)}
    taken.sort(key=lambda sentence: (order[id(central[sentence.source])], sentence.place))
    return " ".join(sentence.text for sentence in taken)


def shortened(text: str, length: int) -> str:
    """The beginning of a text, cut between two words where it can be."""
    if len(text) <= length:
        return text
    cut = text[: length - 1]
    between = cut.rfind(" ")
    return (cut[:between] if between > length // 2 else cut).rstrip(" ,;:-") + "…"


def _by_centrality(sources: Sequence[Source]) -> list[Source]:
    return sorted(sources, key=lambda source: -source.centrality)


def _split(text: str) -> list[str]:
    """The sentences of a text's beginning, white space made single."""
    if len(text) > BEGINNING:
        text = shortened(text[: BEGINNING + 1], BEGINNING)
    found = (" ".join(piece.split()) for piece in _ENDED.split(text.strip()))
    return [piece for piece in found if any(char.isalnum() for char in piece)]


def _words_of(text: str) -> frozenset[str]:
    return frozenset(word for word in _WORD.findall(text.casefold()) if word not in GLUE)


def _taken(sentences: list[_Sentence], sources: Sequence[Source]) -> list[_Sentence]:
    """The best sentence, then again and again the best of those that say something else."""
    said = [frozenset[str]().union(*(s.words for s in sentences if s.source == n)) for n in range(len(sources))]
    shared = Counter(word for words in said for word in words)
    scores = [
        (0.1 + max(0.0, sources[sentence.source].centrality))
        * (1 + sum(shared[word] - 1 for word in sentence.words))
        / (EXPECTED_WORDS + len(sentence.words))
        for sentence in sentences
    ]
    taken: list[_Sentence] = []
    left = TEXT_LENGTH
    while len(taken) < SENTENCES:
        best = -1
        for place, sentence in enumerate(sentences):
            fits = len(sentence.text) <= left and scores[place] > 0.0
            if fits and (best < 0 or scores[place] > scores[best]):
                best = place
        if best < 0:
            return taken
        chosen = sentences[best]
        taken.append(chosen)
        left -= len(chosen.text) + 1
        for place, sentence in enumerate(sentences):
            if place == best or _alike(sentence.words, chosen.words):
                scores[place] = 0.0
            elif sentence.source == chosen.source:
                scores[place] *= AGAIN
    return taken


def _alike(left: frozenset[str], right: frozenset[str]) -> bool:
    """Whether more than half of the shorter sentence's words are in the other."""
    return len(left & right) > ALIKE * min(len(left), len(right)) or left == right
