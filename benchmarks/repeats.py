"""A memory in which everything is said several times, as people repeat themselves.

A repeat says the same in almost the same words: other case, other punctuation, a filler before or after, the two halves
of a sentence with "when" or "because" turned round. Nothing that is told changes. The same seed gives the same repeats.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.evaluation_sets import EvaluationSet, Fact, Question

# Words that a sentence may begin with and that are no names: after an opener they are written small.
_SMALL = re.compile(r"(A|An|And|As|But|He|Her|His|If|In|It|My|On|Our|She|So|That|The|There|They|This|We|When|You)\b")
OPENERS = (
    "By the way, ",
    "As I said, ",
    "Like I said before, ",
    "Oh, and ",
    "You know, ",
    "Anyway, ",
    "So, ",
    "Well, ",
    "Actually, ",
)
ENDINGS = (", as I said.", ", you know.", ", by the way.", ", like I mentioned.")
# "When it rained, she stayed." says what "She stayed when it rained." does.
_TURNABLE = re.compile(r"(When|Because|Although|While|Since|After|Before|If|Once) ([^,;:.!?]+), ([^,;:.!?]+)([.!?])")
_LAST_MARK = re.compile(r"[.!?…]+$")
# Marks that end a clause, not those inside numbers, times and names of files.
_INNER_MARK = re.compile(r"[,;](?=\s)")
TRIES = 20


class _Reword(NamedTuple):
    weight: float
    # Gives the text itself where it finds nothing to change.
    reword: Callable[[str, np.random.Generator], str]


def repeated(given: EvaluationSet, times: int, *, seed: int) -> EvaluationSet:
    """The set with each fact `times` times, named `NAME_xTIMES`; a question is answered by any telling of its facts.

    A repeat tells of the same moment, so it has the event time of the original.
    """
    keys = {fact.key: tuple(_key(fact.key, place) for place in range(times)) for fact in given.facts}
    facts = [
        fact._replace(key=key, text=text)
        for number, fact in enumerate(given.facts)
        for key, text in zip(keys[fact.key], tellings(fact, times, seed=[seed, number]), strict=True)
    ]
    questions = (
        Question(question.text, tuple(tuple(other for key in gold for other in keys[key]) for gold in question.gold))
        for question in given.questions
    )
    return EvaluationSet(f"{given.name}_x{times}", tuple(facts), tuple(questions), given.token_budget)


def tellings(fact: Fact, times: int, *, seed: int | Sequence[int]) -> list[str]:
    """The text of a fact and `times` - 1 repeats of it, all different."""
    rng = np.random.default_rng(seed)
    told = [fact.text]
    while len(told) < times:
        told.append(next(text for text in (reword(fact.text, rng) for _ in range(TRIES)) if text not in told))
    return told


def reword(text: str, rng: np.random.Generator) -> str:
    """The same in slightly other words: one or two changes, at least one of which shows."""
    weights = np.array([one.weight for one in _REWORDS])
    chosen = rng.choice(len(_REWORDS), 1 + int(rng.integers(2)), replace=False, p=weights / weights.sum())
    places: list[int] = np.sort(chosen).tolist()
    new = text
    for place in places:
        new = _REWORDS[place].reword(new, rng)
    return new if new != text else _opened(text, rng)


def _key(key: str, place: int) -> str:
    return key if place == 0 else f"{key}#{place + 1}"


def _turned(text: str, rng: np.random.Generator) -> str:
    def turn(found: re.Match[str]) -> str:
        word, first, second, mark = found.groups()
        return f"{second[0].upper()}{second[1:]} {word.lower()} {first}{mark}"

    return _TURNABLE.sub(turn, text)


def _loose_marks(text: str, rng: np.random.Generator) -> str:
    """Without a mark at the end, or another one, and perhaps without commas."""
    marks = ("", ".", "!", "..") if not text.endswith("?") else ("?", "??")
    new = _LAST_MARK.sub("", text) + marks[int(rng.integers(len(marks)))]
    return _INNER_MARK.sub("", new) if rng.random() < 0.5 else new


def _lower(text: str, rng: np.random.Generator) -> str:
    return text.lower()


def _shouted(text: str, rng: np.random.Generator) -> str:
    """The first sentence in capitals."""
    head, mark, rest = text.partition(". ")
    return head.upper() + mark + rest


def _opened(text: str, rng: np.random.Generator) -> str:
    head = text[0].lower() + text[1:] if _SMALL.match(text) else text
    return OPENERS[int(rng.integers(len(OPENERS)))] + head


def _ended(text: str, rng: np.random.Generator) -> str:
    if text.rstrip().endswith("?"):
        return _opened(text, rng)
    return _LAST_MARK.sub("", text.rstrip()) + ENDINGS[int(rng.integers(len(ENDINGS)))]


# In the order in which they are applied: clauses are turned while their marks are there.
_REWORDS = (
    _Reword(2.0, _turned),
    _Reword(2.0, _loose_marks),
    _Reword(2.0, _opened),
    _Reword(1.0, _ended),
    _Reword(2.0, _lower),
    _Reword(0.5, _shouted),
)
