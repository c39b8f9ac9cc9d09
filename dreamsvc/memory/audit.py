"""The audit log: append-only, each row chained to the one before (REQ-DREAM-026)."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from dreamsvc.memory.sqlite import Connection

FIRST = bytes(32)


def record(
    connection: Connection, *, now_us: int, actor: str, action: str, space: int | None, seq: int, **detail: Any
) -> None:
    """Adds a row to the chain; `detail` holds ids and counts, never content."""
    row = connection.execute("SELECT hash FROM audit ORDER BY id DESC LIMIT 1").fetchone()
    previous: bytes = row[0] if row is not None else FIRST
    text = json.dumps(detail, sort_keys=True)
    digest = _hash(previous, (now_us, actor, action, space, text, seq))
    connection.execute(
        "INSERT INTO audit (at_us, actor, action, space, detail, seq, previous, hash) VALUES (?,?,?,?,?,?,?,?)",
        (now_us, actor, action, space, text, seq, previous, digest),
    )


def broken_at(connection: Connection) -> int | None:
    """Id of the first row that does not follow from the one before; None if the chain holds (I6)."""
    previous = FIRST
    rows = connection.execute(
        "SELECT id, at_us, actor, action, space, detail, seq, previous, hash FROM audit ORDER BY id"
    )
    for number, *fields, before, digest in rows:
        if before != previous or digest != _hash(previous, tuple(fields)):
            return int(number)
        previous = digest
    return None


def summary(ids: Mapping[str, Any] | list[str]) -> dict[str, Any]:
    """Count, digest and the first few of a list of public ids: enough to recognise it by, at any length."""
    names = list(ids)
    return {
        "count": len(names),
        "sha256": hashlib.sha256("\n".join(names).encode()).hexdigest(),
        "first": names[:20],
    }


def _hash(previous: bytes, fields: tuple[Any, ...]) -> bytes:
    return hashlib.sha256(previous + json.dumps(fields, ensure_ascii=False).encode()).digest()
