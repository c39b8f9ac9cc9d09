"""How long a text is, in the unit of token budgets: words and marks, one each; of scripts without spaces, characters.

This is no model's tokenizer, only near enough to every model's to budget by: English prose has about 1.3 tokens of a
model to each of these.
"""

import functools
import re

# Written without spaces between words: Thai to Khmer, kana, Bopomofo, Han.
_SPACELESS = (
    "\u0e00-\u0e4e\u0e80-\u0ece\u1000-\u109f\u1780-\u17d3\u3005\u3007\u3041-\u309f\u30a1-\u30ff\u3105-\u312f"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
# Accents and vowel signs belong to the letter before them, joiners and variants of emoji to the picture before them.
_ATTACHED = "\u0300-\u036f\u0483-\u0487\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0dff"
_INVISIBLE = "\xad\u200b-\u200f\u2060-\u2064\ufe00-\ufe0f\ufeff"
# A blob without a space is not one word: every begun LONGEST characters count.
LONGEST = 24

_ASCII = re.compile(rf"\w{{1,{LONGEST}}}(?:'\w{{1,{LONGEST}}})?|[^\w\s]")


@functools.cache
def _any() -> re.Pattern[str]:
    """Of all scripts; made when the first text asks for it, since it takes milliseconds, of every start too."""
    return re.compile(
        rf"[^\W{_SPACELESS}](?:[^\W{_SPACELESS}]|[{_ATTACHED}]){{0,{LONGEST - 1}}}"
        rf"(?:['’][^\W{_SPACELESS}]{{1,{LONGEST}}})?"
        rf"|[{_SPACELESS}]"
        rf"|[^\w\s{_ATTACHED}{_INVISIBLE}]"
    )


def count_tokens(text: str) -> int:
    """Words and marks of a text, 0 for one that is empty or blank; about 0.2 us each."""
    return len((_ASCII if text.isascii() else _any()).findall(text))
