"""What an import would do, without doing it."""

from collections.abc import Sequence

from dreamsvc import entropy
from dreamsvc.memory import rows
from dreamsvc.memory.known import Author, find_nodes
from dreamsvc.memory.remember import Stored, identify
from dreamsvc.memory.spaces import Space
from dreamsvc.memory.sqlite import Connection
from dreamsvc.v1.memory_pb2 import Edge, Memory


class Foresight:
    """What an import would do, part by part; writes nothing and remembers what the parts before would have made."""

    def __init__(self) -> None:
        self._made: set[bytes] = set()
        self._named: dict[str, bytes] = {}
        self._forgotten: set[bytes] = set()
        self._edges: set[tuple[bytes, bytes, str]] = set()

    def of(self, connection: Connection, space: Space, memories: Sequence[Memory], edges: Sequence[Edge]) -> Stored:
        """What `store` would give for the next part."""
        author = Author(now_us=0, kept_us=0, seq=0, change=0)
        uids, known = identify(connection, space, memories, author)
        made = set(uids) - known.keys() - self._made
        self._made |= made
        self._forgotten |= {uid for uid, old in known.items() if old.deleted}
        for uid, memory in zip(uids, memories, strict=True):
            self._named |= {name: uid for name in (entropy.uuid_text(uid), memory.id, memory.key) if name}
        created = self._new_edges(connection, space, edges)
        return Stored([], len(made), 0, len(memories) - len(made), created, 0, len(edges) - created)

    def _new_edges(self, connection: Connection, space: Space, edges: Sequence[Edge]) -> int:
        ends = find_nodes(connection, space, {name for edge in edges for name in (edge.source, edge.target)})
        uids = {name: self._named[name] for edge in edges for name in (edge.source, edge.target) if name in self._named}
        uids |= {name: end.uid for name, end in ends.items()}
        forgotten = self._forgotten | {end.uid for end in ends.values() if end.deleted}
        of_row = {end.id: end.uid for end in ends.values()}
        present = {
            (of_row[source], of_row.get(target), kind)
            for source, target, kind in rows.chosen(
                connection,
                "SELECT e.source, e.target, k.name FROM edges e JOIN edge_types k ON k.id = e.type"
                " WHERE e.source IN (%s)",
                of_row,
            )
        }
        wanted = {
            (uids[edge.source], uids[edge.target], edge.type)
            for edge in edges
            if edge.source in uids and edge.target in uids
        }
        new = {
            (source, target, kind)
            for source, target, kind in wanted - present - self._edges
            if source != target and not {source, target} & forgotten
        }
        self._edges |= new
        return len(new)
