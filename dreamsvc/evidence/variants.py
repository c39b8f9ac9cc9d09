"""When two different words are one word: inflection, spelling of either side of the Atlantic, a few sure synonyms."""

import re
import unicodedata
from functools import lru_cache

from dreamsvc.evidence.lexicon import BASES, OPPOSITES, PAST_FORMS, SYNONYMS, listed

# Words whose ending only looks like an inflection.
_RIGID = frozenset(listed("news evening morning goods customs glasses united during being thing things something"))
_VOWEL = re.compile(r"[aeiouy]")
_SHORT = re.compile(r"[^aeiou]*[aeiou][^aeiouwxy]")  # hop, plan: doubles its last letter before -ed and -ing
_DOUBLED = re.compile(r"([bdgklmnprtv])\1")
_BRITISH = (
    (re.compile(r"(?<=[a-z]{2})our"), "or"),
    (re.compile(r"(?<=[a-z]{2})is(?=(e|es|ed|er|ers|ing|ation|ations)$)"), "iz"),
    (re.compile(r"yse(?=d?$)"), "yze"),
    (re.compile(r"(?<=[a-z]{2})tre(?=s?$)"), "ter"),
    (re.compile(r"ogue(?=s?$)"), "og"),
    (re.compile(r"(?<=[a-z]{2})ence(?=s?$)"), "ense"),
    (re.compile(r"ll(?=(ed|ing|er|ers)$)"), "l"),
)
_SHORTEST_NEGATED = 2
_NEGATING = ("un", "in", "im", "ir", "il", "dis", "non", "mis")


@lru_cache(maxsize=1 << 15)
def keys(word: str) -> frozenset[str]:
    """Every base form that `word` may be a form of. Two words with a key in common are variants of one word."""
    if not (word.isascii() and word.isalpha()) or len(word) < 3 or word in _RIGID:
        return frozenset((word,))
    found = {word}
    if word in BASES:
        found.add(BASES[word])
    if word.endswith("s") and len(word) > 3 and word[-2] not in "sui":
        found.add(word[:-1])
        if word.endswith("ies"):
            found.add(word[:-3] + "y")
        elif word.endswith(("ches", "shes", "xes", "sses", "zzes", "oes")):
            found.add(word[:-2])
    elif word.endswith("ing") and len(word) > 5:
        found |= _stems(word[:-3])
    elif word.endswith("ed") and len(word) > 4 and word[-3] != "e":
        found |= _stems(word[:-2])
    for form in tuple(found):
        spelling = form
        if len(form) > 4:
            for british, american in _BRITISH:
                spelling = british.sub(american, spelling)
        found.add(spelling)
    return frozenset(found | {SYNONYMS[form] for form in found if form in SYNONYMS})


def _stems(stem: str) -> set[str]:
    if not _VOWEL.search(stem):
        return set()
    if _DOUBLED.fullmatch(stem[-2:]):
        return {stem, stem[:-1]}
    if stem.endswith("i"):
        return {stem[:-1] + "y"}
    if _SHORT.fullmatch(stem):
        return {stem + "e"}
    return {stem, stem + "e"}


def without_accents(word: str) -> str:
    """`josé` -> `jose`. For names only: in many languages an accent makes another word (trabajo, trabajó)."""
    if word.isascii():
        return word
    return "".join(char for char in unicodedata.normalize("NFD", word) if not unicodedata.combining(char))


def speaks_of_the_past(word: str) -> bool:
    return word in PAST_FORMS or (word.endswith("ed") and len(word) > 4 and word[-3] != "e")


def are_opposites(left: str, right: frozenset[str]) -> bool:
    """Whether a form of `left` is the opposite of one of the forms in `right`, by table or by prefix."""
    ours = keys(left)
    if any(not OPPOSITES[form].isdisjoint(right) for form in ours if form in OPPOSITES):
        return True
    return any(
        prefix + form in right or (form.startswith(prefix) and form[len(prefix) :] in right)
        for form in ours
        if len(form) > _SHORTEST_NEGATED
        for prefix in _NEGATING
        if len(form.removeprefix(prefix)) > _SHORTEST_NEGATED
    )
