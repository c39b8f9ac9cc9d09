"""A key by which copies find each other without being read whole: several times cheaper than a signature."""

import re
import unicodedata

from dreamsvc.evidence.lexicon import (
    CONTRACTIONS,
    ENDINGS,
    GLUE,
    HAN_DIGITS,
    HAN_SCALES,
    IS_AFTER,
    MONTHS,
    MOODS,
    NEGATORS,
    NUMBER_WORDS,
    ORDINALS,
    SCALE_MARKS,
    SCALES,
    UNITS,
)

_LETTERS = re.compile(r"[a-z]{3,}")
_ANY_LETTERS = re.compile(r"[a-z]{3,}|[^\W\d_a-z]")
_APOSTROPHES = re.compile("[’‘ʼ＇`´′]")
_CLITIC = re.compile(r"(?:(?<=[a-z])'(?:s|re|ve|ll|m|d)?|n't)(?![a-z])")
_INVISIBLE = re.compile("[\xad\ufeff\u2060\u200b-\u200f\ufe00-\ufe0f]")
# So much of a word counts: "ann's", which is "anns" or "ann", begins as "ann" does.
_BEGINNING = 3
_SLICE = 4_096  # characters; normalising is quadratic in a run of accents
_MASK = (1 << 63) - 1

# What a signature may spell in another way: numbers, dates, units, negations, glue.
_SPELLED = (
    GLUE
    | NEGATORS
    | frozenset(MOODS)
    | frozenset(CONTRACTIONS)
    | frozenset(word.replace("'", "") for word in CONTRACTIONS)
    | frozenset(word for opened in CONTRACTIONS.values() for word in opened)
    | frozenset(ENDINGS.values())
    | frozenset(word + "s" for word in IS_AFTER)
    | frozenset(word + "nt" for word in (*GLUE, *MOODS))
    | frozenset(MONTHS)
    | frozenset(NUMBER_WORDS)
    | frozenset(SCALES)
    | frozenset(word + "s" for word in (*SCALES, *NUMBER_WORDS))
    | frozenset(SCALE_MARKS)
    | frozenset(ORDINALS)
    | frozenset(UNITS)
)
_UNREAD = frozenset(word[:_BEGINNING] for word in _SPELLED if word.isascii()) | frozenset(
    char for char in "".join((*_SPELLED, *HAN_DIGITS, *HAN_SCALES, "年月日号點点時时分秒")) if not char.isascii()
)


def rough_key(text: str) -> int:
    """0..2^63 - 1, equal for two texts that `same_text` takes for copies, and now and then for others.

    Of the same text it differs from process to process. A copy whose apostrophe stands inside a name (O'Neil, ONeil)
    is missed.
    """
    return sum(map(hash, _beginnings(text))) & _MASK


def _beginnings(text: str) -> list[str]:
    if text.isascii():
        letters, text = _LETTERS, text.lower()
    else:
        letters, text = _ANY_LETTERS, _APOSTROPHES.sub("'", _INVISIBLE.sub("", text))
        slices = (text[start : start + _SLICE] for start in range(0, len(text), _SLICE))
        text = "".join(unicodedata.normalize("NFKC", part) for part in slices).casefold()
    if "'" in text or "`" in text:
        text = _CLITIC.sub("", text.replace("`", "'"))
    return [begin for word in letters.findall(text) if (begin := word[:_BEGINNING]) not in _UNREAD]
