"""The live graph of one space: columns that queries read, rebuilt from the store at every start.

One thread, the store's writer, changes it, always after the commit. Readers take `view` once and
work on that: rows are only ever appended, capacity is grown by copying, so what a view shows
below its counts stays where it is. Weights and flags change in place, one element at a time.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.memory.lexical import LexicalIndex, LexicalView
from dreamsvc.walk import Adjacency, build_adjacency, connect

SMALLEST = 256
NEVER = -1
# Edges that may lie beside the adjacency's base, in all and at one row, before it is built anew: the first keeps
# a large import from building it for every slice, the second keeps a hub's entry, copied at each edge, short.
OVERLAY_LEAST = 8192
OVERLAY_ROW = 512


class NewNode(NamedTuple):
    """One row of `nodes` as the live graph needs it; times in microseconds, NEVER where absent."""

    id: int
    alive: bool
    kind: str
    title: str
    text: str
    aliases: Sequence[str]
    importance: float
    created_us: int
    event_us: int
    accessed_us: int


class NewEdge(NamedTuple):
    """One row of `edges`; source and target are row ids of nodes."""

    id: int
    source: int
    target: int
    weight: float
    confidence: float
    alive: bool


class GraphView(NamedTuple):
    """What a reader sees. N node capacity, M edge capacity, D dimension of the space's vectors."""

    n: int
    m: int
    node_ids: NDArray[np.int64]  # [N], ascending below n
    alive: NDArray[np.bool_]  # [N]
    kinds: NDArray[np.int32]  # [N], index into kind_names
    importance: NDArray[np.float32]  # [N], 0..1
    created_us: NDArray[np.int64]  # [N], wall clock
    event_us: NDArray[np.int64]  # [N], event time, or NEVER
    accessed_us: NDArray[np.int64]  # [N], wall clock, or NEVER
    embedded: NDArray[np.bool_]  # [N]
    vectors: NDArray[np.float32]  # [N, D], unit length, zero where not embedded
    edge_ids: NDArray[np.int64]  # [M], ascending below m
    sources: NDArray[np.int32]  # [M], rows
    targets: NDArray[np.int32]  # [M], rows
    weights: NDArray[np.float32]  # [M]
    confidences: NDArray[np.float32]  # [M]
    edges_alive: NDArray[np.bool_]  # [M]
    adjacency: Adjacency
    lexical: LexicalView
    kind_names: dict[str, int]

    def rows_of(self, node_ids: Sequence[int]) -> NDArray[np.int64]:
        """Rows of nodes that are in the view."""
        return np.searchsorted(self.node_ids[: self.n], np.asarray(node_ids, dtype=np.int64))

    def edge_rows_of(self, edge_ids: Sequence[int]) -> NDArray[np.int64]:
        return np.searchsorted(self.edge_ids[: self.m], np.asarray(edge_ids, dtype=np.int64))


_NODE_COLUMNS = ("node_ids", "alive", "kinds", "importance", "created_us", "event_us", "accessed_us", "embedded")
_EDGE_COLUMNS = ("edge_ids", "sources", "targets", "weights", "confidences", "edges_alive")


