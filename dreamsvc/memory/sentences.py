"""Which sentence of a memory says best what is wanted: by the words it shares, in the memory's own words."""

import re
from collections.abc import Collection

from dreamsvc.lexical.words import FUNCTION_WORDS, tokenize

LONGEST = 500  # characters of a sentence; the rest of a longer one is cut off between two words
LOOKED_AT = 64  # sentences of a text
BEGINNING = 20_000  # characters of a text
# A sentence is not better for having fewer words than this, and one that has hardly any gives way to another as good.
EXPECTED_WORDS = 12
FEW_WORDS = 4

_CLOSING = r"""["'”’»)\]]"""
_NEXT = r"""\s+(?=["'“‘«(\[]*[^\sa-z])"""  # not before a small letter: "e.g. this"
_END = re.compile(
    rf"(?<=[.!?…]){_NEXT}|(?<=[.!?…]{_CLOSING}){_NEXT}|(?<=[。！？])"
    r"|\s*\n\s*\n\s*|\s*\n\s*(?=[^\sa-z])"  # a line that begins with a small letter is a wrapped one
)
_CLOSED = re.compile(rf"[.!?…。！？:;]{_CLOSING}*$")


def words_in(text: str) -> frozenset[str]:
    """What a text is about: its words, case-folded, without function words unless it holds nothing else."""
    words = frozenset(tokenize(text[:BEGINNING]))
    return words - FUNCTION_WORDS or words


def shared(wanted: Collection[str], text: str) -> float:
    """Share of some words that a text holds, 0 to 1."""
    return len(words_in(text).intersection(wanted)) / len(wanted) if wanted else 0.0


def split(text: str) -> list[str]:
    """The first sentences of a text, white space made single; pieces without a letter or digit are left out."""
    pieces = (" ".join(piece.split()) for piece in _END.split(text[:BEGINNING]))
    return [_cut(piece) for piece in pieces if any(char.isalnum() for char in piece)][:LOOKED_AT]


def fitting(title: str, text: str, wanted: Collection[str], said: Collection[str]) -> str:
    """The sentence that shares most with the words wanted, else the first; the title where there is no text.

    One that was said already is taken only where nothing else is left. '' of a memory without words.
    """
    sentences = split(text) or split(title)
    fresh = [sentence for sentence in sentences if sentence not in said] or sentences
    return max(fresh, key=lambda sentence: _fit(sentence, wanted), default="")


def joined(sentences: Collection[str]) -> str:
    """One text of sentences; those that end without a mark get a full stop."""
    whole = [sentence if _CLOSED.search(sentence) else f"{sentence}." for sentence in sentences]
    return " ".join(whole)


def _fit(sentence: str, wanted: Collection[str]) -> tuple[float, bool]:
    words = words_in(sentence)
    return len(words.intersection(wanted)) / max(len(words), EXPECTED_WORDS) ** 0.5, len(words) >= FEW_WORDS


def _cut(sentence: str) -> str:
    if len(sentence) <= LONGEST:
        return sentence
    head = sentence[: LONGEST - 1]
    between = head.rfind(" ")
    return (head[:between] if between > LONGEST // 2 else head) + "…"
