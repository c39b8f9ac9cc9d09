"""What texts say about pairs of memories: whose title is said in whose text, and which rare names both have.

All texts are read once, up to MOST_READ of them, so that what a memory shares with any other is a look-up. A title is
known by its words as recall cuts them, without the brackets at its end; a short one must stand there as it is written.
A name is rare if at least 2 and at most `most_shared` memories have it. n: rows. p: pairs.
"""

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.adjacency import by_end
from dreamsvc.dreamer.memories import Memories, listed
from dreamsvc.dreamer.merging import Search, Step
from dreamsvc.dreamer.reach import Table, found_in, spread
from dreamsvc.dreamer.said_titles import Titles
from dreamsvc.evidence.naming import LEADS, SURE, WHOLE, bare_title, folded, names_in

# Texts read in a night: about 0.15 ms each.
MOST_READ = 100_000
# Characters read in one step.
READ = 8_192
# Characters of one text that are read.
LONGEST = 65_536
# Titles put in order in one step.
TITLES = 128
# A title that this share of all texts says tells nothing, in a memory of more than SMALL; up to
# ALWAYS_TELLING may say any.
COMMON, SMALL, ALWAYS_TELLING = 0.05, 200, 20
# How many memories may share a rare name.
MOST_SHARED = 12
# What a name of a single word is worth beside those of several, since many bear it; and one that one of the texts
# begins with beside those that are said somewhere.
ONE_WORD, LEADING = 0.6, 3.0
# What is said of a pair: a title is worth three times as much as a name that only the two have.
MENTION, RARE = 3.0, 1.0
MOST_RARE = 3.0  # of names together
# Names grouped in one step, about; and names expected of a text.
GROUPED, NAMES_EACH = 16_384, 8


class Names(NamedTuple):
    """Rare names, numbered: whose they are and what each memory has."""

    numbers: NDArray[np.uint64]  # of each name, see `_number`
    of_row: Table  # `row` is the name, strength its weight
    of_name: Table  # `row` is the memory


