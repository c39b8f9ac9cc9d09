"""Who stands where in two sentences of the same words: "my book for you" is not "your book for me"."""

from collections.abc import Sequence
from typing import NamedTuple

from dreamsvc.evidence.lexicon import GLUE, OWNERS, PERSONS

_JOINS = frozenset(("and", "or"))


class _Place(NamedTuple):
    """The pronouns between two content words, in order."""

    words: list[str]
    owners: list[str]  # whose: my, her book
    others: list[str]  # who: i, me, her


def exchanged(left: Sequence[str], right: Sequence[str], content: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """The pronouns of the first place at which another person stands, of either text; None where there is none.

    `content`: words of which both texts have all, in this order; each pronoun has its place between two of them. One
    who is named in one text only is no difference.
    """
    is_joined = not _JOINS.isdisjoint(left) or not _JOINS.isdisjoint(right)
    for ours, theirs in zip(_places(left, content), _places(right, content), strict=True):
        if (
            _are_others(ours.owners, theirs.owners)
            or _are_others(ours.others, theirs.others)
            or (not is_joined and _are_turned(ours.others, theirs.others))
        ):
            return ours.words, theirs.words
    return None


def _places(words: Sequence[str], content: Sequence[str]) -> list[_Place]:
    places = [_Place([], [], []) for _ in range(len(content) + 1)]
    passed = 0
    for at, word in enumerate(words):
        if passed < len(content) and word == content[passed]:
            passed += 1
        elif (person := PERSONS.get(word)) is not None:
            place = places[passed]
            place.words.append(word)
            (place.owners if _owns(word, words[at + 1 : at + 2]) else place.others).append(person)
    return places


def _owns(word: str, following: Sequence[str]) -> bool:
    if word == "her":  # her book, her own, but: gave her my book
        return bool(following) and (following[0] == "own" or following[0] not in GLUE)
    return word in OWNERS


def _are_others(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    return bool(ours) and bool(theirs) and set(ours).isdisjoint(theirs)


def _are_turned(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    """I have you, you have me."""
    first, other = list(dict.fromkeys(ours)), list(dict.fromkeys(theirs))
    return first != other and sorted(first) == sorted(other)
