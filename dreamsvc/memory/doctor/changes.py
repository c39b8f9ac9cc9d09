"""Dreams and imports: their parts, their records, their checkpoints, and the audit of all that was changed."""

import hashlib
import json
import zlib

from google.protobuf.message import DecodeError, Message

from dreamsvc import entropy
from dreamsvc.memory import audit, dreams, operations
from dreamsvc.memory.doctor.finding import CHANGED_OUTSIDE, DISCARD, RESTORE, START, Note, Place, Problem, Said
from dreamsvc.memory.sqlite import ChangeId
from dreamsvc.v1 import dream_service_pb2, memory_service_pb2
from dreamsvc.v1.config_pb2 import DreamConfig
from dreamsvc.v1.dream_pb2 import Dream

# States of a dream's record and those that its change may then be in.
_UNSEALED = {Dream.STATE_RUNNING, Dream.STATE_SUSPENDED, Dream.STATE_PROPOSED}
_AGREES: dict[int, set[str]] = {
    **{state: {"staging"} for state in _UNSEALED},
    # What was done last before a crash may not be in the record yet.
    Dream.STATE_FOLDING: {"sealed", "folded"},
    Dream.STATE_REVERTING: {"reverting", "reverted"},
    Dream.STATE_SUCCEEDED: {"folded"},
    Dream.STATE_REVERTED: {"reverted"},
    **{state: {"dropped"} for state in (Dream.STATE_SKIPPED, Dream.STATE_DISCARDED)},
    # What could not be folded to its end was taken back.
    Dream.STATE_FAILED: {"dropped", "reverted"},
}
_WAITING: dict[int, str] = {
    Dream.STATE_SUSPENDED: "can be resumed",
    Dream.STATE_PROPOSED: "waits for approve or reject",
}


def chain(place: Place) -> Said:
    broken = audit.broken_at(place.connection)
    if broken is not None:
        yield Problem(
            f"row {broken} does not follow from the one before; rows were changed outside of dreamsvc", CHANGED_OUTSIDE
        )


def end_of_audit(place: Place) -> Said:
    """A chain that was cut off at its end is unbroken; what it must hold the other tables say."""
    connection = place.connection
    (last,) = connection.execute("SELECT ifnull(max(seq), 0) FROM audit").fetchone()
    # Their lines come when they are done.
    query = "SELECT count(*) FROM changes WHERE state IN ('sealed', 'reverting')"
    (under_way,) = connection.execute(query).fetchone()
    for table in ("nodes", "edges"):
        (newest,) = connection.execute(f"SELECT ifnull(max(user_seq), 0) FROM {table}").fetchone()
        if newest > last and not under_way:
            yield Problem(
                f"a user changed {table} at change {newest}, and the last line is of change {last}", CHANGED_OUTSIDE
            )
    told = {
        (actor, action): json.loads(detail)
        for actor, action, detail in connection.execute(
            "SELECT actor, action, detail FROM audit WHERE action IN ('seal', 'fold')"
        )
    }
    query = (
        "SELECT c.id, c.uid, c.kind, c.state, c.purged_us IS NOT NULL,"
        " (SELECT count(*) FROM change_parts p WHERE p.change = c.id AND p.generation = c.generation)"
        " FROM changes c WHERE c.state NOT IN ('staging', 'dropped')"
    )
    for change, uid, kind, state, purged, parts in connection.execute(query):
        actor = f"{kind}:{uid.hex()}"
        # One that could not be folded to its end was taken back without.
        for action in ("seal", "fold") if state == "folded" else ("seal",):
            if (actor, action) not in told:
                yield Problem(f"change {change} is {state}, and no line says {action}", CHANGED_OUTSIDE)
        sealed = told.get((actor, "seal"))
        if sealed is not None and not purged and sealed.get("parts") != parts:
            yield Problem(
                f"change {change} was sealed with {sealed.get('parts')} parts and has {parts}",
                CHANGED_OUTSIDE,
            )


def reversal(place: Place) -> Said:
    connection = place.connection
    mend = f"that dream cannot be taken back; everything else works. To have that too, {RESTORE}"
    query = "SELECT change, part, before, reversal_hash FROM change_parts WHERE before IS NOT NULL"
    for change, part, before, digest in connection.execute(query):
        if hashlib.sha256(before).digest() != digest:
            yield Problem(f"part {part} of change {change} does not match its reversal hash", mend)
    query = (
        "SELECT p.change, p.part FROM change_parts p JOIN changes c ON c.id = p.change AND c.generation = p.generation"
        " WHERE c.kind = 'dream' AND p.before IS NULL AND (c.state = 'folded'"
        " OR (c.state IN ('sealed', 'reverting') AND p.part < c.fold_cursor))"
    )
    for change, part in connection.execute(query):
        yield Problem(f"part {part} of change {change} was applied and has no image of what was before", mend)


