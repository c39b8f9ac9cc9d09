"""Whether the same words in another order say the same.

A role swap (dog bites man, A owes B) keeps the frame and exchanges what stands in it; it must never pass. What passes:
the same sentences in another order, one block moved from one end to the other, a block with a preposition or a single
time word moved, the two sides of `is`, the members of one `and` or `or`, or of a list with commas, the time in
Chinese, Japanese and Korean (see `adjuncts`), and words so thoroughly shuffled that no frame is left which two of them
could have exchanged places in.
"""

from collections import Counter
from collections.abc import Sequence, Set
from itertools import pairwise
from typing import NamedTuple

from dreamsvc.evidence import adjuncts
from dreamsvc.evidence.lexicon import TIME_WORDS, listed
from dreamsvc.evidence.quantities import MOMENT, is_number
from dreamsvc.evidence.variants import speaks_of_the_past

_JOINS = frozenset(listed("and or"))
_PREPOSITIONS = frozenset(
    listed("in on at with for from to by during after before until about near since over under through into")
)
_MOVABLE = TIME_WORDS.union(listed("often always usually sometimes recently currently now really again also too"))
_NOT_ADVERBS = frozenset(
    listed("only family reply supply apply rely italy early ugly lovely friendly lonely bully holy")
)
_COPULAS = frozenset(listed("is are was were"))
_DEFINITE = frozenset(listed("the my your his her our their its user"))
_DETERMINERS = _DEFINITE | {"a", "an", "this", "that"} - {"user"}
# Where one of these stands, the order of a list says which is which.
_ORDERED = frozenset(listed("respectively order sequence ranked ranking alphabetical"))
# What has one of these is a clause and no member of a list.
_CLAUSE = frozenset(
    listed("""
    is are was were be been am has have had will would can could should must may might when while if because since
    although though that which who whom whose where not no never to from than as but then by
    """)
)
_MEMBER_WORDS = 4
_LIST_WORDS = 24
_SHUFFLED_WORDS = 6  # fewer words have no frame to lose: a man bites dog
_SHUFFLED_NAMES = 8  # the same when names or numbers changed their order too
_SHUFFLED = 4  # at most one pair of neighbours, and one place, in four is still the same
_TURNED_WORDS = 6  # or characters: fewer may turn into another word (牛奶, 奶牛), or deny another (not all, all not)
_SWAPPED_WORDS = 6
_EXCHANGE_WORDS = 40  # looking for an exchange is quadratic in words


class Text(NamedTuple):
    words: Sequence[str]
    stops: Set[int]  # as in a signature
    ends: Set[int]


def is_same(left: Text, right: Text, names: Set[str], *, denied_alike: bool) -> bool:
    """Whether two texts of the same words, glue included, say the same.

    `names`: words that either writes like names. `denied_alike`: their negators stand before the same words. Sentences
    that are moved whole keep theirs.
    """
    ours, theirs = tuple(left.words), tuple(right.words)
    if ours == theirs:
        return True
    if "respectively" in ours:
        return False
    if _sentences(left) == _sentences(right):
        return True
    spaceless = 2 * sum(len(word) == 1 and word > "\u0e00" for word in ours) > len(ours)
    is_long = len(ours) >= _TURNED_WORDS
    if (is_long or (denied_alike and not spaceless and len(ours) > 2)) and _is_turned(left, right):
        return True
    if not denied_alike:
        return False
    if adjuncts.is_moved(ours, left.stops, theirs, right.stops):
        return True
    if spaceless:
        return False
    head, tail = common_ends(ours, theirs)
    inner, other = ours[head : len(ours) - tail], theirs[head : len(theirs) - tail]
    if _JOINS & set(inner) and _members(inner) == _members(other) and not _is_count(ours, head - 1):
        return True
    if _is_relisted(left, right, names):
        return True
    turn = _turn(inner, other)
    if turn and (_is_adjunct(inner[:turn]) or _is_adjunct(inner[turn:])):
        return True
    return _same_without_time(ours, theirs) or _is_identity(ours, theirs)


