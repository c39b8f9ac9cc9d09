"""Whether two texts are copies, and what speaks against taking them for one fact."""

import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

from dreamsvc.evidence import order, persons, quantities
from dreamsvc.evidence.lexicon import GLUE, MOODS, NEGATORS, PERSONS, PURE_NEGATORS, TIME_WORDS, listed
from dreamsvc.evidence.reading import Signature
from dreamsvc.evidence.variants import are_opposites, keys, speaks_of_the_past, without_accents


class Kind(StrEnum):
    """What differs, in the order in which it is looked for."""

    UNIT = "unit"  # 5 km, 5 miles
    NUMBER = "number"
    DATE = "date"  # of the calendar, the clock or the week
    NAME = "name"
    NEGATION = "negation"
    ANTONYM = "antonym"
    ROLE = "role"  # who does it to whom: my and your, dog bites man
    TENSE = "tense"  # is, was, will be, might be
    ATTRIBUTE = "attribute"  # the same sentence with something else in one place
    EXTRA = "extra"  # one text says all that the other says, and more
    WORDING = "wording"  # told in other words; only what the words mean can say whether it is the same

    @property
    def contradicts(self) -> bool:
        """False for EXTRA and WORDING: nothing is denied, but dropping one of the two could lose something."""
        return self not in (Kind.EXTRA, Kind.WORDING)


class Conflict(NamedTuple):
    """The first reason against one fact, with the piece of each text that shows it; a piece may be empty."""

    kind: Kind
    left: str
    right: str


_BETWEEN_SINGLES = re.compile(r"(?<=[\u3005-\u9fff]) (?=[\u3005-\u9fff])")
_SPAN = 6  # words; a longer difference in one place is another wording
_SMALL = 3  # content words on either side that make a substitution of a short sentence
_AUXILIARIES = frozenset(listed("is are was were am be been being has have had 's"))
_PAST, _PRESENT = frozenset(listed("was were")), frozenset(listed("is are am"))


def same_text(left: Signature, right: Signature) -> bool:
    """Whether one is a copy of the other: only case, punctuation, white space, width or order of words differ.

    Another order is a copy only if `order.is_same` says so. Copies are duplicates whatever their vectors say.
    """
    if left.key == right.key or (left.words and left.words == right.words):
        return True
    if not left.words or not right.words:
        return False
    return _is_shuffled(left, right) or (left.bag == right.bag and _same_in_another_order(left, right))


def conflict(left: Signature, right: Signature) -> Conflict | None:
    """The first reason, in the order of `Kind`, against treating two texts as one fact; None if there is none.

    The caller has found them near by their vectors: None does not say that two texts mean the same. Symmetric, with
    the two pieces exchanged. Linear in the length of the texts.
    """
    if left.key == right.key or left.words == right.words or _is_shuffled(left, right):
        return None
    difference = _Difference(left, right)
    if difference.is_empty:
        return None if _same_in_another_order(left, right) else _misplaced(left, right)
    if difference.is_spacing:
        return None
    return next((found for check in _CHECKS if (found := check(difference))), None)


