"""Which arrays of the live graph go into a snapshot, and the live graph made from one.

A change number alone does not say of which database a snapshot is: another one that somebody puts in its place, or a
copy that went its own way, may have come to the same number. So each end of the service leaves a mark in both.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc import entropy, facet_blocks, two_stage
from dreamsvc.lexical.index import LexicalIndex
from dreamsvc.memory.dense import DenseIndex
from dreamsvc.memory.graph import GraphView, SpaceGraph
from dreamsvc.memory.sqlite import Connection, change_seq
from dreamsvc.scoring import Peers
from dreamsvc.snapshot_files import Arrays

_START_NODES = (
    *("node_ids", "alive", "kinds", "importance", "created_us", "event_us", "event_end_us", "accessed_us"),
    *("roles", "merged_into"),
)
_START_EDGES = ("edge_ids", "sources", "targets", "weights", "confidences", "edges_alive", "types")
_DENSE_SLOTS = ("units", "lengths", "holders", "is_container")
_DENSE = "dense."
_LEXICAL = "lexical."
_PEERS = "peers."
# In a snapshot, and in `meta`.
_MARK = "snapshot_mark"


class Moment(NamedTuple):
    """What a database and a snapshot of it have in common; mark: 0 in a database that was never closed."""

    seq: int
    mark: int


def moment_of(connection: Connection) -> Moment:
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (_MARK,)).fetchone()
    return Moment(change_seq(connection), 0 if row is None else int(row[0]))


def mark_anew(connection: Connection) -> Moment:
    """Gives a database a mark that no other one has."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_MARK, entropy.seed()))
    return moment_of(connection)


def marked(moment: Moment) -> Arrays:
    return {_MARK: np.array([moment.mark], np.int64)}


def is_of(arrays: Mapping[str, NDArray[Any]], moment: Moment) -> bool:
    """Whether a snapshot of the same change is of the same database."""
    return _MARK in arrays and arrays[_MARK].tolist() == [moment.mark]


def start_arrays(graph: SpaceGraph) -> Arrays:
    """All of a space's live arrays, not copied: for the end of the process, when nothing changes them any more."""
    view = graph.view
    arrays: Arrays = {name: getattr(view, name)[: view.n] for name in _START_NODES}
    arrays |= {name: getattr(view, name)[: view.m] for name in _START_EDGES}
    names = json.dumps(sorted(view.kind_names, key=view.kind_names.__getitem__))
    arrays["kind_names"] = np.frombuffer(names.encode(), np.uint8)
    arrays["superseding"] = graph.superseding_edges
    arrays |= _dense_arrays(view)
    arrays |= {f"{_PEERS}{name}": column[: view.n] for name, column in view.peers._asdict().items()}
    return arrays | {f"{_LEXICAL}{name}": array for name, array in graph.lexical.to_arrays().items()}


def restore(arrays: Mapping[str, NDArray[Any]]) -> SpaceGraph:
    """The live graph that `start_arrays` described."""
    words = {name.removeprefix(_LEXICAL): array for name, array in arrays.items() if name.startswith(_LEXICAL)}
    graph = SpaceGraph(LexicalIndex.from_arrays(words), DenseIndex(_dense(arrays)))
    names = json.loads(arrays["kind_names"].tobytes())
    columns = {name: np.array(arrays[name]) for name in (*_START_NODES, *_START_EDGES)}
    graph.adopt(
        graph.view._replace(
            n=len(columns["node_ids"]),
            m=len(columns["edge_ids"]),
            kind_names={name: i for i, name in enumerate(names)},
            peers=Peers(*(np.array(arrays[f"{_PEERS}{name}"]) for name in Peers._fields)),
            **columns,
        ),
        arrays["superseding"].tolist(),
    )
    return graph


def _dense_arrays(view: GraphView) -> Arrays:
    """All vectors as they lie, dead slots too: leaving those out would copy the others."""
    dense = view.dense
    return {
        **{f"{_DENSE}{name}": getattr(dense, name)[: dense.size] for name in _DENSE_SLOTS},
        f"{_DENSE}slots": dense.slots[: view.n],
        **facet_blocks.pack(dense.blocks, dense.dimension),
    }


def _dense(arrays: Mapping[str, NDArray[Any]]) -> two_stage.Index:
    slots = {name: np.array(arrays[f"{_DENSE}{name}"]) for name in _DENSE_SLOTS}
    return two_stage.Index(
        size=len(slots["holders"]),
        **slots,
        slots=np.array(arrays[f"{_DENSE}slots"]),
        blocks=facet_blocks.unpack(arrays),
    )