def parts(place: Place) -> Said:
    mends = {"staging": DISCARD, "sealed": "start the service: it takes that dream back as far as it was applied"}
    for state, mend in mends.items():
        for change in operations.in_state(place.connection, state):
            query = "SELECT part, body, crc FROM change_parts WHERE change = ?"
            for part, body, crc in place.connection.execute(query, (change.id,)):
                if zlib.crc32(body) != crc:
                    yield Problem(f"part {part} of change {change.id} does not match its checksum", mend)


def left_over(place: Place) -> Said:
    for change in operations.in_state(place.connection, "sealed"):
        yield Problem(f"change {change.id} is sealed and not yet folded; the next start finishes it", START)
    for change in operations.in_state(place.connection, "reverting"):
        yield Problem(f"change {change.id} is taken back in part; the next start finishes it", START)


def unsealed(place: Place) -> Said:
    """I9: nothing in the memory comes from a change that was never sealed."""
    for table in ("nodes", "edges"):
        query = (
            f"SELECT t.id, c.id FROM {table} t JOIN changes c ON c.id IN (t.born_in, t.changed_by)"
            " WHERE c.state IN ('staging', 'dropped')"
        )
        for row, change in place.connection.execute(query):
            yield Problem(f"row {row} of {table} comes from change {change}, which was never sealed", RESTORE)


def records(place: Place) -> Said:
    query = (
        "SELECT c.id, c.uid, c.state, s.name, d.state, d.body, d.config FROM dreams d JOIN changes c ON c.id = d.change"
        " JOIN spaces s ON s.id = c.space"
    )
    for change, uid, state, space, told, body, config in place.connection.execute(query):
        dream_id = entropy.uuid_text(uid)
        mend = f"start the service: dream {dream_id} is dropped or failed with a reason, everything else is served"
        if state in ("folded", "reverted", "dropped"):
            mend = "what that dream did is as it was, and so is all else; for its history too, " + RESTORE
        dream = Dream()
        if not (_reads(dream, body) and _reads(DreamConfig(), config)):
            yield Problem(f"the record of dream {dream_id} cannot be read", mend)
            continue
        if (dream.id, dream.space, dream.state) != (dream_id, space, told):
            yield Problem(f"the record of dream {dream_id} is that of another dream or state", mend)
        if state not in _AGREES.get(told, {state}):
            yield Problem(f"dream {dream_id} is {dreams.state_word(dream)} and its change {change} is {state}", mend)
        elif told in _WAITING:
            yield Note(f"dream {dream_id} {_WAITING[told]}")
    query = (
        "SELECT id FROM changes WHERE kind = 'dream' AND purged_us IS NULL AND id NOT IN (SELECT change FROM dreams)"
    )
    for (change,) in place.connection.execute(query):
        yield Problem(f"change {change} is a dream without a record", CHANGED_OUTSIDE)


def checkpoints(place: Place) -> Said:
    query = "SELECT p.change, c.state, c.uid, d.state FROM checkpoints p LEFT JOIN changes c ON c.id = p.change"
    query += " LEFT JOIN dreams d ON d.change = p.change"
    for change, state, uid, told in place.connection.execute(query):
        if state != "staging" or told not in _UNSEALED:
            why = "there is no such dream" if uid is None else f"dream {entropy.uuid_text(uid)} has ended"
            yield Problem(f"a checkpoint of change {change} is left over: {why}", START)
            continue
        _, unfit = dreams.load_checkpoint(place.connection, ChangeId(change))
        if unfit and dreams.is_of_another_version(place.connection, ChangeId(change)):
            yield Note(f"dream {entropy.uuid_text(uid)} cannot go on: {unfit}; the next trigger begins anew")
        elif unfit:
            yield Problem(f"dream {entropy.uuid_text(uid)} cannot go on: {unfit}", f"{DISCARD}; the next one is new")


def answers(place: Place) -> Said:
    """Of requests: each is what its method answers."""
    query = "SELECT space, method, request_id, length(digest), answer FROM requests"
    for space, method, request_id, digest, answer in place.connection.execute(query):
        response = _response_to(method)
        if response is None or digest != 32 or not _reads(response, answer):
            yield Problem(
                f'the first answer to {method} "{request_id}" of space "{space}" cannot be read',
                "send that request again under a new request_id",
            )


def _response_to(method: str) -> Message | None:
    name = "ImportResponse" if method == "ImportHeader" else method.removesuffix("Request") + "Response"
    for module in (memory_service_pb2, dream_service_pb2):
        if hasattr(module, name):
            return getattr(module, name)()
    return None


def _reads(message: Message, body: bytes) -> bool:
    try:
        message.ParseFromString(body)
    except DecodeError:
        return False
    return True