class _Difference:
    """What each of two texts says that the other does not; variants of one word are no difference."""

    def __init__(self, left: Signature, right: Signature) -> None:
        self.a = left
        self.b = right
        self.names = left.names | right.names
        self.left = _missing(left, right)
        self.right = _missing(right, left)
        self.is_empty = not self.left and not self.right
        self.renamed: dict[str, str] = {}  # a word of the right to its variant in the left
        self.variants: list[tuple[str, str]] = []
        # Hyphens and spaces inside a word: e-mail, email; never two numbers that differ in their digits' places.
        self.is_spacing = (
            "".join(self.left) == "".join(self.right)
            and NEGATORS.isdisjoint((*self.left, *self.right))
            and not (any(map(quantities.is_number, self.left)) and all(map(quantities.is_number, self.right)))
            and not (any(map(quantities.is_number, self.right)) and all(map(quantities.is_number, self.left)))
        )
        if self.left and self.right:
            self._match_variants()

    def _match_variants(self) -> None:
        by_key: dict[str, deque[int]] = {}
        for at, word in enumerate(self.left):
            if word not in GLUE or word == "one":
                for key in self._keys(word):
                    by_key.setdefault(key, deque()).append(at)
        matched: set[int] = set()
        rest: list[str] = []
        for word in self.right:
            at = None if word in GLUE and word != "one" else _first(by_key, sorted(self._keys(word)), matched)
            if at is None:
                rest.append(word)
                continue
            matched.add(at)
            self.renamed[word] = self.left[at]
            self.variants.append((self.left[at], word))
        self.left = [word for at, word in enumerate(self.left) if at not in matched]
        self.right = rest

    def _keys(self, word: str) -> Iterable[str]:
        if word == "one":
            return ("1",)
        if word[0] == quantities.MOMENT or quantities.is_number(word):
            return (quantities.in_base_unit(word),)
        return (without_accents(word),) if word in self.names and not word.isascii() else keys(word)

    @cached_property
    def left_content(self) -> list[str]:
        return [word for word in self.left if _is_content(word)]

    @cached_property
    def right_content(self) -> list[str]:
        return [word for word in self.right if _is_content(word)]

    @cached_property
    def common(self) -> tuple[order.Text, order.Text]:
        """The content words of both, each in its own order, in the left text's variants."""
        # "one" for "1" is content as the number is, on whichever side it stands.
        counted = {"one": "1"} if ("one", "1") in self.variants or ("1", "one") in self.variants else {}

        def spelled(words: Iterable[str]) -> list[str]:
            return [counted.get(word, word) for word in words]

        renamed = [self.renamed.get(word, word) for word in self.b.words]
        return (
            _without(self.a, spelled(self.a.words), spelled(self.left)),
            _without(self.b, spelled(renamed), spelled(self.right)),
        )

    @cached_property
    def is_close(self) -> bool:
        """Whether this is one sentence with a little exchanged; else a changed "my" or "to" shows nothing."""
        most = max(len(self.left_content), len(self.right_content))
        return most <= _SMALL or most <= len(self.common[0].words) // 2

    @cached_property
    def is_turned_to_passive(self) -> bool:
        by_one = ("by" in self.left) != ("by" in self.right)
        return by_one and not _AUXILIARIES.isdisjoint((*self.left, *self.right))

    @cached_property
    def is_addition(self) -> bool:
        """Whether one text has the content words of the other in their order, and more between them."""
        if self.left_content and self.right_content:
            return False
        longer, shorter = (self.a, self.b) if self.left_content else (self.b, self.a)
        back = self.renamed if shorter is self.b else {left: right for right, left in self.renamed.items()}
        rest = iter(longer.words)
        return all(word in rest for word in (back.get(word, word) for word in shorter.words) if _is_content(word))

    def pieces(self, left: Sequence[str], right: Sequence[str]) -> tuple[str, str]:
        return _shown(left), _shown(right)


def _missing(ours: Signature, theirs: Signature) -> list[str]:
    """Words of one text beyond those that the other has as often, in order; of several the last."""
    known = theirs.bag
    over = {word: count - known.get(word, 0) for word, count in ours.bag.items() if known.get(word, 0) < count}
    if not over:
        return []
    found: list[str] = []
    for word in reversed(ours.words):
        if over.get(word, 0) > 0:
            over[word] -= 1
            found.append(word)
    return found[::-1]


def _first(by_key: dict[str, deque[int]], wanted: Iterable[str], matched: set[int]) -> int | None:
    for key in wanted:
        places = by_key.get(key)
        while places:
            at = places.popleft()
            if at not in matched:
                return at
    return None


def _is_content(word: str) -> bool:
    return word not in GLUE and word not in PURE_NEGATORS


def _without(text: Signature, words: Sequence[str], left_out: Sequence[str]) -> order.Text:
    skip = Counter(left_out)
    kept: list[str] = []
    place = [0]  # in `words` to place in `kept`
    for word in words:
        if skip.get(word, 0) > 0:
            skip[word] -= 1
        elif _is_content(word) and (word.isalnum() or word[0] == quantities.MOMENT or quantities.is_number(word)):
            kept.append(word)
        place.append(len(kept))
    return order.Text(kept, {place[stop] for stop in text.stops}, {place[end] for end in text.ends})


def _shown(pieces: Iterable[str]) -> str:
    return _BETWEEN_SINGLES.sub("", " ".join(word.lstrip(quantities.MOMENT) for word in pieces))


