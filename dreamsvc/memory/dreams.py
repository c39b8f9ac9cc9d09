"""Dreams as rows: their record, their checkpoint, their history (REQ-DREAM-028, 029)."""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

from google.protobuf.message import DecodeError

from dreamsvc import checkpoints, entropy
from dreamsvc.dreamer.v1.dreamer_service_pb2 import Checkpoint
from dreamsvc.errors import NotFound
from dreamsvc.memory.spaces import Space
from dreamsvc.memory.sqlite import ChangeId, Connection
from dreamsvc.v1.config_pb2 import DreamConfig
from dreamsvc.v1.dream_pb2 import Dream


class DreamRow(NamedTuple):
    change: ChangeId
    dream: Dream
    # The instant ages are counted from, and the configuration the dream began with.
    now_us: int
    config: DreamConfig
    base_seq: int
    # What of it cannot be read, '' where all can.
    damage: str = ""


def state_word(dream: Dream) -> str:
    """E.g. "suspended"."""
    return Dream.State.Name(dream.state).removeprefix("STATE_").lower()


_QUERY = (
    "SELECT d.change, d.body, d.now_us, d.config, c.base_seq, c.uid, d.state, s.name FROM dreams d"
    " JOIN changes c ON c.id = d.change JOIN spaces s ON s.id = c.space"
)


def insert(connection: Connection, change: ChangeId, dream: Dream, now_us: int, config: DreamConfig) -> None:
    connection.execute(
        "INSERT INTO dreams (change, state, now_us, body, config) VALUES (?,?,?,?,?)",
        (change, dream.state, now_us, dream.SerializeToString(), config.SerializeToString()),
    )


def update(connection: Connection, change: ChangeId, dream: Dream) -> None:
    connection.execute(
        "UPDATE dreams SET state=?, body=? WHERE change=?", (dream.state, dream.SerializeToString(), change)
    )


def get(connection: Connection, space: Space, dream_id: str) -> DreamRow:
    """Raises NotFound, also for a dream of another space."""
    uid = entropy.uuid_bytes(dream_id)
    row = connection.execute(f"{_QUERY} WHERE c.uid = ? AND c.space = ?", (uid, space.id)).fetchone()
    if row is None:
        raise NotFound(f'there is no dream "{dream_id[:40]}" in space "{space.name}"')
    return _read(row)


def latest(connection: Connection, space: Space, states: Sequence[int]) -> DreamRow | None:
    """The newest dream of a space that is in one of these states."""
    row = connection.execute(
        f"{_QUERY} WHERE c.space = ? AND d.state IN ({','.join('?' * len(states))}) ORDER BY d.change DESC LIMIT 1",
        (space.id, *states),
    ).fetchone()
    return None if row is None else _read(row)


def page(
    connection: Connection,
    space: Space,
    states: Sequence[int],
    times: tuple[int, int],
    before: int | None,
    size: int,
) -> list[DreamRow]:
    """Up to `size` dreams, the newest first, older than row `before`; times: when they began, from, to, 0 for any."""
    where = "c.space = ?"
    values: list[int] = [space.id]
    if states:
        where += f" AND d.state IN ({','.join('?' * len(states))})"
        values += states
    for operator, time_us in zip((">=", "<"), times, strict=True):
        if time_us:
            where += f" AND d.now_us {operator} ?"
            values.append(time_us)
    if before is not None:
        where += " AND d.change < ?"
        values.append(before)
    rows = connection.execute(f"{_QUERY} WHERE {where} ORDER BY d.change DESC LIMIT ?", (*values, size)).fetchall()
    return [_read(row) for row in rows]


def in_state(connection: Connection, state: int) -> list[DreamRow]:
    return [_read(row) for row in connection.execute(f"{_QUERY} WHERE d.state = ? ORDER BY d.change", (state,))]


def count_states(connection: Connection) -> tuple[dict[int, int], int]:
    """Dreams of all spaces by state, and checkpoints that they can go on from."""
    states = dict(connection.execute("SELECT state, count(*) FROM dreams GROUP BY state").fetchall())
    return states, int(connection.execute("SELECT count(*) FROM checkpoints").fetchone()[0])


