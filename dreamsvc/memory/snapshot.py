"""Which arrays of the live graph go into a snapshot, and the live graph made from one."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamsvc.memory.graph import GraphView, SpaceGraph
from dreamsvc.memory.lexical import LexicalIndex
from dreamsvc.snapshot_files import DREAM_EDGES, DREAM_NODES, Arrays

_START_NODES = (*DREAM_NODES, "kinds", "event_us", "embedded", "vectors")
_START_EDGES = (*DREAM_EDGES, "confidences")
_LEXICAL = "lexical."


def dream_arrays(view: GraphView) -> Arrays:
    """Copies of what a dream reads; call it where nothing changes the graph, i.e. in the writer's thread."""
    return {name: getattr(view, name)[: view.n].copy() for name in DREAM_NODES} | {
        name: getattr(view, name)[: view.m].copy() for name in DREAM_EDGES
    }


def start_arrays(graph: SpaceGraph) -> Arrays:
    """All of a space's live arrays, not copied: for the end of the process, when nothing changes them any more."""
    view = graph.view
    arrays: Arrays = {name: getattr(view, name)[: view.n] for name in _START_NODES}
    arrays |= {name: getattr(view, name)[: view.m] for name in _START_EDGES}
    names = json.dumps(sorted(view.kind_names, key=view.kind_names.__getitem__))
    arrays["kind_names"] = np.frombuffer(names.encode(), np.uint8)
    return arrays | {f"{_LEXICAL}{name}": array for name, array in graph.lexical.to_arrays().items()}


def restore(arrays: Mapping[str, NDArray[Any]]) -> SpaceGraph:
    """The live graph that `start_arrays` described."""
    graph = SpaceGraph(
        LexicalIndex.from_arrays(
            {name.removeprefix(_LEXICAL): array for name, array in arrays.items() if name.startswith(_LEXICAL)}
        )
    )
    names = json.loads(arrays["kind_names"].tobytes())
    columns = {name: np.array(arrays[name]) for name in (*_START_NODES, *_START_EDGES)}
    graph.adopt(
        graph.view._replace(
            n=len(columns["node_ids"]),
            m=len(columns["edge_ids"]),
            kind_names={name: i for i, name in enumerate(names)},
            **columns,
        )
    )
    return graph
