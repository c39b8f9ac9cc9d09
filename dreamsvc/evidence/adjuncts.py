"""Whether two Chinese, Japanese or Korean texts differ only in where the time stands.

昨天王芳在家 and 王芳昨天在家 say the same. The time may stand before or after who does it, or between phrases that
end with a particle, in one clause and with all other words in their order. Nothing else may move: 狗咬人 is not 人咬狗.
"""

import re
from collections.abc import Sequence, Set
from typing import NamedTuple

from dreamsvc.evidence.lexicon import listed

# Words of a signature, one a line; each Han or kana character is a word of its own.
_HAN = listed("""
    昨天 今天 明天 前天 后天 後天 当天 當天 每天 昨日 今日 明日 一昨日 明後日 毎日 毎朝 毎晩 每晚
    昨晚 今晚 明晚 昨夜 今夜 今早 明早 今晨 今朝 昨晩 今晩 明晩
    今年 去年 明年 前年 后年 後年 昨年 来年 來年 每年 毎年 春天 夏天 秋天 冬天 现在 現在 目前 最近
    早上 早晨 上午 中午 下午 傍晚 晚上 夜里 夜裡 深夜 凌晨 清晨 午前 午後 正午 夕方
    上周 下周 本周 这周 每周 上週 下週 本週 這週 每週 先週 来週 今週 毎週 再来週 上月 下月 本月 每月 先月 来月 今月 毎月
    上个月 下个月 这个月 每个月 上個月 下個月 這個月 每個月 周末 週末 上个周末 下个周末
""")
_KOREAN = listed("""
    어제 오늘 내일 모레 그제 그저께 어젯밤 오늘밤 지난주 다음주 이번주 지난달 다음달 이번달 작년 올해 내년 재작년
    주말 아침 저녁 오전 오후 매일 매주 매달 매년 최근
""")


def _by_line(word: str) -> str:
    return r"\n".join(word)


_ONE = "|".join(
    (
        *map(_by_line, sorted(_HAN, key=len, reverse=True)),
        r"(?:[上下这這本每]\n(?:[个個]\n)?)?(?:星\n期|礼\n拜|禮\n拜|[周週])\n[一二三四五六日天末]",
        r"[月火水木金土日]\n曜(?:\n日)?",
        r"\d{1,2}\n月(?:\n\d{1,2}(?:\ day|\n[号號]))?",
        r"\d{1,2}\n[点點時时](?:\n半)?",
        r"\d{4}\ year",
        r"@[\d:-]+",
        rf"(?:{'|'.join(_KOREAN)}|[월화수목금토일]요일|(?:지난|다음|이번)\n(?:주|달|해|[월화수목금토일]요일))에?",
    )
)
# With what it is of (来週の月曜日) and its particle.
_TIME = re.compile(rf"^(?:{_ONE})(?:\n(?:の\n)?(?:{_ONE}))*+(?:\nに)?+$(?!\n[的の之])", re.MULTILINE)
_BINDING = frozenset("从從到至自比是和与與跟像把被给給的の之とや不没沒")
_REPORTS = re.compile(r"と\n[言思聞話考伝]|[다라]고$", re.MULTILINE)

_HIRAGANA = "\u3041-\u3096"
_CALLED = "(?:さん|ちゃん|くん|さま|たち)?"
_JAPANESE_PHRASES = re.compile(
    rf"(?:(?:[^{_HIRAGANA}]+{_CALLED}[のとや])*[^{_HIRAGANA}]+{_CALLED}(?:では|には|[はがもでにをへ])){{1,3}}"
)
_KANA = re.compile("[\u3041-\u30ff]")
_HANGUL = re.compile("[\uac00-\ud7a3]")
_TOPICS = ("은", "는")
_PARTICLES = ("께서", "에서", "이", "가", "도", "에", "을", "를", *_TOPICS)
_KOREAN_TITLES = ("씨", "님", "선생", "부장", "과장", "교수", "박사")
# Before a time that follows who does it stands no verb and nothing that links: 我知道他昨天走了.
_CHINESE_VERBS = frozenset(
    "是有在去来來说說看见見听聽问問想知觉覺认認以希告记記得了过過着著被把给給让讓叫请請使因如虽雖但当當"
)
_CHINESE_WORDS = 8
_JAPANESE_WORDS = 24
_KOREAN_WORDS = 5


class _Timed(NamedTuple):
    time: str
    at: int  # how many words stand before it
    rest: tuple[str, ...]  # the other words
    stops: frozenset[int]  # positions in `rest` before which a clause ended, those beside the time left out
    begins: bool  # a clause or the text begins with it
    ends: bool  # a clause ends with it


def is_moved(left: Sequence[str], left_stops: Set[int], right: Sequence[str], right_stops: Set[int]) -> bool:
    """Whether the time stands elsewhere and all else is the same; words and stops as in a signature."""
    if not any(word[0] > "\u3000" for word in left):
        return False
    ours, theirs = _timed(left, left_stops), _timed(right, right_stops)
    if ours is None or theirs is None or ours.time != theirs.time or ours.rest != theirs.rest:
        return False
    first, last = (ours, theirs) if ours.at < theirs.at else (theirs, ours)
    if (first.ends and not first.begins) or last.begins or not _is_free(range(first.at + 1, last.at), first, last):
        return False
    return _may_be_passed(first.rest[first.at : last.at], first.begins)


def _timed(words: Sequence[str], stops: Set[int]) -> _Timed | None:
    """None if it tells no time or several, or one that belongs to the words beside it."""
    line = "\n".join(words)
    found = list(_TIME.finditer(line))
    if len(found) != 1 or _REPORTS.search(line):
        return None
    start = line.count("\n", 0, found[0].start())
    end = start + found[0][0].count("\n") + 1
    if (start and words[start - 1] in _BINDING) or not stops.isdisjoint(range(start + 1, end)):
        return None
    return _Timed(
        time=found[0][0],
        at=start,
        rest=(*words[:start], *words[end:]),
        stops=frozenset(stop if stop < start else stop - (end - start) for stop in stops if stop < start or stop > end),
        begins=start == 0 or start in stops,
        ends=end in stops and end < len(words),
    )


def _is_free(between: range, *texts: _Timed) -> bool:
    return all(text.stops.isdisjoint(between) for text in texts)


def _may_be_passed(words: Sequence[str], begins: bool) -> bool:
    """Whether the time says of the same words when, before these or after them; `begins`: they begin a clause."""
    told = "".join(words)
    if _HANGUL.search(told):
        return len(words) <= _KOREAN_WORDS and _is_korean_phrase(words)
    if _KANA.search(told):
        return len(words) <= _JAPANESE_WORDS and _JAPANESE_PHRASES.fullmatch(told) is not None
    return begins and len(words) <= _CHINESE_WORDS and _CHINESE_VERBS.isdisjoint(told)


def _is_korean_phrase(words: Sequence[str]) -> bool:
    if sum(word.endswith(_TOPICS) for word in words) > 1:  # 가는 사람은: one of them may be a verb
        return False
    return all(
        word.endswith(_PARTICLES) or (at + 1 < len(words) and words[at + 1].startswith(_KOREAN_TITLES))
        for at, word in enumerate(words)
    )
