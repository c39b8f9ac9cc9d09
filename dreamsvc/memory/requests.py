"""First answers by request id: the same request again gets the same answer and changes nothing (API-7)."""

import hashlib
from collections.abc import Callable

from google.protobuf.message import Message

from dreamsvc.errors import RequestIdConflict
from dreamsvc.memory.sqlite import Connection


def once[Answer: Message](
    connection: Connection,
    request: Message,
    *,
    space: str,
    request_id: str,
    now_us: int,
    keep_us: int,
    empty: Answer,
    run: Callable[[], Answer],
) -> tuple[Answer, bool]:
    """Runs a change unless its id is known: the answer, and whether it ran now.

    Answer and change are committed together. Raises RequestIdConflict where the id came with another request.
    """
    if not request_id:
        return run(), True
    method = request.DESCRIPTOR.name
    digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
    connection.execute("DELETE FROM requests WHERE expires_us <= ?", (now_us,))
    row = connection.execute(
        "SELECT digest, answer FROM requests WHERE space=? AND method=? AND request_id=?", (space, method, request_id)
    ).fetchone()
    if row is not None:
        if row[0] != digest:
            raise RequestIdConflict(f'request_id "{request_id}" came before with another {method}')
        empty.ParseFromString(row[1])
        return empty, False
    answer = run()
    connection.execute(
        "INSERT INTO requests VALUES (?,?,?,?,?,?)",
        (space, method, request_id, digest, answer.SerializeToString(), now_us + keep_us),
    )
    return answer, True
