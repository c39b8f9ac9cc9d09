"""Which memories say another one's name: its title, with or without the brackets at its end, or one of its aliases.

A name stands in a text where its words stand there one after the other. All names of one length are looked up at once,
where the first and the last word fit, so that a text costs the same however many names there are.

n: rows. m: names. V: different words. h: where a text says a name, each name once a text. p: pairs.
"""

from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.memories import Memories, listed
from dreamsvc.dreamer.merging import Search, Step
from dreamsvc.dreamer.vocabulary import Words, portions
from dreamsvc.evidence.naming import bare_title
from dreamsvc.lexical.index import SHARED_BY, SMALL_STORE
from dreamsvc.lexical.words import FUNCTION_WORDS, tokenize

# A longer title is a sentence; so many characters of a script without spaces are a long title too.
NAME_WORDS = 24
# Shares of all memories that may say a name of one word, and a longer one, before it tells nothing.
COMMON_WORD, COMMON_NAME = 0.01, 0.05
SHORTEST = 3  # characters of a name of one word; one less for what is cut into pairs of them
# Memories that one text is linked to for their names: those that few others share.
MOST_NAMED = 64
# Names read, words looked at and sayings worked on in one step.
NAMED, LOOKED_AT, SAYINGS = 256, 32_768, 1_024
# Odd; spreads the words of a name over 64 bits.
SPREAD = np.uint64(0x9E3779B97F4A7C15)


class Names(NamedTuple):
    """What memories are called."""

    flat: NDArray[np.int32]  # words of one name after the other
    starts: NDArray[np.int64]  # [m + 1]
    owners: NDArray[np.int32]  # rows, ascending for each name
    owner_starts: NDArray[np.int64]  # [m + 1]
    # Common words that are names by themselves where they are written with a capital: "Will".
    proper: frozenset[int] = frozenset()

    def words(self, name: int) -> NDArray[np.int32]:
        return self.flat[self.starts[name] : self.starts[name + 1]]


class Sayings(NamedTuple):
    """Who says which name; by row, ascending."""

    rows: NDArray[np.int32]  # [h]
    names: NDArray[np.int32]  # [h]


class Mentions(NamedTuple):
    """Whose text says whose name, the sayers ascending, and of each those whose name it says."""

    says: NDArray[np.int32]  # [p], rows
    said: NDArray[np.int32]  # [p], rows
    name: NDArray[np.int32]  # [p]
    weight: NDArray[np.float32]  # [p], 1 / memories of that name


class _Length(NamedTuple):
    """Names of one length, by a number for their words."""

    numbers: NDArray[np.uint64]  # ascending
    names: NDArray[np.int64]


def forms_of(memories: Memories, row: int) -> Iterator[str]:
    """What a memory is called, as it is written; the title first."""
    title = memories.titles[row]
    if title:
        yield title
        bare = bare_title(title)
        if bare != title:
            yield bare
    yield from listed(memories.names, row)


def read_names(memories: Memories, words: Words, rows: NDArray[np.integer]) -> Search[Names]:
    """The names of rows that can be looked for: fewer than SHARED_BY memories have them, and they tell something."""
    held: dict[bytes, list[int]] = {}
    proper: set[int] = set()
    small: set[int] = set()
    sizes = memories.titles.sizes() + memories.names.sizes()
    for done, row in enumerate(rows.tolist()):
        # No title of a name's words is longer; a title may be as long as a text.
        if sizes[row] < 64 * NAME_WORDS:
            for form in dict.fromkeys(forms_of(memories, row)):
                name = numbers_of(tokenize(form), words)
                if name is None or not tells(name, words):
                    continue
                if len(name) == 1:
                    (proper if form[:1].isupper() else small).add(int(name[0]))
                owners = held.setdefault(name.tobytes(), [])
                if len(owners) < SHARED_BY and owners[-1:] != [row]:
                    owners.append(row)
        if done % NAMED == NAMED - 1:
            yield Step("names", done, len(rows))
    names = yield from named(held, SHARED_BY - 1)
    return names._replace(proper=frozenset(word for word in proper - small if words.lower[word]))


