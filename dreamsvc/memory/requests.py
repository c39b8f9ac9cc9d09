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
    kept_us: int,
    keep_for_us: int,
    empty: Answer,
    run: Callable[[], Answer],
) -> tuple[Answer, bool]:
    """Runs a change unless its id is known: the answer, and whether it ran now.

    Answer and change are committed together. Raises RequestIdConflict where the id came with another request.
    """
    if not request_id:
        return run(), True
    connection.execute("DELETE FROM requests WHERE expires_us <= ?", (kept_us,))
    if first_answer(connection, request, space=space, request_id=request_id, kept_us=kept_us, empty=empty):
        return empty, False
    answer = run()
    connection.execute(
        "INSERT INTO requests VALUES (?,?,?,?,?,?)",
        (
            *(space, request.DESCRIPTOR.name, request_id, _digest(request), answer.SerializeToString()),
            kept_us + keep_for_us,
        ),
    )
    return answer, True


def first_answer(
    connection: Connection, request: Message, *, space: str, request_id: str, kept_us: int, empty: Message
) -> bool:
    """Puts the first answer to a request into `empty`; False where the id is not known. Raises RequestIdConflict."""
    method = request.DESCRIPTOR.name
    row = connection.execute(
        "SELECT digest, answer FROM requests WHERE space=? AND method=? AND request_id=? AND expires_us > ?",
        (space, method, request_id, kept_us),
    ).fetchone()
    if row is None:
        return False
    if row[0] != _digest(request):
        raise RequestIdConflict(f'request_id "{request_id}" came before with another {method}')
    empty.ParseFromString(row[1])
    return True


def _digest(request: Message) -> bytes:
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