def is_same_content(left: Text, right: Text, passive: bool) -> bool:
    """The same for content words alone, when their glue differs; `passive`: one text is, the other is not."""
    ours, theirs = tuple(left.words), tuple(right.words)
    if passive:
        return ours != theirs and _is_exchange(ours, theirs)
    return (
        ours == theirs
        or _sentences(left) == _sentences(right)
        or (len(ours) > 2 and _is_turned(left, right))
        or _same_without_time(ours, theirs)
    )


def is_swapped(left: Text, right: Text) -> bool:
    """Whether two pieces of one sentence exchanged places and all else stayed."""
    ours, theirs = tuple(left.words), tuple(right.words)
    head, tail = common_ends(ours, theirs)
    inner, other = ours[head : len(ours) - tail], theirs[head : len(theirs) - tail]
    if len(inner) > _SWAPPED_WORDS or _sentences(left) == _sentences(right):
        return False
    return (head + tail > 0 and _turn(inner, other) > 0) or _is_exchange(inner, other)


def is_shuffled(ours: Sequence[str], theirs: Sequence[str], names: Set[str]) -> bool:
    """Whether so few words kept their neighbours and places that this is no sentence with two words exchanged."""
    count = len(ours)
    if count < _SHUFFLED_WORDS:
        return False
    if count < _SHUFFLED_NAMES and _anchors(ours, names) != _anchors(theirs, names):
        return False
    placed = sum(map(str.__eq__, ours, theirs))
    if placed * _SHUFFLED > count:
        return False
    kept = Counter(pairwise(ours)) & Counter(pairwise(theirs))
    return kept.total() * _SHUFFLED <= count - 1


def common_ends(ours: Sequence[str], theirs: Sequence[str]) -> tuple[int, int]:
    """How many words the two begin with and end on alike, not counting one twice."""
    shorter = min(len(ours), len(theirs))
    head = next((at for at in range(shorter) if ours[at] != theirs[at]), shorter)
    tail = next((at for at in range(shorter - head) if ours[-1 - at] != theirs[-1 - at]), shorter - head)
    return head, tail


def _anchors(words: Sequence[str], names: Set[str]) -> list[str]:
    return [word for word in words if word in names or word[0] == MOMENT or is_number(word)]


def _sentences(text: Text) -> Counter[tuple[str, ...]]:
    return _parts(text.words, text.ends)


def _members(words: Sequence[str]) -> Counter[tuple[str, ...]]:
    return _parts(words, {at for at, word in enumerate(words) if word in _JOINS})


def _parts(words: Sequence[str], ends: Set[int]) -> Counter[tuple[str, ...]]:
    parts: list[tuple[str, ...]] = []
    part: list[str] = []
    for at, word in enumerate(words):
        if at in ends:
            parts.append(tuple(part))
            part = []
        if part or word not in _JOINS:
            part.append(word)
    return Counter(part for part in (*parts, tuple(part)) if part)


def _is_relisted(left: Text, right: Text, names: Set[str]) -> bool:
    """Whether the members of one list, "tea, milk and juice", are told in another order."""
    count = len(left.words)
    head, tail = common_ends(left.words, right.words)
    if count - tail - head > _LIST_WORDS or _JOINS.isdisjoint(left.words[head:]) or not _ORDERED.isdisjoint(left.words):
        return False
    # Members that begin or end alike, and the last ones where they kept their place, are members all the same.
    for start in range(head, max(head - _MEMBER_WORDS, -1), -1):
        for end in range(count - tail, min(count - tail + _MEMBER_WORDS + 1, count) + 1):
            ours = _listed(left, start, end, names)
            if ours and ours == _listed(right, start, end, names):
                return True
    return False


