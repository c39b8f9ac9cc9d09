"""What a text names: proper names and identifiers as they are written, and what a title says without its brackets.

A name is a word with a capital letter inside a sentence, a run of such words, a word with a capital anywhere but at its
beginning (GitHub, E42), and what stands in quotation marks. Scripts without capitals have names in quotation marks
only; what callers say that a memory is about helps there.
"""

import re
from collections.abc import Iterator
from functools import cache

from dreamsvc.evidence.lexicon import GLUE, MONTHS

LONGEST_RUN = 5  # words
# What is known of a name. A plain word that begins a sentence is one only if another text shows it to be: not SURE.
SURE = 1
WHOLE = 2  # it has several words
LEADS = 4  # the text begins with it, so it is likely about it
# Latin, Greek, Cyrillic, Armenian, and their additions: first and last characters.
_CASED_BLOCKS = (
    (0x30, 0x39),
    (0x41, 0x5A),
    (0x61, 0x7A),
    (0xAA, 0x2AF),
    (0x300, 0x52F),
    (0x531, 0x587),
    (0x1E00, 0x1FFF),
)
_BRACKETS = re.compile(r"\s*[(（][^()（）]*[)）]\s*$")
_SENTENCE_ENDS = frozenset(".!?…:。！？\n")
_OPENING = " \t\"'“«([*-"  # may stand between the end of a sentence and the next one
# These are in many texts and tell nothing about any of them.
_DAYS = "monday tuesday wednesday thursday friday saturday sunday montag dienstag mittwoch donnerstag freitag samstag"
_NO_NAMES = GLUE | MONTHS.keys() | frozenset(_DAYS.split())


@cache
def _runs() -> re.Pattern[str]:
    """Words that hold a capital, one space between two."""
    characters = [chr(code) for first, last in _CASED_BLOCKS for code in range(first, last + 1)]
    cased = "".join(character for character in characters if character.isalnum() or 0x300 <= ord(character) <= 0x36F)
    capital = "".join(character for character in characters if character.isupper())
    small = "".join(set(cased) - set(capital))
    word = f"[{small}]*[{capital}][{cased}]*(?:['’.&/-][{cased}]+)*"
    return re.compile(f"(?<![{cased}]){word}(?: {word})*")


@cache
def _quoted() -> re.Pattern[str]:
    pairs = ("“”", "«»", "「」", "『』", "《》", '""')
    return re.compile("|".join(f"{opens}([^{opens}{closes}\n]{{2,60}}){closes}" for opens, closes in pairs))


def bare_title(title: str) -> str:
    """A title without the brackets at its end, which only tell it from others: "Mercury (planet)" is "Mercury"."""
    return _BRACKETS.sub("", title).strip() or title.strip()


def folded(name: str) -> str:
    """The form in which two spellings of a name are one: case, possessive and dots aside."""
    return name.casefold().replace("’", "'").removesuffix("'s").replace(".", "")


def names_in(text: str) -> dict[str, int]:
    """The names in a text, folded, with what is known of each: SURE, WHOLE, LEADS.

    Parts of longer names are left out: who is called by the whole name once is mostly called by a part of it
    afterwards, and the part fits many others.
    """
    found: dict[str, int] = {}
    for match in _runs().finditer(text):
        before = text[max(0, match.start() - 4) : match.start()].rstrip(_OPENING)
        begins = not before or before[-1] in _SENTENCE_ENDS
        leads = LEADS * (not found and not text[: match.start()].strip(_OPENING))
        for place, run in _split(match[0].split(" ")):
            if len(run) > LONGEST_RUN:
                continue
            sure = len(run) > 1 or not (begins and place == 0 and run[0][1:].islower())
            name = folded(" ".join(run))
            found[name] = found.get(name, 0) | SURE * sure | WHOLE * (len(run) > 1) | leads
            leads = 0
    for match in _quoted().finditer(text):
        quoted = match[match.lastindex or 0].strip(" ,.")
        if len(quoted) > 1 and quoted.count(" ") < LONGEST_RUN:
            name = folded(quoted)
            found[name] = found.get(name, 0) | SURE | WHOLE * (" " in name)
    parts = {word for name in found if " " in name for word in name.split(" ")}
    return {name: flags for name, flags in found.items() if name not in parts}


def _split(words: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Runs of names and where each begins, without the words that are capitals only where they stand."""
    run: list[str] = []
    for place, word in enumerate(words):
        if len(word) == 1 or folded(word).partition("'")[0] in _NO_NAMES:
            if run:
                yield place - len(run), run
            run = []
        else:
            run.append(word)
    if run:
        yield len(words) - len(run), run
