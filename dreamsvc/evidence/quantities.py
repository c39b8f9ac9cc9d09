"""Numbers, units, dates and times in one spelling each, so that equal ones are equal strings.

Nothing here is ever turned into a machine number at full length: what is longer than 20 digits stays as it is written.
"""

import re
import unicodedata
from fractions import Fraction

from dreamsvc.evidence.lexicon import (
    HAN_DIGITS,
    HAN_SCALES,
    METRIC,
    MONTHS,
    NUMBER_WORDS,
    SCALE_MARKS,
    SCALES,
    UNITS,
)

MOMENT = "@"  # first character of a date's or a time's token
_LONGEST = 20

_month = "|".join(sorted(MONTHS, key=len, reverse=True))
_day = r"\d{1,2}(?:st|nd|rd|th)?"
DATE = (
    r"\d{4}-\d{1,2}-\d{1,2}(?![\d-])(?:t(?=\d\d:))?"
    rf"|{_day}\.?\ (?:of\ )?(?:{_month})\b(?:,?\ \d{{4}}\b)?"
    r"|\d{1,4}[./-]\d{1,2}[./-]\d{1,4}(?![\d./-])"
    r"|(?:\d{4}年)?\d{1,2}月(?:\d{1,2}[日号])?"
)
MONTH_FIRST = re.compile(
    rf"(?:{_month})(?:\.? {_day}\b(?![:.,]\d)(?:,? \d{{4}}\b)?|\.?,? \d{{4}}\b)"
)  # May 8, 2023 or May 2023
TIME = r"\d{1,2}:\d\d(?::\d\d)?(?:\ ?[ap](?:m\b|\.m\.))?|\d{1,2}\ ?[ap](?:m\b|\.m\.)"
_sign = r"(?:(?<!\S)-(?=[$€£¥₹\d]))?(?:[$€£¥₹]\ ?)?"
_tail = r"(?:\^\d+|\ ?°(?:[cf]\b)?|[a-zµ°%]+\d*)?"
NUMBER = _sign + r"(?:\d{1,3}(?:\ \d{3})+(?![\d.,])|\d+(?:[.,]\d+)*)" + _tail
_counted = "|".join([*NUMBER_WORDS, *SCALES])
SPELLED = re.compile(rf"(?:{_counted})s?(?:[- ](?:and )?(?:{_counted})s?\b)*\b")

_NAMED_DAY = re.compile(r"\d+|[^\W\d_]+")
_TAILED = re.compile(r"(-?)([$€£¥₹]?) ?([\d., ]*\d)(.*)", re.DOTALL)
_CLOCK = re.compile(r"(\d{1,2})(?::(\d\d))?(?::(\d\d))? ?([ap])?")
_DECIMAL = re.compile(r"-?\d+(?:\.\d+)?")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{2,3})*,\d{3}(?:\.\d+)?|\d{1,3}(?: \d{3})+|\d{1,3}(?:\.\d{3}){2,}")


def moment_of_date(text: str) -> str:
    """`@2023-05-08`; a part that is not said is a dash, and 8.5.2023, which may be May or August, stays as it is."""
    numbered = re.findall(r"\d+", text)
    if not any(char.isalpha() and char != "t" for char in text):
        if len(numbered) == 3 and len(numbered[0]) == 4:
            return _moment(*numbered)
        if len(numbered) == 3 and len(numbered[2]) == 4:
            first, second, year = numbered
            if int(first) > 12 >= int(second):
                return _moment(year, second, first)
            if int(second) > 12 >= int(first) or first == second:
                return _moment(year, first, second)
        return MOMENT + ".".join(str(int(part)) for part in numbered)
    if "月" in text:
        year = numbered.pop(0) if "年" in text else ""
        return _moment(year, numbered[0], numbered[1] if len(numbered) > 1 else "")
    month = next(MONTHS[part] for part in _NAMED_DAY.findall(text) if part in MONTHS)
    year = next((part for part in numbered if len(part) == 4), "")
    day = next((part for part in numbered if len(part) < 4), "")
    return _moment(year, str(month), day)


def moment_of_time(text: str) -> str:
    """`@15:30`, by the 24-hour clock."""
    found = _CLOCK.match(text)
    assert found is not None  # the pattern TIME is narrower
    hour, minute, second, half = found.groups()
    hours = int(hour)
    if half and 1 <= hours <= 12:
        hours = hours % 12 + (12 if half == "p" else 0)
    return f"{MOMENT}{hours:02}:{minute or '00'}" + (f":{second}" if second and second != "00" else "")


