"""Whether two texts state different values of one attribute of one subject, so that the newer one replaces the older.

The rule: each text is one statement, made now (no question, no "was", "might" or "if"), of an attribute that holds one
value at a time; subject and attribute are the same words; neither value says the other and more. An attribute holds one
value when `attributes` or a table below says so: a verb frame (lives in, works at, is 34 years old), a head noun (phone
number, dentist, anything favourite or current), a status (approved, on hold), a time at which something definite is, a
state and its opposite (up, down), or something that is done and then no longer is. What people like, own, know or visit
they can do twice: that is no change.

Only the words are known here. "I live in Oslo" of two speakers is the caller's to tell apart.
"""

import re
from collections.abc import Iterable, Sequence, Set
from itertools import pairwise
from typing import NamedTuple

from dreamsvc.evidence import attributes
from dreamsvc.evidence.lexicon import GLUE, MOODS, NEGATORS, PERSONS, TIME_WORDS, WEEKDAYS, listed
from dreamsvc.evidence.quantities import MOMENT, is_number
from dreamsvc.evidence.reading import Signature
from dreamsvc.evidence.variants import are_opposites, keys


class Change(NamedTuple):
    """One attribute and its value by each text."""

    attribute: str  # "user lives in", "meeting when"
    left: str
    right: str


class Statement(NamedTuple):
    """What a text says of something that has one value at a time."""

    subject: tuple[str, ...]  # words, as they stand
    attribute: str  # "lives in", "status", "when", or empty where the subject says it: user favourite colour
    value: tuple[str, ...]


class Doing(NamedTuple):
    """What a text says is done, or no longer is."""

    words: tuple[str, ...]  # without those that say that it is over
    is_over: bool


_WORDS = 24  # a longer text tells more than one thing
_VALUE_WORDS = 6

_SCHEDULED = frozenset(
    listed("scheduled due set planned moved rescheduled postponed pushed shifted delayed happening starts begins ends")
)
_CHANGED = frozenset(
    listed("changed set updated moved switched upgraded downgraded reset raised lowered renamed extended")
)
_LINKS = frozenset(listed("to on at for in until till from back"))
_IS = frozenset(listed("is are am equals"))
_FRESH = frozenset(listed("new current currently now updated latest recently just already actually anymore officially"))
_FILLERS = _FRESH | frozenset(listed("has have had been being will be really very update correction fyi news"))
_SEVERAL = frozenset(listed("also too another second sometimes often usually both either every used or"))
_TAILS = frozenset(
    listed("since with because and but for when where which who as after before until so though while instead")
)
_OPENERS = frozenset(listed("hey hi hello oh well update correction fyi news wow yes so anyway"))
_ABBREVIATIONS = frozenset(listed("dr mr mrs ms prof st"))  # whose point ends nothing
_ENDERS = frozenset(listed("no not longer anymore more stopped stop stops quit quits"))
_NOBODY = frozenset(listed("it they this that these those there them its their"))
_POSSESSED = frozenset(listed("the my our your his her"))

_HAN_RESIDENCE = re.compile(r"(.+?)(?:住在|搬到了?|搬去了?)(.+)")
_HAN_NOUN = re.compile(
    r"(.*?(?:最喜欢的.{1,4}|电话|電話|号码|號碼|密码|密碼|生日|名字|地址|邮箱|郵箱|状态|狀態|职位|職位|年龄|年齡))"
    r"(?:是|改为|改成|為|为)(.+)"
)
_HAN_NOW = re.compile(r"现在|現在|目前|已经|已經|了$")


def change(left: Signature, right: Signature) -> Change | None:
    """The attribute that two texts give different values, or None. Symmetric: the caller knows which is newer."""
    if not _is_one_assertion(left) or not _is_one_assertion(right):
        return None
    ended = _ended(left, right)
    if ended is not None:
        return ended
    ours, theirs = _statement(left), _statement(right)
    if ours is None or theirs is None or not _agree(ours.subject, theirs.subject):
        return None
    if ours.attribute != theirs.attribute:
        return None
    if not _differ(ours, theirs):
        return None
    attribute = " ".join((*ours.subject, ours.attribute)).strip()
    return Change(attribute, _shown(ours.value), _shown(theirs.value))


def statement(text: Signature) -> Statement | None:
    """The value of an attribute that a text states, if it does. An index for `change`, which compares two of these.

    Two texts with a change between them have statements of one attribute, with subjects of equally many words that are
    variants of each other, or are a doing and its end.
    """
    return _statement(text) if _is_one_assertion(text) else None


def doing(text: Signature) -> Doing | None:
    """What a text says is done or no longer done, if it may. An index for `change` like `statement`.

    A doing and its end have equally many words, each a variant of the one in its place.
    """
    if not _is_one_assertion(text) or not (words := _bare(text)):
        return None
    return Doing(words, _is_ended(text))


def _is_one_assertion(text: Signature) -> bool:
    return not text.asks and 0 < len(text.words) <= _WORDS


