"""What an import says of containers and facets: a space comes back compressed as it was exported."""

from collections.abc import Iterable, Sequence

from dreamsvc import entropy
from dreamsvc.facet_codes import code_bytes
from dreamsvc.memory import rows, spaces, standing
from dreamsvc.memory.delta import Delta
from dreamsvc.memory.graph import RoleChange
from dreamsvc.memory.spaces import Space
from dreamsvc.memory.sqlite import Connection
from dreamsvc.memory.standing import CONTAINER, FACET
from dreamsvc.v1.memory_pb2 import Memory


def imported_standing(connection: Connection, space: Space, fresh: Sequence[tuple[int, Memory]], delta: Delta) -> None:
    """Gives new memories their role; containers stand before their facets in a file.

    A facet whose container is not there, or whose code does not fit it, stands for itself.
    """
    # By now the space has the dimension of the file's vectors, if it had none before.
    dimension = spaces.find(connection, space.name).dimension
    boxes = [(node, memory) for node, memory in fresh if memory.role == CONTAINER]
    made = [(node, memory) for node, memory in boxes if 0 < dimension == len(memory.packed.code)]
    plain = {node for node, _ in boxes} - {node for node, _ in made}
    delta.changed_nodes += [node.live() for node in standing.find(connection, plain).values()]
    standing.put_packed(connection, ((node, memory.packed) for node, memory in made))
    connection.executemany(f"UPDATE nodes SET role={CONTAINER} WHERE id=?", ((node,) for node, _ in made))
    # In the order of the file: where two do not fit each other, the first counts.
    given = sorted(fresh, key=lambda one: one[0])
    members = [(node, memory) for node, memory in given if memory.role == FACET and memory.merged_into]
    wanted = {uid for _, memory in members if (uid := entropy.uuid_bytes(memory.merged_into)) is not None}
    living = f"space={space.id} AND role={CONTAINER} AND deleted_us IS NULL"
    query = f"SELECT uid, id FROM nodes WHERE {living} AND uid IN (%s)"
    holders: dict[bytes, int] = dict(rows.chosen(connection, query, wanted))
    centroids = standing.read_packed(connection, holders.values())
    widths = _widths(connection, holders.values())
    touched = {node for node, _ in made}
    for node, memory in members:
        container = holders.get(entropy.uuid_bytes(memory.merged_into) or b"")
        if container is None or container not in centroids:
            continue
        packed = memory.packed
        if packed.bits not in (1, 2, 4, 8) or len(packed.code) != code_bytes(dimension, packed.bits):
            continue
        # All of a container are of one width.
        if widths.setdefault(container, packed.bits) != packed.bits:
            continue
        standing.put_packed(connection, [(node, packed)])
        connection.execute(f"UPDATE nodes SET role={FACET}, merged_into=? WHERE id=?", (container, node))
        delta.roles.append(RoleChange(node, FACET, container, True))
        # It is read by its code; the original lies in the store for the case that it is taken out again.
        delta.vectors.pop(node, None)
        touched.add(container)
    delta.containers |= standing.containers(connection, touched)


def _widths(connection: Connection, containers: Iterable[int]) -> dict[int, int]:
    """Bits of the codes that containers hold already."""
    query = (
        "SELECT n.merged_into, p.bits FROM nodes n JOIN packed_vectors p ON p.node = n.id"
        f" WHERE n.role={FACET} AND n.merged_into IN (%s)"
    )
    return dict(rows.chosen(connection, query, containers))