class TextEvidence(NamedTuple):
    """What the texts that were read say."""

    read: int  # texts
    says: Table  # by row, the memories whose titles it says, strength how telling that is
    said_by: Table  # by row, the memories that say its title
    mentions: NDArray[np.int64]  # says x n + said, ascending
    telling: NDArray[np.float32]  # of each of them
    names: Names
    titles: Titles

    @property
    def n(self) -> int:
        return len(self.says.indptr) - 1

    def mention(self, left: NDArray[np.integer], right: NDArray[np.integer]) -> NDArray[np.float32]:
        """How telling it is that the title of one is said in the other, 0 to 1, 0 where it is not; [p]."""
        return np.maximum(self._said(left, right), self._said(right, left))

    def _said(self, says: NDArray[np.integer], said: NDArray[np.integer]) -> NDArray[np.float32]:
        keys = says.astype(np.int64) * self.n + said
        if not len(self.mentions):
            return np.zeros(len(keys), np.float32)
        at = np.minimum(np.searchsorted(self.mentions, keys), len(self.mentions) - 1)
        return np.where(self.mentions[at] == keys, self.telling[at], np.float32(0))

    def shared(self, left: NDArray[np.integer], right: NDArray[np.integer]) -> NDArray[np.float32]:
        """Weights of the rare names that both have, summed, 1 for a whole one that only these two have; [p]."""
        table, size = self.names.of_row, max(1, len(self.names.of_name.indptr))
        (owner, place), (other, there) = spread(table.indptr, left), spread(table.indptr, right)
        keys, others = owner * size + table.row[place], other * size + table.row[there]
        both = found_in(others, keys)
        owner, place = owner[both], place[both]
        # Where one of the two begins with the name it is worth more.
        there = there[np.searchsorted(others, keys[both])]
        weight = np.maximum(table.strength[place], table.strength[there])
        return np.bincount(owner, weight, minlength=len(left)).astype(np.float32)

    def beside(self, rows: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which of `rows`, and a memory that its text has to do with, in no order and some of them twice."""
        owners, others = list[NDArray[np.int64]](), list[NDArray[np.int64]]()
        for table in (self.says, self.said_by):
            owner, place = spread(table.indptr, rows)
            owners.append(owner)
            others.append(table.row[place])
        owner, place = spread(self.names.of_row.indptr, rows)
        name, at = spread(self.names.of_name.indptr, self.names.of_row.row[place])
        owners.append(owner[name])
        others.append(self.names.of_name.row[at])
        return np.concatenate(owners), np.concatenate(others)

    def in_words(self, memories: Memories, left: int, right: int) -> list[str]:
        """What the texts of two memories say about each other."""
        found: list[str] = []
        ends = np.array([left]), np.array([right])
        for says, said in (ends, ends[::-1]):
            if self._said(says, said)[0] > 0:
                forms = self.titles.said_in(head(memories, int(says[0])))
                form = max((form for row, form in forms if row == said[0]), key=len)
                found.append(f'its title "{form}" is said in the other')
        table = self.names.of_row
        ours, theirs = (table.row[table.indptr[row] : table.indptr[row + 1]] for row in (left, right))
        shared = np.intersect1d(ours, theirs)
        counts = self.names.of_name.indptr[shared + 1] - self.names.of_name.indptr[shared]
        by_number = dict(zip(self.names.numbers[shared].tolist(), counts.tolist(), strict=True))
        text = head(memories, left)
        rare = {name: by_number[_number(name)] for name in names_of(memories, left, text) if _number(name) in by_number}
        for name, count in sorted(rare.items(), key=lambda one: (one[1], one[0])):
            if not any(name != longer and f" {name} " in f" {longer} " for longer in rare):
                found.append(f'both name "{written(name, text)}" ({count} memories)')
        return found


def text_strength(mention: NDArray[np.float32], rare: NDArray[np.float32]) -> NDArray[np.float32]:
    """What texts say of pairs in one number, [p]."""
    return (MENTION * mention + RARE * np.minimum(rare, MOST_RARE)).astype(np.float32)


def read_texts(memories: Memories, most_shared: int = MOST_SHARED) -> Search[TextEvidence]:
    """What the texts of the memories that recall can find say about each other; the most important where there are
    more than MOST_READ."""
    n = len(memories.node_ids)
    rows = np.flatnonzero(memories.findable)
    if len(rows) > MOST_READ:
        rows = np.sort(rows[np.argpartition(-memories.importance[rows], MOST_READ)[:MOST_READ]])
    titles = Titles()
    for start in range(0, len(rows), TITLES):
        for row in rows[start : start + TITLES].tolist():
            titles.add(row, forms_of(memories, row))
        yield Step("titles", start, len(rows))
    parts = 1 + len(rows) * NAMES_EACH // GROUPED
    groups: list[list[tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int8]]]] = [[] for _ in range(parts)]
    says, said = list[int](), list[int]()
    hashes, holders, flags = list[int](), list[int](), list[int]()
    size = 0
    for done, row in enumerate(rows.tolist()):
        text = head(memories, row)
        own = {bare_title(form) for form in forms_of(memories, row)}
        # What only bears the same title is not what it speaks of.
        mentioned = sorted({other for other, form in titles.said_in(text) if form not in own})
        says += [row] * len(mentioned)
        said += mentioned
        found = names_of(memories, row, text)
        hashes += map(_number, found)
        flags += found.values()
        holders += [row] * len(found)
        size += len(text)
        if size >= READ or done == len(rows) - 1:
            _share_out(hashes, holders, flags, groups)
            hashes, holders, flags = [], [], []
            size = 0
            yield Step("texts", done, len(rows))
    names = yield from _grouped(groups, n, most_shared)
    by_row, by_said, keys, telling = yield from _mentions(says, said, n, len(rows))
    return TextEvidence(len(rows), by_row, by_said, keys, telling, names, titles)


def head(memories: Memories, row: int) -> str:
    """Title and text of a memory, of a long one the beginning: a megabyte could not be left half-way."""
    return memories.words(row)[:LONGEST]


def forms_of(memories: Memories, row: int) -> list[str]:
    """Title and aliases of a memory."""
    return [memories.titles[row], *listed(memories.names, row)]


def names_of(memories: Memories, row: int, text: str) -> dict[str, int]:
    """The names in the words of a memory and those that callers gave it, folded, with what is known of each."""
    found = names_in(text)
    for column in (memories.names, memories.entities):
        for name in listed(column, row):
            found[folded(name)] = found.get(folded(name), 0) | SURE | WHOLE
    title = memories.titles[row]
    if bare_title(title) != title.strip():
        # Brackets say that others have the title too.
        found.pop(folded(bare_title(title)), None)
    return found


def _number(name: str) -> int:
    """A number for a name; the same in every process."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")


