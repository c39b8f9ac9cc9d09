"""The live graph of one space: columns that queries read, rebuilt from the store at every start.

One thread, the store's writer, changes it, always after the commit. Readers take `view` once and
work on that: rows are only ever appended, capacity is grown by copying, so what a view shows
below its counts stays where it is. Weights, flags and roles change in place, one element at a time;
words, vectors, edges and expansions are those of one moment.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc import two_stage
from dreamsvc.dreamer.v1.operations_pb2 import Expansion
from dreamsvc.facet_codes import Bits, Centroid, FacetCodes
from dreamsvc.lexical.index import LexicalIndex, LexicalView
from dreamsvc.memory.dense import DenseIndex
from dreamsvc.memory.superseding import Superseding
from dreamsvc.scoring import Peers
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_CONTAINER, MEMORY_ROLE_FACET, MEMORY_ROLE_UNSPECIFIED
from dreamsvc.walk import Adjacency, build_adjacency, connect

SMALLEST = 256
NEVER = -1
# Edges that may lie beside the adjacency's base, in all and at one row, before it is built anew: the first keeps
# a large import from building it for every slice, the second keeps a hub's entry, copied at each edge, short.
OVERLAY_LEAST = 8192
OVERLAY_ROW = 512
# Peers that count of a memory, the strongest.
MOST_PEERS = 4
# Share of dead vectors from which `swap` leaves them out: less is not worth copying the others.
WORN = 1 / 16


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
    role: int = MEMORY_ROLE_UNSPECIFIED
    merged_into: int = NEVER  # row id of the container, or of the memory that stands for it
    event_end_us: int = NEVER  # where it stands for what happened at several times


class NewEdge(NamedTuple):
    """One row of `edges`; source and target are row ids of nodes."""

    id: int
    source: int
    target: int
    weight: float
    confidence: float
    alive: bool
    type: int = 0  # row id of its type
    supersedes: bool = False  # the source says anew what the target said; counts when the edge is added


class RoleChange(NamedTuple):
    """What a memory stands for from now on; its words and its vector may have to go or to come."""

    id: int
    role: int
    merged_into: int  # NEVER for none
    alive: bool


class PackedContainer(NamedTuple):
    """What a container holds, by row ids of nodes."""

    members: Sequence[int]
    facets: FacetCodes  # of the members, in their order
    bits: Bits
    centroid: Centroid


class GraphView(NamedTuple):
    """What a reader sees. N node capacity, M edge capacity."""

    n: int
    m: int
    node_ids: NDArray[np.int64]  # [N], ascending below n
    alive: NDArray[np.bool_]  # [N]
    kinds: NDArray[np.int32]  # [N], index into kind_names
    importance: NDArray[np.float32]  # [N], 0..1
    created_us: NDArray[np.int64]  # [N], wall clock
    event_us: NDArray[np.int64]  # [N], event time, or NEVER
    event_end_us: NDArray[np.int64]  # [N], last event time of what stands for several, or NEVER
    accessed_us: NDArray[np.int64]  # [N], wall clock, or NEVER
    roles: NDArray[np.int8]  # [N], MemoryRole
    merged_into: NDArray[np.int32]  # [N], row, NEVER for none
    dense: two_stage.Index  # vectors of what is alive
    edge_ids: NDArray[np.int64]  # [M], ascending below m
    sources: NDArray[np.int32]  # [M], rows
    targets: NDArray[np.int32]  # [M], rows
    weights: NDArray[np.float32]  # [M]
    confidences: NDArray[np.float32]  # [M]
    edges_alive: NDArray[np.bool_]  # [M]
    types: NDArray[np.int32]  # [M], row id of the edge's type
    superseded_by: Mapping[int, int]  # row of an older memory to that of the newer one
    adjacency: Adjacency
    lexical: LexicalView  # with the words of expansions
    peers: Peers  # of expansions, [N, MOST_PEERS] and [N]
    kind_names: dict[str, int]

    def findable(self) -> NDArray[np.bool_]:
        """Rows that recall may answer with, [n]: what stands for itself, and facets."""
        roles = self.roles[: self.n]
        return self.alive[: self.n] & ((roles == MEMORY_ROLE_UNSPECIFIED) | (roles == MEMORY_ROLE_FACET))

    def rows_of(self, node_ids: Sequence[int]) -> NDArray[np.int64]:
        """Rows of nodes that are in the view."""
        return np.searchsorted(self.node_ids[: self.n], np.asarray(node_ids, dtype=np.int64))

    def edge_rows_of(self, edge_ids: Sequence[int]) -> NDArray[np.int64]:
        return np.searchsorted(self.edge_ids[: self.m], np.asarray(edge_ids, dtype=np.int64))


class Rebuilt(NamedTuple):
    """An adjacency made beside the one in use."""

    adjacency: Adjacency
    m: int  # edges it holds


_NODE_COLUMNS = (
    *("node_ids", "alive", "kinds", "importance", "created_us", "event_us", "event_end_us", "accessed_us"),
    *("roles", "merged_into"),
)
_EDGE_COLUMNS = ("edge_ids", "sources", "targets", "weights", "confidences", "edges_alive", "types")


class SpaceGraph:
    """Owner of one space's live columns; only the store's writer thread calls what changes them."""

    def __init__(self, lexical: LexicalIndex | None = None, dense: DenseIndex | None = None) -> None:
        self._lexical = lexical or LexicalIndex()
        self._dense = dense or DenseIndex()
        self._superseding = Superseding()
        self._overlaid = 0
        self._unmet: dict[int, int] = {}  # row to what it was merged into, which is to be added yet
        self._is_held = False
        self._words_changed = False
        self._peers_are_read = True
        # The writer's own, at times ahead of what readers see.
        self._now = GraphView(
            n=0,
            m=0,
            node_ids=np.zeros(SMALLEST, np.int64),
            alive=np.zeros(SMALLEST, np.bool_),
            kinds=np.zeros(SMALLEST, np.int32),
            importance=np.zeros(SMALLEST, np.float32),
            created_us=np.zeros(SMALLEST, np.int64),
            event_us=np.full(SMALLEST, NEVER, np.int64),
            event_end_us=np.full(SMALLEST, NEVER, np.int64),
            accessed_us=np.full(SMALLEST, NEVER, np.int64),
            roles=np.zeros(SMALLEST, np.int8),
            merged_into=np.full(SMALLEST, NEVER, np.int32),
            dense=self._dense.publish(),
            edge_ids=np.zeros(SMALLEST, np.int64),
            sources=np.zeros(SMALLEST, np.int32),
            targets=np.zeros(SMALLEST, np.int32),
            weights=np.zeros(SMALLEST, np.float32),
            confidences=np.zeros(SMALLEST, np.float32),
            edges_alive=np.zeros(SMALLEST, np.bool_),
            types=np.zeros(SMALLEST, np.int32),
            superseded_by=self._superseding.newer_of,
            adjacency=build_adjacency(np.zeros(0, np.int64), np.zeros(0, np.int64), 0),
            lexical=self._lexical.view(),
            peers=no_peers(SMALLEST),
            kind_names={},
        )
        self.view = self._now

    @property
    def lexical(self) -> LexicalIndex:
        return self._lexical

    @property
    def superseding_edges(self) -> NDArray[np.int32]:
        """Rows of edges that lead from a newer fact to an older one, the dead included, ascending."""
        return self._superseding.edges

    def adopt(self, view: GraphView, superseding_edges: Iterable[int]) -> None:
        """Takes columns that a snapshot held; words and vectors came with the constructor, the rest is built here."""
        self._note_superseding(view, superseding_edges)
        self._show(view._replace(adjacency=_adjacency(view), lexical=self._lexical.view()))

    @contextmanager
    def at_once(self) -> Generator[None]:
        """Readers see all that changes inside together, at its end: nothing is missing from recall in between."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
            self._show(self._now)

    # ── memories ────────────────────────────────────────────────────────────────

    def add_nodes(self, nodes: Sequence[NewNode]) -> None:
        """Appends nodes; ids must ascend and be above all before."""
        if not nodes:
            return
        view = self._with_capacity(self._now.n + len(nodes), self._now.m)
        kinds = dict(view.kind_names)
        at = slice(view.n, view.n + len(nodes))
        view.node_ids[at] = [node.id for node in nodes]
        view.alive[at] = [node.alive for node in nodes]
        view.kinds[at] = [kinds.setdefault(node.kind, len(kinds)) for node in nodes]
        view.importance[at] = [node.importance for node in nodes]
        view.created_us[at] = [node.created_us for node in nodes]
        view.event_us[at] = [node.event_us for node in nodes]
        view.event_end_us[at] = [node.event_end_us for node in nodes]
        view.accessed_us[at] = [node.accessed_us for node in nodes]
        view.roles[at] = [node.role for node in nodes]
        view.merged_into[at] = NEVER
        self._unmet |= {row: node.merged_into for row, node in enumerate(nodes, view.n) if node.merged_into != NEVER}
        spoken = [(view.n + i, node) for i, node in enumerate(nodes) if _has_words(node)]
        self._lexical.add_many(
            [row for row, _ in spoken],
            [words_of(node.title, node.text) for _, node in spoken],
            [names_of(node.title, node.aliases) for _, node in spoken],
        )
        view = view._replace(n=at.stop, kind_names=kinds)
        if self._unmet:
            self._meet(view)
        self._show(view, words=True)

    def change_node(self, node: NewNode) -> None:
        """Puts new content on a row, with the role that it says; it loses its vector until one is set.

        A container that stays one keeps what it holds, and a facet that stays in its container its code. A memory that
        was there keeps its expansion; what comes back has none until one is set.
        """
        view = self._now
        row = int(view.rows_of([node.id])[0])
        kinds = dict(view.kind_names)
        into = self._row_or_never(node.merged_into)
        stays = bool(view.alive[row]) and (view.roles[row], view.merged_into[row]) == (node.role, into)
        if not (stays and node.alive and node.role != MEMORY_ROLE_UNSPECIFIED):
            self._dense.remove(np.array([row]))
        view.kinds[row] = kinds.setdefault(node.kind, len(kinds))
        view.importance[row] = node.importance
        view.event_us[row] = node.event_us
        view.event_end_us[row] = node.event_end_us
        view.roles[row] = node.role
        view.merged_into[row] = into
        view.alive[row] = node.alive
        self._now = view._replace(kind_names=kinds)
        if _has_words(node):
            self._lexical.replace(row, words_of(node.title, node.text), names_of(node.title, node.aliases))
        else:
            self._silence(np.array([row]))
        self._show(self._now, words=True)

    def inherit(self, nodes: Sequence[NewNode]) -> None:
        """Sets importance and times of memories that stand for others, or do so no more; all else of `nodes` is
        passed over."""
        rows = self._now.rows_of([node.id for node in nodes])
        self._now.importance[rows] = [node.importance for node in nodes]
        self._now.created_us[rows] = [node.created_us for node in nodes]
        self._now.event_us[rows] = [node.event_us for node in nodes]
        self._now.event_end_us[rows] = [node.event_end_us for node in nodes]
        self._now.accessed_us[rows] = [node.accessed_us for node in nodes]

    def hide_nodes(self, node_ids: Sequence[int]) -> None:
        """Takes memories out of recall, their words and vectors too."""
        rows = self._now.rows_of(node_ids)
        self._now.alive[rows] = False
        self._silence(rows)
        self._dense.remove(rows)
        self._show(self._now, words=True)

    def set_roles(self, changes: Sequence[RoleChange], packed: Iterable[int] = ()) -> None:
        """Says what memories stand for; ones that come back with their words are for `change_node`.

        A memory that becomes a facet goes on with the vector it had until `add_containers` brings its code. packed:
        nodes that it will come for; others lose the vector here.
        """
        view = self._now
        rows = view.rows_of([change.id for change in changes])
        roles = np.array([change.role for change in changes], np.int8)
        alive = np.array([change.alive for change in changes], np.bool_)
        into = np.array([self._row_or_never(change.merged_into) for change in changes], np.int32)
        waits = np.isin(view.node_ids[rows], np.fromiter(packed, np.int64)) & (roles == MEMORY_ROLE_FACET) & alive
        stays = (view.roles[rows] == roles) & (view.merged_into[rows] == into) & view.alive[rows] & alive
        view.roles[rows] = roles
        view.merged_into[rows] = into
        view.alive[rows] = alive
        self._silence(rows[~alive | (roles == MEMORY_ROLE_CONTAINER)])
        self._dense.remove(rows[~(waits | stays)])
        self._show(self._now, words=True)

    def set_vectors(self, node_ids: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Sets vectors, shape (len(node_ids), D), of any length; D is the space's from the first call on.

        What is hidden has none in here: it comes back with its own.
        """
        rows = self._now.rows_of(node_ids)
        living = self._now.alive[rows]
        self._dense.set_vectors(rows[living], vectors[living])
        self._show(self._now)

    def add_containers(self, containers: Mapping[int, PackedContainer]) -> None:
        """Sets what containers hold, by row id; members that are hidden are left out, hidden containers too."""
        view = self._now
        blocks: dict[int, two_stage.Block] = {}
        for node, container in containers.items():
            row = int(view.rows_of([node])[0])
            if view.alive[row]:
                members = view.rows_of(container.members)
                order = np.argsort(members)
                order = order[view.alive[members[order]]]
                codes = FacetCodes(container.facets.codes[order], container.facets.scales[order])
                held = members[order].astype(np.int32)
                blocks[row] = two_stage.Block(held, codes, container.bits, container.centroid)
        self._dense.add_containers(blocks)
        self._show(view)

    def set_expansions(self, expansions: Sequence[Expansion]) -> None:
        """What memories are found by since others are linked to them, in place of what they had of that kind.

        Each node once; an empty expansion takes away what there was. What has no words of its own, e.g. what is hidden,
        has no expansion in here: it comes back with its own. A peer that is not in the graph is left out.
        """
        if not expansions:
            return
        places = self._rows_or_never([one.node for one in expansions])
        # By words a memory is known to the index for as long as it is there.
        told = [(row, one) for row, one in zip(places.tolist(), expansions, strict=True) if row in self._lexical]
        rows, found = [row for row, _ in told], [one for _, one in told]
        self._lexical.expand(rows, [one.words for one in found], [one.gains for one in found])
        self._own_peers()
        self._set_peers(np.array(rows, np.int64), found)
        self._show(self._now, words=True)

    def touch(self, node_ids: Sequence[int], now_us: int) -> None:
        self._now.accessed_us[self._now.rows_of(node_ids)] = now_us

    # ── edges ───────────────────────────────────────────────────────────────────

    def add_edges(self, edges: Sequence[NewEdge]) -> None:
        """Appends edges; ids must ascend and be above all before."""
        if not edges:
            return
        view = self._with_capacity(self._now.n, self._now.m + len(edges))
        at = slice(view.m, view.m + len(edges))
        view.edge_ids[at] = [edge.id for edge in edges]
        view.sources[at] = view.rows_of([edge.source for edge in edges])
        view.targets[at] = view.rows_of([edge.target for edge in edges])
        view.weights[at] = [edge.weight for edge in edges]
        view.confidences[at] = [edge.confidence for edge in edges]
        view.edges_alive[at] = [edge.alive for edge in edges]
        view.types[at] = [edge.type for edge in edges]
        view = view._replace(m=at.stop)
        self._note_superseding(view, (row for row, edge in enumerate(edges, at.start) if edge.supersedes))
        self._show(self._connected(view, at.start))

    def set_edges(
        self,
        edge_ids: Sequence[int],
        weights: Sequence[float],
        alive: Sequence[bool],
        confidences: Sequence[float] = (),
    ) -> None:
        view = self._now
        rows = view.edge_rows_of(edge_ids)
        view.weights[rows] = weights
        view.edges_alive[rows] = alive
        if confidences:
            view.confidences[rows] = confidences
        self._superseding.notice(rows.tolist(), view.edges_alive)

    def rebuild(self) -> Rebuilt:
        """An adjacency of all edges as they are now, the strongest of each row first, for `swap`; in any thread.

        After a night the order is another. 0.1 s for 200K edges.
        """
        view = self.view
        return Rebuilt(_adjacency(view), view.m)

    def swap(self, rebuilt: Rebuilt) -> None:
        """Takes what `rebuild` made meanwhile, edges that came since beside it, and leaves out vectors that died."""
        self._overlaid = 0
        view = self._connected(self._now._replace(adjacency=rebuilt.adjacency), rebuilt.m)
        self._dense.compact(above=WORN)
        self._show(view)

    # ── within ──────────────────────────────────────────────────────────────────

    def _show(self, view: GraphView, *, words: bool = False) -> None:
        """Makes a state the writer's, and the readers' unless it is held back."""
        self._now = view
        self._words_changed |= words
        if self._is_held:
            return
        if self._words_changed:
            view = view._replace(lexical=self._lexical.view())
        self._words_changed = False
        self._peers_are_read = True
        self._now = self.view = view._replace(dense=self._dense.publish())

    def _silence(self, rows: NDArray[np.int64]) -> None:
        """Takes words and expansions of rows away."""
        for row in rows.tolist():
            self._lexical.remove(row)
        rows = rows[self._now.peers.rows[rows, 0] != NEVER]
        if rows.size:
            self._own_peers()
            self._clear_peers(rows)

    def _own_peers(self) -> None:
        """Copies what readers may have, before it changes: 4 MB at 100,000 memories, a millisecond."""
        if self._peers_are_read:
            rows, shares, lengths = self._now.peers
            self._now = self._now._replace(peers=Peers(rows.copy(), shares.copy(), lengths.copy()))
            self._peers_are_read = False

    def _clear_peers(self, rows: NDArray[np.int64]) -> None:
        """Of rows; the columns are ours."""
        peers = self._now.peers
        peers.rows[rows], peers.shares[rows], peers.lengths[rows] = NEVER, 0, 1

    def _set_peers(self, rows: NDArray[np.int64], expansions: Sequence[Expansion]) -> None:
        """The strongest of those that are known, at the beginning of each row, [k]; the columns are ours."""
        self._clear_peers(rows)
        peers = self._now.peers
        of = np.repeat(np.arange(len(rows)), [len(one.peers) for one in expansions])
        found = self._rows_or_never([peer for one in expansions for peer in one.peers])
        shares = np.array([share for one in expansions for share in one.shares], np.float32)
        order = np.lexsort((-shares, of))
        order = order[found[order] != NEVER]
        place = np.arange(len(order)) - np.searchsorted(of[order], of[order])
        order, place = order[place < MOST_PEERS], place[place < MOST_PEERS]
        peers.rows[rows[of[order]], place] = found[order]
        peers.shares[rows[of[order]], place] = shares[order]
        lengths = np.array([one.length for one in expansions], np.float32)
        linked = np.unique(of[order])
        peers.lengths[rows[linked]] = lengths[linked]

    def _rows_or_never(self, nodes: Sequence[int]) -> NDArray[np.int64]:
        """Rows of nodes, [k], those that are not in the graph among them."""
        ids = self._now.node_ids[: self._now.n]
        wanted = np.asarray(nodes, np.int64)
        found = np.searchsorted(ids, wanted)
        return np.where(np.append(ids, NEVER)[found] == wanted, found, NEVER)

    def _row_or_never(self, node: int) -> int:
        return NEVER if node == NEVER else int(self._now.rows_of([node])[0])

    def _meet(self, view: GraphView) -> None:
        """Finds the rows of what memories were merged into, which is younger than they are."""
        rows = np.fromiter(self._unmet, np.int64, len(self._unmet))
        wanted = np.fromiter(self._unmet.values(), np.int64, len(self._unmet))
        found = np.minimum(view.rows_of(wanted.tolist()), view.n - 1)
        met = view.node_ids[found] == wanted
        view.merged_into[rows[met]] = found[met]
        self._unmet = dict(zip(rows[~met].tolist(), wanted[~met].tolist(), strict=True))

    def _note_superseding(self, view: GraphView, edges: Iterable[int]) -> None:
        for edge in edges:
            self._superseding.add(edge, int(view.sources[edge]), int(view.targets[edge]), view.edges_alive)

    def _connected(self, view: GraphView, first: int) -> GraphView:
        """Puts the edges from row `first` on into the adjacency: beside its base while they are few, else anew."""
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
                return view
        self._overlaid = 0
        return view._replace(adjacency=_adjacency(view))

    def _with_capacity(self, n: int, m: int) -> GraphView:
        view = self._now
        if n > len(view.node_ids):
            view = view._replace(**{name: _grow(getattr(view, name), n) for name in _NODE_COLUMNS})
            self._dense.grow(len(view.node_ids))
            view = view._replace(peers=grown(view.peers, len(view.node_ids)))
            self._peers_are_read = False
        if m > len(view.edge_ids):
            view = view._replace(**{name: _grow(getattr(view, name), m) for name in _EDGE_COLUMNS})
        return view


def _adjacency(view: GraphView) -> Adjacency:
    return build_adjacency(view.sources[: view.m], view.targets[: view.m], view.n, view.weights[: view.m])


def no_peers(capacity: int) -> Peers:
    """Columns of memories without any."""
    return Peers(
        rows=np.full((capacity, MOST_PEERS), NEVER, np.int32),
        shares=np.zeros((capacity, MOST_PEERS), np.float32),
        lengths=np.ones(capacity, np.float32),
    )


def grown(peers: Peers, capacity: int) -> Peers:
    """The same, with room for more."""
    wider = no_peers(capacity)
    for column, old in zip(wider, peers, strict=True):
        column[: len(old)] = old
    return wider


def _has_words(node: NewNode) -> bool:
    """Whether recall finds it by its words. A container's would only repeat those of its members."""
    return node.alive and node.role != MEMORY_ROLE_CONTAINER


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
