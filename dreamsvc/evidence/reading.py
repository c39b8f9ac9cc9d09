"""Text to signature: everything the comparisons need, read once per text, in time linear in its length."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import NamedTuple

from dreamsvc.evidence import quantities
from dreamsvc.evidence.lexicon import (
    CONTRACTIONS,
    ENDINGS,
    GLUE,
    HAN_DIGITS,
    HAN_SCALES,
    IS_AFTER,
    MONTHS,
    NEGATORS,
    NUMBER_WORDS,
    ORDINALS,
    SCALE_MARKS,
    SCALES,
    UNITS,
)


class Signature(NamedTuple):
    """What a text says, as far as two texts can be compared by it."""

    key: str  # case, punctuation and white space folded away; equal keys are copies
    words: tuple[str, ...]  # in order; numbers, dates and units in one spelling each
    bag: Mapping[str, int]  # word -> how often
    stops: tuple[int, ...]  # positions in `words` before which a clause or sentence ended, ascending
    ends: tuple[int, ...]  # those of `stops` at which a sentence ended
    colons: tuple[int, ...]  # positions in `words` before which a colon stands; not among `stops`
    names: frozenset[str]  # words written like names: capitalised inside a sentence, or all in capitals
    denied: tuple[str, ...]  # for each negator the content word after it, "" when there is none
    asks: bool  # ends with a question mark


_MARKS = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670"
    "\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u0900-\u0903\u093a-\u094f\u0951-\u0957\u0962\u0963\u0980-\u0983"
    "\u09bc-\u09cd\u0a00-\u0a03\u0a3c-\u0a4d\u0abc-\u0acd\u0b3c-\u0b4d\u0bbe-\u0bcd\u0c3e-\u0c4d\u0cbc-\u0ccd\u0d3e-\u0d4d"
)
# Written without spaces; each character is a word of its own. Thai to Khmer, kana, Bopomofo, Han.
_SPACELESS = (
    "\u0e00-\u0e4e\u0e80-\u0ece\u1000-\u103f\u1780-\u17d3\u3005\u3007\u3041-\u309f\u30a1-\u30ff\u3105-\u312f"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_SYMBOLS = "\u2190-\u21ff\u2600-\u27bf\U0001f000-\U0001faff"
_LETTERS = rf"[^\W_{_SPACELESS}]+(?:[{_MARKS}]+[^\W_{_SPACELESS}]*)*"
_COUNTING = NUMBER_WORDS.keys() | SCALES.keys() | {scale + "s" for scale in SCALES}
_SENTENCE_END = frozenset(".!?…。！？[]")
_COLONS = frozenset(":：")
_HAN_MEASURES = "公米厘克升分小天日年月个個岁歲元点點号號只隻本台辆輛条條张張次件位杯瓶层層楼樓倍名人"
_HAN_NUMERAL = "".join(HAN_DIGITS | HAN_SCALES)

_GRADE = r"(?:(?<=\b[a-z])|(?<=\bab))[+-](?![\w+-])"  # A+, A-, blood type AB-

_COMMON = rf"""
  (?P<sign>[<>≤≥≠]=?(?=\ ?[$€£¥]?\d))
  |(?P<word>{_LETTERS}(?:'{_LETTERS})*(?:(?<=\d)(?:\.\d+)+|\+\+|\#(?!\w)|{_GRADE})?)
  |(?P<single>[{_SPACELESS}])
  |(?P<stop>[,.;:!?]+(?=[\s"')]|$)|[…。，、！？；：()\[\]{{}}]+)
  |(?P<symbol>[{_SYMBOLS}$€£¥₹])
"""
_TOKEN = re.compile(
    rf"(?P<date>{quantities.DATE})|(?P<time>{quantities.TIME})|(?P<number>{quantities.NUMBER})|{_COMMON}", re.VERBOSE
)
_TOKEN_WITHOUT_DIGITS = re.compile(_COMMON, re.VERBOSE)
_DIGIT = re.compile(r"\d")
_HAN_NUMBER = re.compile(rf"[{_HAN_NUMERAL}]{{2,}}|[{_HAN_NUMERAL}](?=[{_HAN_MEASURES}])")
_KEY = re.compile(
    rf"(?:(?<!\S)-)?[<>≤≥≠]*\d+(?:[.,:/-]\d+)*|{_LETTERS}(?:\+\+|\#|{_GRADE})?|[{_SPACELESS}]|[{_SYMBOLS}$€£¥₹%°]"
)
_HAN_UNIT = re.compile(r"公里|公斤|千克|厘米|分钟|分鐘|小时|小時|[米克升天日年元]")
_NAME = re.compile(rf"(?<=[\w,;:)'\"&/-][\ -]){_LETTERS}|(?<![\w'])[^\W\d_a-z]{{2,}}(?!\w)")
_INVISIBLE = dict.fromkeys([0xAD, 0xFEFF, 0x2060, *range(0x200B, 0x2010), *range(0xFE00, 0xFE10)])
_ONE_SPELLING = str.maketrans(
    dict.fromkeys("’‘ʼ＇`´′", "'")
    | dict.fromkeys("‐‑‒–—―−", "-")
    | str.maketrans("ıİ", "iI")
    | dict.fromkeys("“”„«»「」『』", '"')
)
_FRACTION = re.compile(r"(?<=\d)(?=[¼½¾⅐-⅞])")
_POWER = re.compile(r"(?<=\d)(?=[⁰¹²³⁴-⁹])")
_SPACES = re.compile(r"\s+")
_SLICE = 4_096  # characters; normalising is quadratic in a run of accents, so no run is longer
_NEGATOR_REACH = 4  # words


def signature(text: str) -> Signature:
    """Everything that `same_text`, `conflict` and `change` look at. Any text will do, of any length and script."""
    text = _normalised(text)
    folded = text.casefold()
    words, stops, ends, colons = _words(folded)
    return Signature(
        key=" ".join(_KEY.findall(folded.replace("'", ""))),
        words=tuple(words),
        bag=Counter(words),
        stops=tuple(stops),
        ends=tuple(ends),
        colons=tuple(colons),
        names=_names(text),
        denied=() if NEGATORS.isdisjoint(words) else _denied(words, stops),
        asks=folded.rstrip(" \"')").endswith("?"),
    )


def _normalised(text: str) -> str:
    if not text.isascii():
        text = _POWER.sub("^", _FRACTION.sub(" ", text.translate(_INVISIBLE)))
        if len(text) <= _SLICE:
            text = unicodedata.normalize("NFKC", text)
        else:
            text = "".join(unicodedata.normalize("NFKC", piece) for piece in _slices(text))
        text = text.translate(_ONE_SPELLING)
    elif "`" in text:
        text = text.replace("`", "'")
    return _SPACES.sub(" ", text.replace("_", " ").strip())


def _slices(text: str) -> list[str]:
    pieces: list[str] = []
    start = 0
    while start < len(text):
        stop = start + _SLICE
        if stop < len(text):
            stop = max(text.rfind(" ", start, stop), text.rfind("\n", start, stop)) + 1 or stop
        pieces.append(text[start:stop])
        start = stop
    return pieces


def _words(text: str) -> tuple[list[str], list[int], list[int], list[int]]:
    words: list[str] = []
    stops: list[int] = []
    ends: list[int] = []
    colons: list[int] = []
    counted = -1  # position of a number that the next word may measure or scale
    skip = 0  # end of a unit that was read ahead
    tokens = _TOKEN if _DIGIT.search(text) else _TOKEN_WITHOUT_DIGITS
    for found in tokens.finditer(text):
        if found.start() < skip:
            continue
        kind, token = found.lastgroup, found[0]
        if kind == "word":
            if counted == len(words) - 1 >= 0 and (measured := _measured(words[-1], token)):
                words[-1] = measured
                counted = counted if token in SCALE_MARKS else -1
            elif token in ORDINALS:
                words.append(ORDINALS[token])
            elif token in MONTHS and (run := quantities.MONTH_FIRST.match(text, found.start())):
                words.append(quantities.moment_of_date(run[0]))
                skip = run.end()
            elif token in _COUNTING:
                run = quantities.SPELLED.match(text, found.start())
                words += quantities.spelled(run[0]) if run and run[0] != "one" else [token]
                skip = run.end() if run else 0
                counted = len(words) - 1
            elif "'" in token or token in CONTRACTIONS:
                words += _opened(token)
            else:
                words.append(token)
        elif kind == "stop":
            counted = -1
            places = colons if token in _COLONS else stops
            if words and (not places or places[-1] != len(words)):
                places.append(len(words))
            if words and (not ends or ends[-1] != len(words)) and not _SENTENCE_END.isdisjoint(token):
                ends.append(len(words))
        elif kind == "number":
            if words and "%" not in token and (unit := _code(token)):
                words.append(unit)
            else:
                words.append(quantities.number(token))
                counted = len(words) - 1
            skip = _read_han_unit(text, found.end(), words)
        elif kind == "single" and token in _HAN_NUMERAL and (run := _HAN_NUMBER.match(text, found.start())):
            value = quantities.han(run[0])
            words += run[0] if value is None else [value]
            skip = (value is not None and _read_han_unit(text, run.end(), words)) or run.end()
        elif kind == "date":
            words.append(quantities.moment_of_date(token))
        elif kind == "time":
            words.append(quantities.moment_of_time(token))
        else:
            words.append(token)
    return words, stops, ends, colons


def _measured(value: str, word: str) -> str | None:
    if value == "one" and (word in UNITS or word in SCALE_MARKS):
        value = "1"
    if not quantities.is_decimal(value):
        if value.endswith(" $") and word in SCALE_MARKS:
            return quantities.times(value[:-2], SCALE_MARKS[word]) + " $"
        return None
    if word in SCALE_MARKS:
        return quantities.times(value, SCALE_MARKS[word])
    if word in UNITS:
        return quantities.measured(value, UNITS[word])
    return None


def _code(token: str) -> str | None:
    """A number grown together with letters that measure nothing (3d, 12b) is a name and stays."""
    tail = token.lstrip("-$€£¥₹ 0123456789.,").strip()
    return token if tail and tail not in UNITS and tail not in SCALE_MARKS and token[0].isdigit() else None


def _read_han_unit(text: str, start: int, words: list[str]) -> int:
    if start < len(text) and text[start] > "\u3000" and (unit := _HAN_UNIT.match(text, start)):
        words[-1] = quantities.measured(words[-1], UNITS[unit[0]])
        return unit.end()
    return 0


def _opened(token: str) -> tuple[str, ...]:
    if token in CONTRACTIONS:
        return CONTRACTIONS[token]
    if token.endswith("n't") and len(token) > 3:
        return (token[:-3], "not")
    stem, _, ending = token.rpartition("'")
    if ending == "s":
        return (*_opened_stem(stem), "is") if stem in IS_AFTER else _opened_stem(stem)
    if (full := ENDINGS.get("'" + ending)) and stem:
        return (*_opened_stem(stem), full)
    return tuple(part for part in token.split("'") if part)


def _opened_stem(stem: str) -> tuple[str, ...]:
    return tuple(part for part in stem.split("'") if part)


def _names(text: str) -> frozenset[str]:
    if text.upper() == text:
        return frozenset()
    return frozenset(
        folded
        for word in _NAME.findall(text)
        if word[0] != word[0].lower() and (folded := word.casefold()) not in GLUE and folded not in NEGATORS
    )


def _denied(words: Sequence[str], stops: Sequence[int]) -> tuple[str, ...]:
    ends = frozenset(stops)
    found: list[str] = []
    for at, word in enumerate(words):
        if word in NEGATORS:
            reach = range(at + 1, min(at + 1 + _NEGATOR_REACH, len(words)))
            near = takewhile(lambda place: place not in ends, reach)
            found.append(next((words[place] for place in near if words[place] not in GLUE), ""))
    return tuple(found)