def _statement(text: Signature) -> Statement | None:
    if text.words[0] > "\u3000":
        return _han_statement("".join(text.words))
    found = _one_clause(text)
    if found is None or not _SEVERAL.isdisjoint(found) or not NEGATORS.isdisjoint(found):
        return None
    if any(word in MOODS and word != "will" for word in found) or ("was" in found[:-1] and _plain_past(found)):
        return None
    said = [word for word in found if word not in _FILLERS or word == "current"]
    return _by_verb(said) or _by_noun(said, text.names) or _by_time(said) or _by_status(found) or _by_state(said)


def _one_clause(text: Signature) -> list[str] | None:
    """The words of the only clause that says something; greetings before and "not Oslo any more" after are cut off."""
    stops = (stop for stop in text.stops if text.words[stop - 1] not in _ABBREVIATIONS)
    edges = sorted({0, *stops, *text.colons, len(text.words)})
    clauses = [list(text.words[start:stop]) for start, stop in pairwise(edges)]
    while len(clauses) > 1 and all(word in GLUE or word in _OPENERS for word in clauses[0]):
        del clauses[0]
    if len(clauses) > 1 and clauses[0][0] in _OPENERS and len(clauses[0]) <= 2:
        del clauses[0]
    while len(clauses) > 1 and (clauses[-1][0] == "not" or clauses[-1][:2] == ["no", "longer"]):
        del clauses[-1]
    is_headed = len(clauses) == 2 and bool(text.colons) and attributes.noun(clauses[0]) is not None
    if any(len(clause) > 2 for clause in clauses[1:]) and not is_headed:
        return None
    if is_headed and _IS.isdisjoint((*clauses[0], *clauses[1])):
        clauses[0].append("is")  # "Status: open"
    return [word for clause in clauses for word in clause]


def _plain_past(found: Sequence[str]) -> bool:
    return found[found.index("was") + 1] not in _CHANGED | _SCHEDULED


def _by_verb(said: Sequence[str]) -> Statement | None:
    for at in range(1, len(said) - 1):
        if (attribute := attributes.VERBS.get((said[at], said[at + 1]))) is not None:
            value = said[at + 2 :]
            if _is_time(value):
                return None  # the meeting moved to Thursday
            return _checked(said[:at], attribute, value)
        if said[at] in attributes.AMOUNTS and is_number(said[at + 1]):
            return _checked(said[:at], attributes.AMOUNTS[said[at]], said[at + 1 :])
    for at in range(1, len(said)):
        if said[at].endswith(" year") and said[at - 1] in _IS and said[at + 1 :] == ["old"]:
            return _checked(said[: at - 1], attributes.AGE, [said[at]])
        if said[at - 1] == "turned" and said[at].isdigit():
            return _checked(said[: at - 1], attributes.AGE, [said[at]])
    return None


def _by_noun(said: Sequence[str], names: Set[str]) -> Statement | None:
    at = next((place for place, word in enumerate(said) if word in _IS or word in _CHANGED or word == "was"), 0)
    if not 0 < at < len(said) - 1:
        return None
    before, after = said[:at], said[at + 1 :]
    if (about := attributes.noun(before)) is not None:
        is_moved = said[at] in _CHANGED or after[0] in _CHANGED
        while len(after) > 1 and (
            after[0] in _CHANGED or (after[0] in _LINKS and (is_moved or attributes.has_a_place(about)))
        ):
            after = after[1:]
        return _of_noun(before, about, after) if attributes.may_be(about, after, names) else None
    if said[at] not in _IS or not (after[0] in _POSSESSED or (len(after) > 1 and _is_possessive(after))):
        return None
    return None if (about := attributes.noun(after)) is None else _of_noun(after, about, before)


def _is_possessive(phrase: Sequence[str]) -> bool:
    """user favourite colour, which was "the user's" before: a favourite is always somebody's."""
    return not attributes.ADJECTIVES.isdisjoint(phrase)


def _of_noun(phrase: Sequence[str], about: str, value: Sequence[str]) -> Statement | None:
    """What "the price of the boat" and "the boat's price" have in common with "the boat costs"."""
    if (attribute := attributes.TOLD_BY.get(about)) is None:
        return _checked(phrase, "", value)
    at = phrase.index(about)
    whose = [*phrase[:at], *phrase[at + 1 :]]
    if not _subject(whose):  # "Status: open"
        return _checked(phrase, "", value)
    return _checked(whose, attribute, value)


def _by_time(said: Sequence[str]) -> Statement | None:
    at = next((place for place, word in enumerate(said) if word in _IS or word in _SCHEDULED or word == "was"), 0)
    if not 0 < at < len(said) - 1:
        return None
    after = said[at:]
    while len(after) > 1 and (after[0] in _IS or after[0] in _SCHEDULED or after[0] in _LINKS or after[0] == "was"):
        after = after[1:]
    if not _is_time(after) or (_POSSESSED.isdisjoint(said[:at]) and len(said[:at]) < 2):
        return None
    kind = "end" if "ends" in said else "when"
    times = [word for word in after if word[0] == MOMENT or word in TIME_WORDS]
    return _checked(said[:at], kind, times)