def _is_shuffled(left: Signature, right: Signature) -> bool:
    """By the words as they are written, since "8 May" is no date any more when its words are far apart."""
    if len(left.key) != len(right.key):
        return False
    ours, theirs = left.key.split(" "), right.key.split(" ")
    return Counter(ours) == Counter(theirs) and order.is_shuffled(ours, theirs, left.names | right.names)


def _same_in_another_order(left: Signature, right: Signature) -> bool:
    return order.is_same(
        order.Text(left.words, frozenset(left.stops), frozenset(left.ends)),
        order.Text(right.words, frozenset(right.stops), frozenset(right.ends)),
        left.names | right.names,
        denied_alike=sorted(left.denied) == sorted(right.denied),
    )


def _misplaced(left: Signature, right: Signature) -> Conflict:
    if sorted(left.denied) != sorted(right.denied):
        return Conflict(Kind.NEGATION, _shown(_denials(left)), _shown(_denials(right)))
    head, tail = order.common_ends(left.words, right.words)
    ours, theirs = left.words[head : len(left.words) - tail], right.words[head : len(right.words) - tail]
    return Conflict(Kind.ROLE, _shown(ours), _shown(theirs))


def _denials(text: Signature) -> Iterable[str]:
    return (f"not {word}".strip() for word in text.denied)


def _numbers(found: _Difference) -> Conflict | None:
    ours = [word for word in found.left if quantities.is_number(word)]
    theirs = [word for word in found.right if quantities.is_number(word)]
    if ours and not theirs and "one" in found.right:
        theirs = ["one"]
    elif theirs and not ours and "one" in found.left:
        ours = ["one"]
    if not ours or not theirs:
        return None
    same_value = ours[0].partition(" ")[0] == theirs[0].partition(" ")[0]
    return Conflict(Kind.UNIT if same_value else Kind.NUMBER, *found.pieces(ours, theirs))


def _dates(found: _Difference) -> Conflict | None:
    ours = [word for word in found.left if word[0] == quantities.MOMENT or word in TIME_WORDS]
    theirs = [word for word in found.right if word[0] == quantities.MOMENT or word in TIME_WORDS]
    if not ours or not theirs:
        return None
    if all(quantities.is_same_moment(a, b) is not False for a, b in zip(ours, theirs, strict=False)):
        return None  # one says more than the other, which is for _extra to report
    return Conflict(Kind.DATE, *found.pieces(ours, theirs))


def _names(found: _Difference) -> Conflict | None:
    ours = [word for word in found.left_content if word in found.names]
    theirs = [word for word in found.right_content if word in found.names]
    return Conflict(Kind.NAME, *found.pieces(ours, theirs)) if ours and theirs else None


def _negation(found: _Difference) -> Conflict | None:
    ours, theirs = found.a.denied, found.b.denied
    told_more = found.left_content or found.right_content
    if bool(ours) != bool(theirs) or (len(ours) != len(theirs) and not told_more):
        return Conflict(Kind.NEGATION, *found.pieces(tuple(_denials(found.a)), tuple(_denials(found.b))))
    renamed = {found.renamed.get(word, word) for word in theirs}
    only_ours = [word for word in ours if word and word not in renamed and word in found.b.bag]
    back = {left: right for right, left in found.renamed.items()}
    renamed = {back.get(word, word) for word in ours}
    only_theirs = [word for word in theirs if word and word not in renamed and word in found.a.bag]
    if not only_ours and not only_theirs:
        return None
    return Conflict(Kind.NEGATION, *found.pieces(tuple(_denials(found.a)), tuple(_denials(found.b))))


def _antonyms(found: _Difference) -> Conflict | None:
    # "to" for "from" says something in one sentence; in two different ones it is chance.
    said = found.left if found.is_close else found.left_content
    theirs = {word: keys(word) for word in (found.right if found.is_close else found.right_content)}
    forms = frozenset(form for forms in theirs.values() for form in forms)
    for word in said:
        if are_opposites(word, forms):
            other = next(right for right, forms in theirs.items() if are_opposites(word, forms))
            return Conflict(Kind.ANTONYM, word, other)
    return None


def _persons(found: _Difference) -> Conflict | None:
    if not found.is_close:
        return None
    ours = {PERSONS[word]: word for word in found.left if word in PERSONS}
    theirs = {PERSONS[word]: word for word in found.right if word in PERSONS}
    only_ours = [word for person, word in ours.items() if person not in theirs]
    only_theirs = [word for person, word in theirs.items() if person not in ours]
    if only_ours and only_theirs:
        return Conflict(Kind.ROLE, *found.pieces(only_ours, only_theirs))
    return _exchanged_persons(found)


