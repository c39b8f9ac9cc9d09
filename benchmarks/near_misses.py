"""A made-up memory in which is planted what a night must find, and what it must leave alone; equal for equal sizes.

Plain facts about many people; copies that differ in case, punctuation, white space, width or order of words, also in
Chinese, Japanese and Korean; near misses, pairs of which one word is another and with it the fact; and updates, an
older and a newer value of one attribute. Everybody who is planted about appears nowhere else.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks import planted_words as words

SEED = 5
DAY_US = 86_400_000_000
# Of the older values of updates; any past day would do.
FIRST_TOLD_US = 1_700_000_000_000_000
EDGE_WEIGHT = 0.9
YEAR_DAYS = 365


class Planted(NamedTuple):
    key: str
    text: str
    event_us: int | None = None


class Pair(NamedTuple):
    """Two memories; which kind of copy or near miss they are."""

    kind: str
    left: Planted
    right: Planted


class Update(NamedTuple):
    """Two values of one attribute, and who asks for it."""

    kind: str
    older: Planted
    newer: Planted
    question: str


class Size(NamedTuple):
    plain: int
    # Pairs of each kind.
    copies: int
    cjk_copies: int
    near_misses: int
    updates: int


class Memory(NamedTuple):
    facts: list[Planted]  # all of them, in the order in which they are remembered
    copies: list[Pair]
    near_misses: list[Pair]
    updates: list[Update]


class _Drawn(dict[str, str]):
    """Fills the places of a template: each word is drawn once and is the same from then on; a person comes once."""

    def __init__(self, who: Iterator[str], rng: np.random.Generator) -> None:
        super().__init__()
        self._who, self._rng = who, rng

    def __missing__(self, name: str) -> str:
        if name in ("who", "other") or name.endswith("_who"):
            self[name] = next(self._who)
        else:
            # "city2" is another city than "city".
            kept = [word for word in words.LISTS[name.rstrip("2")] if word != self.get(name.rstrip("2"))]
            self[name] = kept[int(self._rng.integers(len(kept)))]
        return self[name]


def made(size: Size) -> Memory:
    rng = np.random.default_rng([SEED, *size])
    who = _named(words.FIRST_NAMES, words.SURNAMES, " ", rng)
    plain = _plain(size.plain, who, rng)
    copies = [*_copies(size.copies, who, rng), *_cjk_copies(size.cjk_copies, rng)]
    near_misses = _near_misses(size.near_misses, who, rng)
    updates = _updates(size.updates, who, rng)
    facts = [
        *plain,
        *(fact for pair in (*copies, *near_misses) for fact in (pair.left, pair.right)),
        *(fact for update in updates for fact in (update.older, update.newer)),
    ]
    order: list[int] = rng.permutation(len(facts)).tolist()
    return Memory([facts[place] for place in order], copies, near_misses, updates)


def _named(first: Sequence[str], second: Sequence[str], between: str, rng: np.random.Generator) -> Iterator[str]:
    """Names of two parts, none twice."""
    for number in rng.permutation(len(first) * len(second)).tolist():
        yield f"{first[number // len(second)]}{between}{second[number % len(second)]}"


def _plain(count: int, who: Iterator[str], rng: np.random.Generator) -> list[Planted]:
    """Up to four facts of different templates about each person."""
    facts: list[Planted] = []
    while len(facts) < count:
        person = next(who)
        for template in rng.choice(len(words.PLAIN), 4, replace=False).tolist()[: count - len(facts)]:
            drawn = _Drawn(who, rng)
            drawn["who"] = person
            facts.append(Planted(f"plain:{len(facts)}", words.PLAIN[template].format_map(drawn)))
    return facts


# ── copies ──────────────────────────────────────────────────────────────────────


def _upper(text: str, number: int) -> str:
    return (text.lower(), text.upper(), text.title(), text.swapcase())[number % 4]


def _marked(text: str, number: int) -> str:
    bare = text.rstrip(".")
    return (bare, f"{bare}!", f"{bare}...", f"“{text}”", f"{bare} .", f"- {text}")[number % 6]


def _spaced(text: str, number: int) -> str:
    first, _, rest = text.partition(" ")
    return (
        text.replace(" ", "  "),
        f"  {text}\n",
        f"{first}\t{rest}",
        text.replace(" ", "\n", 3),
        text.replace(" ", "\u00a0"),
    )[number % 5]


_ALTERED: dict[str, Callable[[str, int], str]] = {"case": _upper, "punctuation": _marked, "white space": _spaced}


def _copies(count: int, who: Iterator[str], rng: np.random.Generator) -> list[Pair]:
    pairs: list[Pair] = []
    for kind, alter in _ALTERED.items():
        for number in range(count):
            text = words.PLAIN[int(rng.integers(len(words.PLAIN)))].format_map(_Drawn(who, rng))
            pairs.append(_pair("copy", kind, number, text, alter(text, number)))
    for number in range(count):
        left, right = words.TURNED[number % len(words.TURNED)]
        drawn = _Drawn(who, rng)
        pairs.append(_pair("copy", "word order", number, left.format_map(drawn), right.format_map(drawn)))
    return pairs


def _cjk_copies(count: int, rng: np.random.Generator) -> list[Pair]:
    """Of each kind `count`, the scripts in turn."""
    who = {script: _named(*names, "", rng) for script, names in words.CJK_NAMES.items()}
    pairs: list[Pair] = []
    for kind, templates in words.CJK_COPIES.items():
        for number in range(count):
            left, right = templates[number % len(templates)]
            script = left[left.index("_who}") - 2 :][:2]
            drawn = _Drawn(who[script], rng)
            pairs.append(_pair("copy", kind, number, left.format_map(drawn), right.format_map(drawn)))
    return pairs


# ── near misses and updates ─────────────────────────────────────────────────────


def _near_misses(count: int, who: Iterator[str], rng: np.random.Generator) -> list[Pair]:
    pairs: list[Pair] = []
    for kind, templates in words.NEAR_MISSES.items():
        for number in range(count):
            left, right = templates[number % len(templates)]
            drawn = _Drawn(who, rng)
            pairs.append(_pair("miss", kind, number, left.format_map(drawn), right.format_map(drawn)))
    return pairs


def _updates(count: int, who: Iterator[str], rng: np.random.Generator) -> list[Update]:
    updates: list[Update] = []
    for kind, (older, newer, question) in words.UPDATES.items():
        for number in range(count):
            drawn = _Drawn(who, rng)
            told_us = FIRST_TOLD_US + int(rng.integers(YEAR_DAYS)) * DAY_US
            later_us = told_us + int(rng.integers(30, YEAR_DAYS)) * DAY_US
            key = f"update:{kind}:{number}"
            updates.append(
                Update(
                    kind,
                    Planted(f"{key}:older", older.format_map(drawn), told_us),
                    Planted(f"{key}:newer", newer[number % len(newer)].format_map(drawn), later_us),
                    question.format_map(drawn),
                )
            )
    return updates


def _pair(what: str, kind: str, number: int, left: str, right: str) -> Pair:
    key = f"{what}:{kind}:{number}"
    return Pair(kind, Planted(f"{key}:a", left), Planted(f"{key}:b", right))


def edges(memory: Memory) -> Iterator[tuple[str, str]]:
    """Keys of memories that strong edges join: both of each near miss, so that only the evidence keeps them apart."""
    yield from ((pair.left.key, pair.right.key) for pair in memory.near_misses)


def kinds(pairs: Sequence[Pair]) -> list[str]:
    """Each once, in their order."""
    return list(dict.fromkeys(pair.kind for pair in pairs))