def _listed(text: Text, start: int, end: int, names: Set[str]) -> Counter[tuple[str, ...]] | None:
    """Members of the list that stands there, and there only; None where it could be something else.

    "Ann, the boss, and Bob" may be two people, so that after a comma "and" is believed only between words of one sort.
    """
    words = text.words
    breaks = [at for at in range(start + 1, end) if at in text.stops or words[at] in _JOINS]
    if len(breaks) < 2 or words[breaks[-1]] not in _JOINS or not text.ends.isdisjoint(breaks):
        return None
    if any(words[at] in _JOINS for at in breaks[:-1]) or _is_count(words, start - 1):
        return None
    if end < len(words) and end in text.stops and end not in text.ends:  # Paris, Texas and Rome, Italy
        return None
    members = [tuple(words[first:last]) for first, last in pairwise((start, *breaks[:-1]))]
    members += [tuple(words[breaks[-2] : breaks[-1]]), tuple(words[breaks[-1] + 1 : end])]
    if not all(_may_be_member(member) for member in members) or sum(map(_tells_of_the_past, members)) > 1:
        return None
    if len({member[0] in _DETERMINERS for member in members}) > 1:
        return None
    if breaks[-1] in text.stops:
        sizes = {len(member) for member in members}
        if len(sizes) > 1 or members[0][0] in _DETERMINERS or (sizes != {1} and not names.isdisjoint(words[start:end])):
            return None
    return Counter(members)


def _may_be_member(member: Sequence[str]) -> bool:
    if not 0 < len(member) <= _MEMBER_WORDS or not _CLAUSE.isdisjoint(member):
        return False
    return not all(is_number(word) or word[0] == MOMENT for word in member)  # "3, 5 and 7" are told in their order


def _tells_of_the_past(member: Sequence[str]) -> bool:
    """She came, saw and won: one after the other."""
    return any(map(speaks_of_the_past, member))


def _is_count(words: Sequence[str], at: int) -> bool:
    """Whether what follows is counted: 3 cats and dogs are not 3 dogs and cats; a year counts nothing."""
    if at < 0 or not is_number(words[at]):
        return False
    return not (len(words[at]) == 4 and at > 0 and words[at - 1] in _PREPOSITIONS)


def _is_turned(left: Text, right: Text) -> bool:
    """Whether the front was moved to the end without cutting apart what belongs together.

    "CEO Ann, CTO Bob" is not "Ann CTO, Bob CEO", nor "5 apples, 3 pears" "apples 3, pears 5", though each is a turn of
    the other: the commas do not go with the words.
    """
    turn, count = _turn(left.words, right.words), len(left.words)
    back = count - turn
    if turn == 0 or any(
        is_number(text.words[at - 1]) and at not in text.stops for text, at in ((left, turn), (right, back))
    ):
        return False
    ours = {(stop - turn) % count for stop in left.stops} - {0, back}
    theirs = {stop % count for stop in right.stops} - {0, back}
    return ours <= theirs or theirs <= ours


def _turn(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """How many words of the front were moved to the end to make the other; 0 when that is not what happened."""
    if len(ours) != len(theirs) or len(ours) < 2:
        return 0
    once = "\0" + "\0".join(ours) + "\0"
    at = (once + once[1:]).find("\0" + "\0".join(theirs) + "\0", 1)
    return once.count("\0", 0, at) if at > 0 else 0


def _is_adjunct(block: Sequence[str]) -> bool:
    return (len(block) > 1 and block[0] in _PREPOSITIONS) or (len(block) == 1 and _is_movable(block[0]))


def _is_movable(word: str) -> bool:
    return word in _MOVABLE or word[0] == MOMENT or (word.endswith("ly") and word not in _NOT_ADVERBS)


def _same_without_time(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    if sum(map(_is_movable, ours)) != 1:
        return False
    return [word for word in ours if not _is_movable(word)] == [word for word in theirs if not _is_movable(word)]


def _is_identity(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    """X is Y, Y is X, one of them definite: "the user's favourite is blue", but not "dogs are animals"."""
    return any(
        tuple(theirs) == (*ours[at + 1 :], word, *ours[:at])
        and (not _DEFINITE.isdisjoint(ours[:2]) or not _DEFINITE.isdisjoint(ours[at + 1 : at + 3]))
        for at, word in enumerate(ours[:_EXCHANGE_WORDS])
        if word in _COPULAS
    )


def _is_exchange(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    """X V Y to Y V X; what follows both alike may stay."""
    _, tail = common_ends(ours, theirs)
    ours, theirs = ours[: len(ours) - tail], theirs[: len(theirs) - tail]
    if not 3 <= len(ours) <= _EXCHANGE_WORDS or len(ours) != len(theirs):
        return False
    return any(
        tuple(theirs) == (*ours[last:], *ours[first:last], *ours[:first])
        for first in range(1, len(ours) - 1)
        for last in range(first + 1, len(ours))
    )
