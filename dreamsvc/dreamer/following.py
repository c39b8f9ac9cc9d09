"""Memories that were told next to each other: of one session, or of one kind and close in event time.

Inside a session the order is that of event times, then that of the rows; memories without an event time stand where
they were remembered. Outside of sessions only event times count, and a gap begins anew: when a memory was created says
nothing of when what it tells of happened.

n: rows. g: groups, of a session or of a kind. p: pairs.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.adjacency import by_end
from dreamsvc.dreamer.memories import NEVER, NOWHERE, Memories
from dreamsvc.dreamer.merging import Search, Step
from dreamsvc.dreamer.vocabulary import portions

# How many places apart, and the weight of the edge.
APART = ((1, 1.0), (2, 0.5))
# Memories put in order in one step.
ORDERED = 16_384
MINUTE_US = 60_000_000


class NextTo(NamedTuple):
    """Pairs of neighbours."""

    later: NDArray[np.int64]  # [p], rows
    earlier: NDArray[np.int64]  # [p]
    weight: NDArray[np.float32]  # [p]


def next_to_each_other(
    memories: Memories, rows: NDArray[np.int64], changed: NDArray[np.bool_], gap_minutes: float
) -> Search[NextTo]:
    """Neighbours among the rows, ascending, of which one at least has changed, [n]."""
    n = len(memories.node_ids)
    in_session = memories.sessions != NOWHERE
    chosen = np.zeros(n, np.bool_)
    chosen[rows] = True
    chosen &= in_session | (memories.event_us != NEVER)
    sessions = int(memories.sessions.max(initial=NOWHERE)) + 1
    group = np.where(in_session, memories.sessions, sessions + memories.kinds).astype(np.int32)
    groups = sessions + int(memories.kinds.max(initial=0)) + 1
    yield Step("neighbours in time", 0, n)
    at = yield from by_end(group, chosen, groups)
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
    for first, stop in portions(at.indptr, ORDERED):
        members = at.edge[at.indptr[first] : at.indptr[stop]]
        owner = np.repeat(np.arange(first, stop), np.diff(at.indptr[first : stop + 1]))
        times = _carried(memories.event_us[members], owner)
        order = np.lexsort((times, owner))  # stable: of one time in the order of the rows
        members, owner, times = members[order], owner[order], times[order]
        # Runs of neighbours: a new one begins with a group, and outside of sessions after a gap.
        begins = np.ones(len(members), np.bool_)
        far = (owner[1:] >= sessions) & (np.diff(times) > gap_minutes * MINUTE_US)
        begins[1:] = (owner[1:] != owner[:-1]) | far
        run = np.cumsum(begins)
        for apart, weight in APART:
            later, earlier = members[apart:], members[:-apart]
            wanted = (run[apart:] == run[:-apart]) & (changed[later] | changed[earlier])
            count = int(np.count_nonzero(wanted))
            found.append((later[wanted], earlier[wanted], np.full(count, weight, np.float32)))
        yield Step("neighbours in time", int(at.indptr[stop]), n)
    none = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    return NextTo(*(np.concatenate(column) for column in zip(none, *found, strict=True)))


def _carried(times: NDArray[np.int64], owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Event times, those that are missing taken from the one before in the same group; both [k], groups together."""
    places = np.arange(len(times))
    known = np.maximum.accumulate(np.where(times == NEVER, -1, places))
    first = np.searchsorted(owner, owner)
    return np.where(known >= first, times[np.maximum(known, 0)], NEVER)
