"""What must hold of the simulated service when it has just started, and when nothing happens any more."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from benchmarks.proof.ledger import Expected, Ledger
from benchmarks.proof.same import same_as_loaded
from benchmarks.proof.simulated_rules import RESTING, History
from benchmarks.proof.simulated_service import Service
from dreamsvc import entropy
from dreamsvc.memory import loading
from dreamsvc.memory.doctor import examine
from dreamsvc.memory.standing import FOLDED
from dreamsvc.v1.dream_pb2 import Dream

# What the store must say of a dream's change, by what the dream says.
STANDS = {
    Dream.STATE_SUSPENDED: "staging",
    Dream.STATE_PROPOSED: "staging",
    Dream.STATE_SUCCEEDED: "folded",
    Dream.STATE_SKIPPED: "dropped",
    Dream.STATE_FAILED: "dropped",
    Dream.STATE_DISCARDED: "dropped",
    Dream.STATE_REVERTED: "reverted",
}
# Rows that are a dream's, if it was applied; what a user changed since is the user's.
_CHANGED = "(changed_by=?1 OR born_in=?1) AND user_seq <= (SELECT base_seq FROM changes WHERE id=?1)"
OWN = {
    "nodes": _CHANGED,
    "edges": _CHANGED,
    "expansions": "change=?1",
    "positions": "change=?1",
    "blind_spots": "change=?1 AND user_seq=0",
}
UNAPPLIED = ("staging", "dropped", "reverted")


class Row(NamedTuple):
    """A memory as it is stored."""

    id: str
    text: str
    importance: float
    deleted: bool
    role: int


def stored(service: Service) -> dict[str, Row]:
    query = (
        "SELECT s.name || '/' || n.key, n.uid, n.text, n.importance, n.deleted_us IS NOT NULL, n.role FROM nodes n"
        " JOIN spaces s ON s.id = n.space WHERE n.key IS NOT NULL"
    )
    return {key: Row(entropy.uuid_text(uid), *rest) for key, uid, *rest in service.rows(query)}


def is_purged(service: Service, uid: str) -> bool:
    return bool(service.rows("SELECT 1 FROM nodes WHERE uid=? AND purged=1", entropy.uuid_bytes(uid)))


def of_ledger(service: Service, ledger: Ledger, ids: dict[str, str], let_go: Callable[[str], bool]) -> Iterator[str]:
    """Acknowledged writes that are not there; what calls in flight made of memories counts from then on."""
    found, pending = stored(service), ledger.pending
    for key in sorted(ledger.acked.keys() | pending.keys()):
        row, allowed = found.get(key), [ledger.acked.get(key), *pending.get(key, [])]
        if row is None:
            if key in ledger.acked and not let_go(key):
                yield f"memory {key} was acknowledged as {ledger.acked[key]} and is gone"
            continue
        matching = [state for state in allowed if state is not None and shows(row, state)]
        if not matching:
            yield f"memory {key} must be {' or '.join(map(str, filter(None, allowed)))} and is {row}"
            continue
        ledger.acked[key], ids[key] = matching[-1], row.id
    for key in sorted(found.keys() - ledger.acked.keys()):
        yield f"memory {key} is there and nobody stored it"
    yield from _in_part(found, ledger)
    ledger.calls.clear()


def _in_part(found: Mapping[str, Row], ledger: Ledger) -> Iterator[str]:
    """Calls in flight of which some happened, and some did not; no two calls send the same text."""
    for number, call in enumerate(ledger.calls):
        later = [other.states for other in ledger.calls[number:]]
        sent = {key: state for key, state in call.states.items() if state is not None and state.alive}
        there = [key for key in sent if key in found and any(shows(found[key], s[key]) for s in later if s.get(key))]
        if any(found[key].text == sent[key].text for key in there) and len(there) < len(sent):
            yield f"a call happened in part: of {sorted(sent)} there are {sorted(there)}"


def shows(row: Row, expected: Expected) -> bool:
    """A survivor inherits importance; what lies hidden behind another memory is not lost."""
    if row.text != expected.text or row.importance < expected.importance - 1e-9:
        return False
    # A copy that a user forgot stays a copy: its row does not tell.
    return row.role == FOLDED or row.deleted != expected.alive


def of_edges(service: Service, edges: set[tuple[str, str]]) -> Iterator[str]:
    query = "SELECT s.uid, t.uid FROM edges e JOIN nodes s ON s.id = e.source JOIN nodes t ON t.id = e.target"
    found = {(entropy.uuid_text(source), entropy.uuid_text(target)) for source, target in service.rows(query)}
    for source, target in sorted(edges - found):
        yield f"the edge {source} -> {target} was acknowledged and is gone"


def of_dreams(service: Service) -> Iterator[str]:
    """Dreams whose state is not that of their change, and traces of such as were never applied."""
    for change, state, body, told in service.rows(
        "SELECT d.change, c.state, d.body, d.state FROM dreams d JOIN changes c ON c.id = d.change ORDER BY d.change"
    ):
        dream = Dream.FromString(body)
        name = Dream.State.Name(dream.state)
        if told != dream.state or STANDS.get(dream.state) != state:
            yield f"dream {dream.id} is {name}, its change is {state}"
        if dream.state == Dream.STATE_FAILED and not dream.message:
            yield f"dream {dream.id} failed and nothing says why"
        if state in UNAPPLIED:
            for table, where in OWN.items():
                ((count,),) = service.rows(f"SELECT count(*) FROM {table} WHERE {where}", change)
                if count:
                    yield f"dream {dream.id} is {name} and {count} rows of {table} are its"
    query = (
        "SELECT p.change FROM checkpoints p JOIN dreams d ON d.change = p.change WHERE d.state <> ?"
        " UNION SELECT p.change FROM change_parts p JOIN changes c ON c.id = p.change WHERE c.state = 'dropped'"
        " UNION SELECT p.change FROM change_parts p JOIN changes c ON c.id = p.change"
        " WHERE c.state IN ('folded', 'reverted') AND p.generation <> c.generation"
    )
    for (change,) in service.rows(query, Dream.STATE_SUSPENDED):
        yield f"change {change} is over and left a checkpoint or parts"


def of_snapshots(service: Service) -> Iterator[str]:
    """Snapshots of dreams that do not wait to go on."""
    rows = service.rows("SELECT body FROM dreams WHERE state=?", Dream.STATE_SUSPENDED)
    waiting = {f"dream-{Dream.FromString(body).id}" for (body,) in rows}
    held = service.store.path.with_name(service.store.path.name + ".snapshots")
    for directory in sorted(held.glob("dream-*")):
        if directory.name not in waiting:
            yield f"{directory.name} is left over"


def of_graphs(service: Service) -> Iterator[str]:
    for space in service.store.space_names():
        fresh = service.store.database.read(lambda c, name=space: loading.load(c, service.store.space(name)))
        try:
            same_as_loaded(service.store.graph(space).view, fresh.view)
        except AssertionError as error:
            lines = " ".join(str(error).split())
            yield f'the live graph of space "{space}" is not what a full load gives: {lines[:300]}'


def of_doctor(service: Service) -> Iterator[str]:
    for finding in examine(str(service.store.path)):
        if not finding.ok:
            yield f"the doctor: {finding.name}: {finding.detail}"


def histories(service: Service) -> dict[str, History]:
    found: dict[str, History] = {}
    for space in service.store.space_names():
        rows = service.rows(
            "SELECT d.body, s.user_changes > c.base_changes FROM dreams d JOIN changes c ON c.id = d.change"
            " JOIN spaces s ON s.id = c.space WHERE s.name=? ORDER BY d.change",
            space,
        )
        dreams = [(Dream.FromString(body), bool(changed)) for body, changed in rows]
        rested = [one for one in dreams if one[0].state in RESTING]
        last, changed = rested[-1] if rested else (None, True)
        proposed = [dream.id for dream, _ in dreams if dream.state == Dream.STATE_PROPOSED]
        found[space] = History(
            last,
            changed,
            any(dream.state == Dream.STATE_SUSPENDED for dream, _ in dreams),
            proposed[-1] if proposed else "",
        )
    return found