def _by_status(found: Sequence[str]) -> Statement | None:
    """The boat is on hold; the boat has been sold."""
    at = next((place for place, word in enumerate(found) if word in _IS or word == "been"), 0)
    value = [word for word in found[at + 1 :] if word not in _FRESH and word != "still"]
    subject = [word for word in found[:at] if word not in _FILLERS]
    if not subject or subject[-1] in PERSONS or subject[-1] == "user" or not attributes.is_status(value):
        return None
    return _checked(subject, attributes.STATUS, value)


def _by_state(said: Sequence[str]) -> Statement | None:
    if len(said) < 3 or said[-2] not in _IS:
        return None
    return _checked(said[:-2], "state", said[-1:])


def _checked(subject: Sequence[str], attribute: str, value: Sequence[str]) -> Statement | None:
    cut = next((at for at, word in enumerate(value) if word in _TAILS), len(value))
    if attribute not in ("when", "end", "") and any(is_number(word) or word[0] == MOMENT for word in value[cut:]):
        return None
    if attribute not in ("when", "end", "") and any(word in TIME_WORDS for word in value):
        return None  # works at Acme on weekdays
    told = tuple(attributes.in_one_wording(attribute, [word for word in value[:cut] if word not in GLUE]))
    if attribute.endswith((" in", " at")) and any(word[0] == MOMENT or is_number(word) for word in told):
        return None  # moved to Oslo in 2010: when it was said tells nothing about which is newer
    who = _subject(subject)
    if not who or not told or len(told) > _VALUE_WORDS or not _NOBODY.isdisjoint(subject):
        return None
    return Statement(who, attribute, told)


def _subject(phrase: Iterable[str]) -> tuple[str, ...]:
    return tuple(
        PERSONS.get(word, word) for word in phrase if word in PERSONS or (word not in GLUE and word not in _FRESH)
    )


def _differ(ours: Statement, theirs: Statement) -> bool:
    left, right = ours.value, theirs.value
    if ours.attribute == "state":
        return are_opposites(left[0], keys(right[0]))
    if ours.attribute in ("when", "end"):
        mine, other = _by_sort(left), _by_sort(right)
        return any(mine[sort] != other[sort] for sort in mine.keys() & other.keys())
    return not _within(left, right) and not _within(right, left)


def _by_sort(times: Iterable[str]) -> dict[str, str]:
    """Clock, date and day of the week apart: "on Tuesday" does not differ from "at 3 pm"."""
    return {
        "clock" if ":" in word else "date" if word[0] == MOMENT else "day" if word in WEEKDAYS else "other": word
        for word in times
    }


def _is_time(value: Sequence[str]) -> bool:
    return bool(value) and (value[0][0] == MOMENT or value[0] in TIME_WORDS or value[:1] == ["next"])


def _within(part: Iterable[str], whole: Sequence[str]) -> bool:
    return all(any(not _are_different(word, other) for other in whole) for word in part)


def _are_different(left: str, right: str) -> bool:
    return keys(left).isdisjoint(keys(right))


def _agree(left: Sequence[str], right: Sequence[str]) -> bool:
    return len(left) == len(right) and _within(left, right) and _within(right, left)


def _ended(left: Signature, right: Signature) -> Change | None:
    """Done by one text and no longer done by the other."""
    ends = [_is_ended(left), _is_ended(right)]
    if ends[0] == ends[1]:
        return None
    ours, theirs = _bare(left), _bare(right)
    if not ours or len(ours) != len(theirs) or any(map(_are_different, ours, theirs)):
        return None
    return Change(" ".join(ours), *("no longer" if end else "still" for end in ends))


def _is_ended(text: Signature) -> bool:
    found = text.words
    return (
        any(pair == ("no", "longer") for pair in pairwise(found))
        or ("not" in found and "anymore" in found)
        or any(word in found for word in ("stopped", "quit"))
    )


def _bare(text: Signature) -> tuple[str, ...]:
    dropped = _ENDERS | _FILLERS if _is_ended(text) else _FILLERS
    if not _is_ended(text) and (text.denied or any(word in MOODS for word in text.words)):
        return ()
    return tuple(
        PERSONS.get(word, word) for word in text.words if word in PERSONS or (word not in GLUE and word not in dropped)
    )


def _han_statement(text: str) -> Statement | None:
    text = _HAN_NOW.sub("", text)
    if any(char in NEGATORS or char in "也吗嗎可想" for char in text):
        return None
    if found := _HAN_NOUN.fullmatch(text):
        return Statement(tuple(found[1]), "是", (found[2],))
    if found := _HAN_RESIDENCE.fullmatch(text):
        return Statement(tuple(found[1]), "住在", (found[2],))
    return None


def _shown(value: Iterable[str]) -> str:
    return " ".join(word.lstrip(MOMENT) for word in value)