def is_same_moment(left: str, right: str) -> bool | None:
    """True or False for two dates or two times; None when one says more than the other and they agree in the rest."""
    if left == right:
        return True
    ours, theirs = left[1:].split("-"), right[1:].split("-")
    if len(ours) != 3 or len(theirs) != 3:
        return False
    return None if all(a == b or not a or not b for a, b in zip(ours, theirs, strict=True)) else False


def number(text: str) -> str:
    """A number with what is written onto it: `1,000` -> 1000, `5km` -> 5 km, `$3k` -> 3000 $; `a380` stays."""
    found = _TAILED.match(text)
    assert found is not None  # the pattern NUMBER is narrower
    sign, currency, digits, tail = found.groups()
    tail = tail.lstrip()
    value = sign + _plain(digits)
    if tail in SCALE_MARKS:
        value, tail = times(value, SCALE_MARKS[tail]), ""
    elif tail == "m" and currency:
        value, tail = times(value, 10**6), ""
    unit = UNITS.get(currency or tail, currency)
    if unit:
        return measured(value, unit) + ("" if not tail or tail in UNITS else " " + tail)
    return value + tail


def measured(value: str, unit: str) -> str:
    """`5.50` and `$` -> `5.5 $`; without a unit 3.10 is not 3.1, it may be a version."""
    if "." in value:
        value = value.rstrip("0").rstrip(".")
    return f"{value} {unit}"


def times(value: str, scale: int) -> str:
    if len(value) > _LONGEST or not is_decimal(value):
        return f"{value}x{scale}"
    return _decimal(Fraction(value) * scale)


def in_base_unit(token: str) -> str:
    """`5 km` -> `5000 m`, so that metric spellings of one length, mass, volume or span of time compare."""
    value, _, unit = token.partition(" ")
    if unit not in METRIC or len(value) > _LONGEST or not is_decimal(value):
        return token
    base, factor = METRIC[unit]
    return f"{Fraction(value) * Fraction(factor)} {base}"


def spelled(text: str) -> list[str]:
    """Numbers said in English words; what cannot be one number is several: `five six` -> 5, 6."""
    found: list[str] = []
    total = group = 0
    last = 0  # greatest value that may still be added to the group
    for word in re.split(r"[-\s]+", text):
        if word == "and":
            if last < 100:  # "five and six" are two
                found += [str(total + group)] if last else []
                total = group = last = 0
                found.append("and")
            continue
        singular = word if word in NUMBER_WORDS or word in SCALES else word[:-1]
        value = NUMBER_WORDS.get(singular)
        if value is None:
            scale = SCALES[singular]
            if scale >= 1_000:
                total, group = total + (group or 1) * scale, 0
            else:
                if group >= scale:  # "hundred hundred" is no number
                    found.append(str(total + group))
                    total = group = 0
                group = (group or 1) * scale
            last = scale
        elif last and (value >= last or value == 0 or (last == 10 and value > 9)):
            found.append(str(total + group))
            total, group, last = 0, value, _room(value)
        else:
            group += value
            last = _room(value)
    if last:
        found.append(str(total + group))
    return found


def han(run: str) -> str | None:
    """二十五 -> 25, 一九九八 -> 1998; None when the run is no number (十百)."""
    if all(char in HAN_DIGITS for char in run):
        return "".join(str(HAN_DIGITS[char]) for char in run)
    total = section = digit = 0
    for char in run:
        if char in HAN_DIGITS:
            digit = HAN_DIGITS[char]
        elif (scale := HAN_SCALES[char]) < 10_000:
            section += (digit or 1) * scale
            digit = 0
        else:
            total, section, digit = (total + section + digit) * scale, 0, 0
    return str(total + section + digit) if len(run) <= _LONGEST else None


def is_decimal(value: str) -> bool:
    return _DECIMAL.fullmatch(value) is not None


def is_number(token: str) -> bool:
    """Whether a token of a signature counts or measures something; names with digits in them do too."""
    return token[0] != MOMENT and any(char.isdigit() for char in token[:_LONGEST])


def _room(value: int) -> int:
    return 10 if value >= 20 else 1


def _moment(year: str, month: str, day: str) -> str:
    return f"{MOMENT}{year}-{month.zfill(2)}-{day.zfill(2) if day else ''}"


def _plain(digits: str) -> str:
    if not digits.isascii():
        digits = "".join(str(unicodedata.decimal(char)) if char.isdigit() else char for char in digits)
    if _THOUSANDS.fullmatch(digits):
        digits = digits.replace(",", "").replace(" ", "")
        if digits.count(".") > 1:
            digits = digits.replace(".", "")
    elif digits.count(",") == 1 and "." not in digits:
        digits = digits.replace(",", ".")
    whole, dot, part = digits.partition(".")
    return whole if dot and not part.strip("0") else digits


def _decimal(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    return str(float(value))