def _exchanged_persons(found: _Difference) -> Conflict | None:
    if found.is_turned_to_passive or all(word not in PERSONS for word in (*found.left, *found.right)):
        return None
    ours, theirs = found.common
    if ours.words != theirs.words:
        return None
    renamed = [found.renamed.get(word, word) for word in found.b.words]
    pieces = persons.exchanged(found.a.words, renamed, ours.words)
    return Conflict(Kind.ROLE, *found.pieces(*pieces)) if pieces else None


def _tense(found: _Difference) -> Conflict | None:
    if not found.is_close:
        return None
    ours, theirs = _moods(found.left), _moods(found.right)
    if ours.keys() - theirs.keys() and (theirs or not _moods(found.b.words)):
        return Conflict(Kind.TENSE, *found.pieces(tuple(ours.values()), tuple(theirs.values())))
    if theirs.keys() - ours.keys() and (ours or not _moods(found.a.words)):
        return Conflict(Kind.TENSE, *found.pieces(tuple(ours.values()), tuple(theirs.values())))
    for one, other in ((found.left, found.right), (found.right, found.left)):
        if not _PAST.isdisjoint(one) and not _PRESENT.isdisjoint(other) and _PRESENT.isdisjoint(one):
            return Conflict(Kind.TENSE, *found.pieces(_of(found.left), _of(found.right)))
    if ("used" in found.left) != ("used" in found.right):
        return Conflict(Kind.TENSE, "used" if "used" in found.left else "", "used" if "used" in found.right else "")
    for left, right in found.variants:
        if _is_past(left, found.a) != _is_past(right, found.b) and not (left + right).count("ing"):
            return Conflict(Kind.TENSE, left, right)
    return None


def _of(words: Sequence[str]) -> list[str]:
    return [word for word in words if word in _PAST or word in _PRESENT]


def _moods(words: Iterable[str]) -> dict[str, str]:
    return {MOODS[word]: word for word in words if word in MOODS}


def _is_past(word: str, text: Signature) -> bool:
    """Whether the word tells what is over: "moved", but not "has moved" and "is moved"."""
    if not speaks_of_the_past(word):
        return False
    at = text.words.index(word)
    return _AUXILIARIES.isdisjoint(text.words[max(at - 2, 0) : at])


def _substitution(found: _Difference) -> Conflict | None:
    ours, theirs = found.left_content, found.right_content
    if not ours or not theirs:
        return None
    left, right = found.a.words, tuple(found.renamed.get(word, word) for word in found.b.words)
    head, tail = order.common_ends(left, right)
    inner, other = left[head : len(left) - tail], found.b.words[head : len(right) - tail]
    if head + tail and max(len(inner), len(other)) <= _SPAN:
        return Conflict(Kind.ATTRIBUTE, *found.pieces(inner, other))
    if found.is_close:
        return Conflict(Kind.ATTRIBUTE, *found.pieces(ours, theirs))
    return None


def _roles(found: _Difference) -> Conflict | None:
    ours, theirs = found.common
    if sorted(ours.words) != sorted(theirs.words):
        return None
    if found.left_content or found.right_content:  # what was added may have moved the rest about
        swapped = (
            found.is_close
            and not found.is_addition
            and not found.is_turned_to_passive
            and order.is_swapped(ours, theirs)
        )
    else:
        swapped = not order.is_same_content(ours, theirs, found.is_turned_to_passive)
    return _misplaced(found.a, found.b) if swapped else None


def _extra(found: _Difference) -> Conflict | None:
    ours, theirs = _told(found.left_content), _told(found.right_content)
    if ours and theirs:
        return Conflict(Kind.WORDING, *found.pieces(ours, theirs))
    if ours or theirs:
        return Conflict(Kind.EXTRA, *found.pieces(ours, theirs))
    return None


def _told(words: Sequence[str]) -> list[str]:
    """What is lost when the words go; a symbol by itself, such as a smile, is not."""
    return [word for word in words if any(char.isalnum() for char in word)]


_CHECKS: tuple[Callable[[_Difference], Conflict | None], ...] = (
    _numbers,
    _dates,
    _names,
    _negation,
    _antonyms,
    _persons,
    _tense,
    _substitution,
    _roles,
    _extra,
)