def named(held: dict[bytes, list[int]], most: int) -> Search[Names]:
    """Names, by the bytes of their numbers, and whose they are; those of more than `most` are left out."""
    kept, owners, counts = list[bytes](), array("i"), array("q", [0])
    for done, (name, having) in enumerate(held.items()):
        if len(having) <= most:
            kept.append(name)
            owners.extend(having)
            counts.append(len(owners))
        if done % (8 * NAMED) == 0:
            yield Step("names", done, len(held))
    sizes = np.fromiter(map(len, kept), np.int64, len(kept)) // np.dtype(np.int32).itemsize
    yield Step("names", len(held), len(held))
    return Names(
        np.frombuffer(b"".join(kept), np.int32),
        np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]),
        np.frombuffer(owners, np.int32),
        np.frombuffer(counts, np.int64),
    )


def numbers_of(name: Sequence[str], words: Words) -> NDArray[np.int32] | None:
    """The words of a name; none where no text can say it."""
    if not 0 < len(name) <= NAME_WORDS:
        return None
    numbers = [words.vocabulary.get(word, -1) for word in name]
    return None if -1 in numbers else np.array(numbers, np.int32)


def tells(name: NDArray[np.int32], words: Words) -> bool:
    """Whether a text that says it may mean it: it is no word of every day, and no mere function words."""
    spelled = words.spelled(name)
    if len(spelled) > 1:
        return not FUNCTION_WORDS.issuperset(spelled)
    word = spelled[0]
    # Two letters are no name where words have spaces between them; words of other scripts are cut into pairs.
    if word in FUNCTION_WORDS or len(word) < SHORTEST - (is_caseless(word)):
        return False
    return words.memories < SMALL_STORE or int(words.df[name[0]]) <= COMMON_WORD * words.memories


def is_caseless(word: str) -> bool:
    """Whether it is of a script without capitals."""
    return not word.isascii() and word[0].isalpha() and word.upper() == word


def find_sayings(words: Words, names: Names) -> Search[Sayings]:
    """Where texts say names, each name once a text."""
    lengths = np.diff(names.starts)
    first, last = np.zeros(len(words.words), np.uint32), np.zeros(len(words.words), np.uint32)
    bits = np.uint32(1) << lengths.astype(np.uint32)
    for start in range(0, len(lengths), LOOKED_AT):
        part = slice(start, start + LOOKED_AT)
        np.bitwise_or.at(first, names.flat[names.starts[:-1][part]], bits[part])
        np.bitwise_or.at(last, names.flat[names.starts[1:][part] - 1], bits[part])
        yield Step("mentions", 0, len(words.flat))
    by_length: dict[int, _Length] = {}
    for length in np.unique(lengths).tolist():
        chosen = np.flatnonzero(lengths == length)
        numbers = _numbers(names.flat, names.starts[chosen], length)
        yield Step("mentions", 0, len(words.flat))
        order = np.argsort(numbers, kind="stable")
        by_length[length] = _Length(numbers[order], chosen[order])
        yield Step("mentions", 0, len(words.flat))
    m = len(lengths)
    # Of texts that are longer than one step: those of the row at the end of the last one may come again.
    pending = np.zeros(0, np.int64)
    found: list[NDArray[np.int64]] = [pending]
    for start in range(0, len(words.flat), LOOKED_AT):
        stop = min(start + LOOKED_AT, len(words.flat))
        keys = [pending]
        places = start + np.flatnonzero(first[words.flat[start:stop]])
        rows = np.searchsorted(words.starts, places, side="right") - 1
        inside = places >= words.texts[rows]
        places, rows = places[inside], rows[inside]
        fitting, room = first[words.flat[places]], words.starts[rows + 1] - places
        for length, known in by_length.items():
            bit = np.uint32(1 << length)
            at = np.flatnonzero((fitting & bit > 0) & (room >= length))
            at = at[last[words.flat[places[at] + length - 1]] & bit > 0]
            at, name = _looked_up(words.flat, names, known, length, places, at)
            keys.append(rows[at] * m + name)
        every = np.unique(np.concatenate(keys))
        whole = np.searchsorted(every, (np.searchsorted(words.starts, stop, side="right") - 1) * m)
        found.append(every[:whole])
        pending = every[whole:]
        yield Step("mentions", stop, len(words.flat))
    keys = np.concatenate([*found, pending])
    yield Step("mentions", len(words.flat), len(words.flat))
    rows, name = np.divmod(keys, max(1, m))
    return Sayings(rows.astype(np.int32), name.astype(np.int32))