def _read(row: tuple[int, bytes, int, bytes, int, bytes, int, str]) -> DreamRow:
    """What is damaged is left out, and the rest is served: one record must not be in the way of all others."""
    change, body, now_us, config, base_seq, uid, state, space = row
    damage = ""
    dream, settings = Dream(), DreamConfig()
    try:
        dream.ParseFromString(body)
    except DecodeError:
        dream.Clear()
        damage = dream.message = "its record is damaged"
    dream.id, dream.space = entropy.uuid_text(uid), space
    dream.state = state  # pyright: ignore
    try:
        settings.ParseFromString(config)
    except DecodeError:
        settings.Clear()
        damage = damage or "the configuration it began with is damaged"
    return DreamRow(ChangeId(change), dream, now_us, settings, base_seq, damage)


def save_checkpoint(connection: Connection, change: ChangeId, checkpoint: Checkpoint, now_us: int) -> None:
    body = checkpoint.SerializeToString()
    connection.execute("INSERT OR REPLACE INTO checkpoints VALUES (?,?,?,?)", (change, body, zlib.crc32(body), now_us))


def load_checkpoint(connection: Connection, change: ChangeId) -> tuple[Checkpoint | None, str]:
    """The checkpoint, or None and why there is none to go on from ('' if none was saved yet)."""
    row = connection.execute("SELECT body, crc FROM checkpoints WHERE change = ?", (change,)).fetchone()
    if row is None:
        return None, ""
    body, crc = row
    if zlib.crc32(body) != crc:
        return None, "its checkpoint is damaged"
    try:
        checkpoint = Checkpoint.FromString(body)
    except DecodeError:
        return None, "its checkpoint cannot be read"
    dream = _read(connection.execute(f"{_QUERY} WHERE d.change = ?", (change,)).fetchone()).dream
    query = "SELECT part FROM change_parts WHERE change = ? AND generation = 0"
    parts = {part for (part,) in connection.execute(query, (change,))}
    unfit = checkpoints.flaw(checkpoint, seed=dream.seed, parts=parts, nodes=dream.report.nodes)
    return (None, unfit) if unfit else (checkpoint, "")


def is_of_another_version(connection: Connection, change: ChangeId) -> bool:
    """Whether a checkpoint is whole, and of a dreamsvc whose checkpoints mean something else."""
    (body, crc) = connection.execute("SELECT body, crc FROM checkpoints WHERE change = ?", (change,)).fetchone()
    try:
        return zlib.crc32(body) == crc and Checkpoint.FromString(body).format != checkpoints.FORMAT
    except DecodeError:
        return False


def drop_loose_checkpoints(connection: Connection) -> int:
    """Drops those of dreams that cannot go on any more; how many there were."""
    going_on = "(SELECT id FROM changes WHERE state = 'staging')"
    query = f"DELETE FROM checkpoints WHERE change NOT IN {going_on} RETURNING change"
    return len(connection.execute(query).fetchall())


def drop_checkpoint(connection: Connection, change: ChangeId) -> None:
    connection.execute("DELETE FROM checkpoints WHERE change = ?", (change,))


def user_changes_since(connection: Connection, change: ChangeId) -> int:
    """How many memories and edges users changed in a dream's space since it began."""
    row = connection.execute(
        "SELECT s.user_changes - c.base_changes FROM changes c JOIN spaces s ON s.id = c.space WHERE c.id = ?",
        (change,),
    ).fetchone()
    return int(row[0]) if row is not None else 0


def newest_node_known(connection: Connection, change: ChangeId) -> int:
    """The newest memory that was in a dream's space when it began, of those that no user changed since; 0 for none.

    What is newer came since, but for the few at the border that were changed.
    """
    row = connection.execute(
        "SELECT n.id FROM changes c JOIN nodes n ON n.space = c.space WHERE c.id = ? AND n.user_seq <= c.base_seq"
        " ORDER BY n.id DESC LIMIT 1",
        (change,),
    ).fetchone()
    return int(row[0]) if row is not None else 0
