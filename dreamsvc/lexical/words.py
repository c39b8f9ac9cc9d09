"""What counts as a word, in text of any script, and which words a query is not about."""

import re
import unicodedata
from functools import cache
from itertools import pairwise
from typing import NamedTuple

QUERY_WORDS = 2_048  # of one query; a whole document as a query would hold the interpreter for seconds

# English function words, passed over in a query unless it holds nothing else: in chats "what did" is rarer, so by its
# idf heavier, than what is asked about. None that is also a name (will, may, us); index and aliases keep them all.
_FUNCTION_WORDS = """
a an and are as at be been but by could did do does for from had has have he her him his how i if in into is it its
me my no nor not of on or our she should so such than that the their them then there these they this those to was we
were what when where which who whom whose why with would you your
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())

_SLICE = 1 << 16  # characters tokenised in one go, so that no regex call holds the interpreter for long

# Scripts written without spaces: Thai, Lao, Myanmar, Khmer, Kana, Bopomofo, Han, Hangul.
_SPACELESS = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u1000-\u1049\u1780-\u17d3\u3005\u3007\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u3105-\u312f\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
)
# Marks that belong to the letter before them but are no \w: accents, Cyrillic, Hebrew, Arabic, Indic vowel signs.
_MARKS = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670"
    "\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u0900-\u0963\u0980-\u0dff"
)
# No word is longer than 64 characters: what is (base64, hashes in a row) is cut instead of filling the vocabulary.
_ASCII_WORD = re.compile(r"\w{1,64}", re.ASCII)


class _Scripts(NamedTuple):
    """Patterns for text beyond ASCII."""

    word: re.Pattern[str]
    spaceless: re.Pattern[str]
    run_or_word: re.Pattern[str]


@cache
def _scripts() -> _Scripts:
    # Compiled at the first text that needs them: 9 ms that a start need not wait for.
    return _Scripts(
        word=re.compile(rf"[\w{_MARKS}]{{1,64}}"),
        spaceless=re.compile(f"[{_SPACELESS}]"),
        run_or_word=re.compile(rf"[{_SPACELESS}]+|(?:(?![{_SPACELESS}])[\w{_MARKS}]){{1,64}}"),
    )


def tokenize(text: str) -> list[str]:
    """Words of `text` in order, case-folded; runs of scripts without spaces as overlapping pairs of characters.

    Identifiers fall apart at dots and underscores (`os.path_x` -> os, path, x): a query for the whole then finds its
    parts together, a query for one part finds it at all. Linear in the length of the text.
    """
    if len(text) <= _SLICE:
        return _words(text)
    words: list[str] = []
    start = 0
    while start < len(text):
        stop = start + _SLICE
        if stop < len(text):  # cut between words when there is a space or a line's end to cut at
            stop = max(text.rfind(" ", start, stop), text.rfind("\n", start, stop)) + 1 or stop
        words += _words(text[start:stop])
        start = stop
    return words


def _words(text: str) -> list[str]:
    if text.isascii():
        return _ASCII_WORD.findall(text.lower().replace("_", " "))
    text = unicodedata.normalize("NFKC", text).casefold().replace("_", " ")
    scripts = _scripts()
    if not scripts.spaceless.search(text):
        return scripts.word.findall(text)
    words: list[str] = []
    for run in scripts.run_or_word.findall(text):
        if len(run) > 1 and scripts.spaceless.match(run):
            words += map("".join, pairwise(run))
        else:
            words.append(run)
    return words


def asked(query: str) -> list[str]:
    """The words of a query; of a very long one its head only."""
    return tokenize(query[:_SLICE])[:QUERY_WORDS]