def _share_out(
    hashes: Sequence[int],
    holders: Sequence[int],
    flags: Sequence[int],
    groups: list[list[tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int8]]]],
) -> None:
    """Equal names come into one group, so that each can be sorted alone."""
    numbers = np.array(hashes, np.uint64)
    part = (numbers % np.uint64(len(groups))).astype(np.int64)
    order = np.argsort(part, kind="stable")
    ends = np.searchsorted(part[order], np.arange(len(groups) + 1)).tolist()
    columns = numbers[order], np.array(holders, np.int32)[order], np.array(flags, np.int8)[order]
    for place, group in enumerate(groups):
        if ends[place] < ends[place + 1]:
            inside = slice(ends[place], ends[place + 1])
            group.append((columns[0][inside], columns[1][inside], columns[2][inside]))


def _grouped(
    groups: Sequence[list[tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int8]]]], n: int, most_shared: int
) -> Search[Names]:
    """The rare names."""
    numbers: list[NDArray[np.uint64]] = [np.zeros(0, np.uint64)]
    counts: list[NDArray[np.int64]] = [np.zeros(1, np.int64)]
    wholes: list[NDArray[np.bool_]] = [np.zeros(0, np.bool_)]
    holders: list[NDArray[np.int32]] = [np.zeros(0, np.int32)]
    leading: list[NDArray[np.bool_]] = [np.zeros(0, np.bool_)]
    for done, group in enumerate(groups):
        if group:
            number, holder, flags = (np.concatenate(column) for column in zip(*group, strict=True))
            # Freed all at once at the end they would take a twentieth of a second.
            group.clear()
            order = np.lexsort((holder, number))
            number, holder, flags = number[order], holder[order], flags[order]
            starts = np.flatnonzero(np.concatenate([[True], number[1:] != number[:-1]]))
            sizes = np.diff(np.append(starts, len(number)))
            every = np.bitwise_or.reduceat(flags, starts) if len(starts) else flags
            rare = (sizes >= 2) & (sizes <= most_shared) & (every & SURE > 0)
            numbers.append(number[starts[rare]])
            wholes.append(every[rare] & WHOLE > 0)
            counts.append(sizes[rare])
            holders.append(holder[np.repeat(rare, sizes)])
            leading.append(flags[np.repeat(rare, sizes)] & LEADS > 0)
        yield Step("names", done, len(groups))
    indptr = np.cumsum(np.concatenate(counts))
    sizes = np.diff(indptr)
    holder = np.concatenate(holders)
    weight = np.where(np.concatenate(wholes), 1.0, ONE_WORD) * 2 / np.maximum(sizes, 1)
    weights = np.repeat(weight, sizes) * np.where(np.concatenate(leading), LEADING, 1.0)
    weights = weights.astype(np.float32)
    names = np.repeat(np.arange(len(sizes)), sizes)
    yield Step("names", len(groups), len(groups))
    at = yield from by_end(holder, np.ones(len(holder), np.bool_), n)
    of_row = Table(at.indptr, names[at.edge], weights[at.edge])
    return Names(np.concatenate(numbers), of_row, Table(indptr, holder.astype(np.int64), weights))


def _mentions(
    says: Sequence[int], said: Sequence[int], n: int, read: int
) -> Search[tuple[Table, Table, NDArray[np.int64], NDArray[np.float32]]]:
    """Tables by who says and by who is said, the keys of both, and how telling each is."""
    left, right = np.array(says, np.int32), np.array(said, np.int32)
    yield Step("mentions", 0, 2)
    times = np.bincount(right, minlength=n)
    kept = times[right] <= max(ALWAYS_TELLING, COMMON * read) if read >= SMALL else np.ones(len(right), np.bool_)
    left, right = left[kept], right[kept]
    telling = (1 / (1 + np.log2(np.maximum(times[right], 1)) / 4)).astype(np.float32)
    counts = np.bincount(left, minlength=n)
    yield Step("mentions", 1, 2)
    at = yield from by_end(right, np.ones(len(right), np.bool_), n)
    by_row = Table(np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]), right.astype(np.int64), telling)
    by_said = Table(at.indptr, left[at.edge].astype(np.int64), telling[at.edge])
    return by_row, by_said, left.astype(np.int64) * n + right, telling


def written(name: str, text: str) -> str:
    """A folded name as a text writes it first."""
    match = re.search(re.escape(name).replace("'", "['’]"), text, re.IGNORECASE)
    return match[0] if match else name