class SpaceGraph:
    """Owner of one space's live columns; only the store's writer thread calls what changes them."""

    def __init__(self, lexical: LexicalIndex | None = None) -> None:
        self._lexical = lexical or LexicalIndex()
        self._overlaid = 0
        self.view = GraphView(
            n=0,
            m=0,
            node_ids=np.zeros(SMALLEST, np.int64),
            alive=np.zeros(SMALLEST, np.bool_),
            kinds=np.zeros(SMALLEST, np.int32),
            importance=np.zeros(SMALLEST, np.float32),
            created_us=np.zeros(SMALLEST, np.int64),
            event_us=np.full(SMALLEST, NEVER, np.int64),
            accessed_us=np.full(SMALLEST, NEVER, np.int64),
            embedded=np.zeros(SMALLEST, np.bool_),
            vectors=np.zeros((SMALLEST, 0), np.float32),
            edge_ids=np.zeros(SMALLEST, np.int64),
            sources=np.zeros(SMALLEST, np.int32),
            targets=np.zeros(SMALLEST, np.int32),
            weights=np.zeros(SMALLEST, np.float32),
            confidences=np.zeros(SMALLEST, np.float32),
            edges_alive=np.zeros(SMALLEST, np.bool_),
            adjacency=build_adjacency(np.zeros(0, np.int64), np.zeros(0, np.int64), 0),
            lexical=self._lexical.view(),
            kind_names={},
        )

    @property
    def lexical(self) -> LexicalIndex:
        return self._lexical

    def adopt(self, view: GraphView) -> None:
        """Takes columns that a snapshot held; its adjacency is built here."""
        self.view = view._replace(adjacency=_adjacency(view), lexical=self._lexical.view())

    def add_nodes(self, nodes: Sequence[NewNode], *, index_words: bool = True) -> None:
        """Appends nodes; ids must ascend and be above all before."""
        if not nodes:
            return
        view = self._with_capacity(self.view.n + len(nodes), self.view.m)
        kinds = dict(view.kind_names)
        at = slice(view.n, view.n + len(nodes))
        view.node_ids[at] = [node.id for node in nodes]
        view.alive[at] = [node.alive for node in nodes]
        view.kinds[at] = [kinds.setdefault(node.kind, len(kinds)) for node in nodes]
        view.importance[at] = [node.importance for node in nodes]
        view.created_us[at] = [node.created_us for node in nodes]
        view.event_us[at] = [node.event_us for node in nodes]
        view.accessed_us[at] = [node.accessed_us for node in nodes]
        if index_words:
            living = [(view.n + i, node) for i, node in enumerate(nodes) if node.alive]
            self._lexical.add_many(
                [row for row, _ in living],
                [words_of(node.title, node.text) for _, node in living],
                [names_of(node.title, node.aliases) for _, node in living],
            )
        self.view = view._replace(n=at.stop, kind_names=kinds, lexical=self._lexical.view())

    def change_node(self, node: NewNode) -> None:
        """Puts new content on a row; it loses its vector until one is set."""
        view = self.view
        row = int(view.rows_of([node.id])[0])
        kinds = dict(view.kind_names)
        view.kinds[row] = kinds.setdefault(node.kind, len(kinds))
        view.importance[row] = node.importance
        view.event_us[row] = node.event_us
        view.embedded[row] = False
        view.vectors[row] = 0
        view.alive[row] = node.alive
        if row in self._lexical:
            self._lexical.remove(row)
        if node.alive:
            self._lexical.add(row, words_of(node.title, node.text), names_of(node.title, node.aliases))
        self.view = view._replace(kind_names=kinds, lexical=self._lexical.view())

    def hide_nodes(self, node_ids: Sequence[int]) -> None:
        view = self.view
        rows = view.rows_of(node_ids)
        view.alive[rows] = False
        for row in rows.tolist():
            if row in self._lexical:
                self._lexical.remove(row)
        self.view = view._replace(lexical=self._lexical.view())

    def set_vectors(self, node_ids: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Sets vectors, shape (len(node_ids), D); D is the space's from the first call on."""
        view = self.view
        if view.vectors.shape[1] == 0:
            view = view._replace(vectors=np.zeros((len(view.node_ids), vectors.shape[1]), np.float32))
        rows = view.rows_of(node_ids)
        wide = vectors.astype(np.float32)
        view.vectors[rows] = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
        view.embedded[rows] = True
        self.view = view

    def touch(self, node_ids: Sequence[int], now_us: int) -> None:
        self.view.accessed_us[self.view.rows_of(node_ids)] = now_us

    def add_edges(self, edges: Sequence[NewEdge]) -> None:
        """Appends edges; ids must ascend and be above all before."""
        if not edges:
            return
        view = self._with_capacity(self.view.n, self.view.m + len(edges))
        at = slice(view.m, view.m + len(edges))
        view.edge_ids[at] = [edge.id for edge in edges]
        view.sources[at] = view.rows_of([edge.source for edge in edges])
        view.targets[at] = view.rows_of([edge.target for edge in edges])
        view.weights[at] = [edge.weight for edge in edges]
        view.confidences[at] = [edge.confidence for edge in edges]
        view.edges_alive[at] = [edge.alive for edge in edges]
        self.view = view._replace(m=at.stop)
        self._connect(at.start)

    def set_edges(
        self,
        edge_ids: Sequence[int],
        weights: Sequence[float],
        alive: Sequence[bool],
        confidences: Sequence[float] = (),
    ) -> None:
        view = self.view
        rows = view.edge_rows_of(edge_ids)
        view.weights[rows] = weights
        view.edges_alive[rows] = alive
        if confidences:
            view.confidences[rows] = confidences

    def _connect(self, first: int) -> None:
        """Puts the edges from row `first` on into the adjacency: beside its base while they are few, else anew."""
        view = self.view
        self._overlaid += view.m - first
        crowded = 0
        if self._overlaid <= max(OVERLAY_LEAST, view.m // 2):
            for edge, (source, target) in enumerate(
                zip(view.sources[first : view.m].tolist(), view.targets[first : view.m].tolist(), strict=True), first
            ):
                connect(view.adjacency, source, target, edge)
                crowded = max(crowded, len(view.adjacency.overlay[source]), len(view.adjacency.overlay[target]))
                if crowded > OVERLAY_ROW:
                    break
            else:
                return
        self.view = view._replace(adjacency=_adjacency(view))
        self._overlaid = 0

    def _with_capacity(self, n: int, m: int) -> GraphView:
        view = self.view
        if n > len(view.node_ids):
            grown = {name: _grow(getattr(view, name), n) for name in (*_NODE_COLUMNS, "vectors")}
            view = view._replace(**grown)
        if m > len(view.edge_ids):
            view = view._replace(**{name: _grow(getattr(view, name), m) for name in _EDGE_COLUMNS})
        return view


def _adjacency(view: GraphView) -> Adjacency:
    return build_adjacency(view.sources[: view.m], view.targets[: view.m], view.n, view.weights[: view.m])


def words_of(title: str, text: str) -> str:
    """What a memory is found by: what its words and its vector are made of."""
    return f"{title}\n{text}" if title and text else title or text


def names_of(title: str, aliases: Sequence[str]) -> list[str]:
    return [title, *aliases] if title else list(aliases)


def _grow[T: np.generic](column: NDArray[T], needed: int) -> NDArray[T]:
    capacity = max(SMALLEST, len(column))
    while capacity < needed:
        capacity *= 2
    wider = np.zeros((capacity, *column.shape[1:]), column.dtype)
    wider[: len(column)] = column
    return wider
