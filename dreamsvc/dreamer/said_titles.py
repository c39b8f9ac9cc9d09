"""Titles and aliases that texts say, known by their words as recall cuts them."""

from collections.abc import Iterable, Iterator, Sequence

from dreamsvc.evidence.naming import bare_title
from dreamsvc.lexical.index import SHARED_BY
from dreamsvc.lexical.words import FUNCTION_WORDS, tokenize

TITLE_WORDS = 8
# A title of so few words must be written as it is: "The Campaign" is not what every campaign is.
EXACT_WORDS = 2


class Titles:
    """Titles and aliases by their words."""

    def __init__(self) -> None:
        # Words joined by spaces -> whose title they are and how it is written; nothing where a title only begins so.
        # Tuples, since the garbage collector would look through as many lists for a tenth of a second.
        self.held: dict[str, tuple[tuple[int, str], ...]] = {}

    def add(self, row: int, forms: Iterable[str]) -> None:
        """The titles of a memory."""
        for form in dict.fromkeys(map(bare_title, forms)):
            words = tokenize(form)
            if not _is_telling(words):
                continue
            for stop in range(1, len(words)):
                self.held.setdefault(" ".join(words[:stop]), ())
            key = " ".join(words)
            bearers = self.held.get(key, ())
            if len(bearers) < SHARED_BY:
                self.held[key] = (*bearers, (row, form))

    def said_in(self, text: str) -> Iterator[tuple[int, str]]:
        """Memories whose title a text says, and how it is written; some of them twice."""
        held = self.held
        words = tokenize(text)
        for start, key in enumerate(words):
            stop = start + 1
            while (entries := held.get(key)) is not None:
                if len(entries) < SHARED_BY:
                    for row, form in entries:
                        if stop - start > EXACT_WORDS or _stands(form, text):
                            yield row, form
                if stop == len(words):
                    break
                key += " " + words[stop]
                stop += 1


def _is_telling(words: Sequence[str]) -> bool:
    if not 0 < len(words) <= TITLE_WORDS or all(word in FUNCTION_WORDS or word.isdigit() for word in words):
        return False
    return len(words) > 1 or len(words[0]) > 2 or not words[0].isascii()


def _stands(form: str, text: str) -> bool:
    """Whether a title is in a text as it is written, and no part of longer words; in any case if it has no capitals."""
    if form.islower():
        text = text.lower()
    at = text.find(form)
    while at >= 0:
        end = at + len(form)
        joined = form.isascii() and (text[at - 1 : at].isalnum() or text[end : end + 1].isalnum())
        if not joined:
            return True
        at = text.find(form, at + 1)
    return False