def as_written(words: Words, names: Names, sayings: Sayings) -> Search[Sayings]:
    """Without those where a text has a name of one word as a common word: "will" is not "Will"."""
    doubtful = np.zeros(len(names.starts) - 1, np.bool_)
    first = names.starts[:-1]
    doubtful[np.diff(names.starts) == 1] = True
    proper = np.fromiter(names.proper, np.int32, len(names.proper))
    doubtful &= np.isin(names.flat[first], proper) if len(first) else False
    yield Step("mentions", 0, 1)
    meant = np.ones(len(sayings.rows), np.bool_)
    places = np.flatnonzero(doubtful[sayings.names]) if len(sayings.names) else np.zeros(0, np.int64)
    for done, place in enumerate(places.tolist()):
        row, word = int(sayings.rows[place]), int(names.flat[first[sayings.names[place]]])
        written = words.capitals[words.capital_starts[row] : words.capital_starts[row + 1]]
        meant[place] = bool((written == word).any())
        if done % SAYINGS == SAYINGS - 1:
            yield Step("mentions", done, len(places))
    return Sayings(sayings.rows[meant], sayings.names[meant])


def find_mentions(words: Words, names: Names, sayings: Sayings, changed: NDArray[np.bool_]) -> Search[Mentions]:
    """Pairs of which one end at least has changed, [n]; of a pair the name that fewest others share."""
    counts = np.diff(names.owner_starts)
    times = np.bincount(sayings.names, minlength=len(counts))
    most = COMMON_NAME * words.memories if words.memories >= SMALL_STORE else np.inf
    telling = times <= most
    kept = list[tuple[NDArray[np.int32], ...]]()
    starts = np.searchsorted(sayings.rows, np.arange(len(changed) + 1))
    yield Step("mentions", 0, 1)
    for low, high in portions(starts, SAYINGS):
        part = slice(starts[low], starts[high])
        rows, name = sayings.rows[part], sayings.names[part]
        rows, name = rows[telling[name]], name[telling[name]]
        owner = np.repeat(np.arange(len(rows)), counts[name])
        place = np.arange(len(owner)) - np.repeat(np.cumsum(counts[name]) - counts[name], counts[name])
        said = names.owners[names.owner_starts[name][owner] + place]
        says, name = rows[owner], name[owner]
        wanted = (says != said) & (changed[says] | changed[said])
        says, said, name = says[wanted], said[wanted], name[wanted]
        # The best name of each pair, then the best pairs of each sayer.
        order = np.lexsort((times[name], counts[name], said, says))
        says, said, name = says[order], said[order], name[order]
        fresh = np.ones(len(says), np.bool_)
        fresh[1:] = (says[1:] != says[:-1]) | (said[1:] != said[:-1])
        says, said, name = says[fresh], said[fresh], name[fresh]
        order = np.lexsort((said, times[name], counts[name], says))
        rank = np.arange(len(order)) - np.searchsorted(says, says)
        order = np.sort(order[rank < MOST_NAMED])
        kept.append((says[order], said[order], name[order]))
        yield Step("mentions", int(starts[high]), len(sayings.rows))
    none = np.zeros(0, np.int32)
    says, said, name = (np.concatenate(column) for column in zip((none, none, none), *kept, strict=True))
    return Mentions(says, said, name, (1 / counts[name]).astype(np.float32))


def spelled(memories: Memories, words: Words, names: Names, row: int, name: int) -> tuple[str, bool]:
    """How a memory writes one of its names, and whether that is its title."""
    wanted = words.spelled(names.words(name))
    title = memories.titles[row]
    form = next((form for form in forms_of(memories, row) if tokenize(form) == wanted), " ".join(wanted))
    return form, form in (title, bare_title(title))


def _numbers(flat: NDArray[np.int32], starts: NDArray[np.int64], length: int) -> NDArray[np.uint64]:
    """A number for the words from each place on; equal for equal words."""
    out = np.zeros(len(starts), np.uint64)
    for place in range(length):
        out = (out ^ flat[starts + place].astype(np.uint64)) * SPREAD
        out ^= out >> np.uint64(29)
    return out


def _looked_up(
    flat: NDArray[np.int32],
    names: Names,
    known: _Length,
    length: int,
    places: NDArray[np.int64],
    at: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Those of places[at] from which on a name stands, and the name."""
    numbers = _numbers(flat, places[at], length)
    place = np.minimum(np.searchsorted(known.numbers, numbers), len(known.numbers) - 1)
    equal = known.numbers[place] == numbers
    at, name = at[equal], known.names[place[equal]]
    # Two sets of words may have one number.
    same = np.ones(len(at), np.bool_)
    for word in range(length):
        same &= flat[places[at] + word] == names.flat[names.starts[name] + word]
    return at[same], name[same]
