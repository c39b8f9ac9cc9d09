"""A store that has something of everything, to fuzz against: made once in a process, and copied for every batch."""

import atexit
import shutil
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.proof import acts
from benchmarks.proof.fuzz_draws import Pools
from benchmarks.proof.fuzz_parts import directory
from benchmarks.proof.fuzz_watch import Broken
from benchmarks.proof.life import Life
from benchmarks.proof.opened import SPACE
from benchmarks.proof.same import same_as_loaded
from dreamsvc import contract, entropy
from dreamsvc.dreamer.v1.operations_pb2 import EdgeDetail
from dreamsvc.memory import loading
from dreamsvc.memory.doctor import examine
from dreamsvc.memory.store import Store
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import DiffDreamRequest, ListBlindSpotsRequest, ListDreamsRequest
from dreamsvc.v1.memory_pb2 import Edge, Memory
from dreamsvc.v1.memory_service_pb2 import ExportSummary, ListMemoriesRequest, RememberRequest

# Nobody's calls are about this space: whatever happens, it stays as it is.
KEPT = "kept"


class World:
    """Copies of a template."""

    def __init__(self, *, suspended: bool = True) -> None:
        self.home = directory()
        self._copies = 0
        self._template = _template(suspended)

    def copy(self) -> Path:
        """The database of a new copy."""
        self._copies += 1
        place = self.home / str(self._copies)
        shutil.copytree(self._template, place)
        return place / "memory.db"

    def forget(self, path: Path) -> None:
        shutil.rmtree(path.parent, ignore_errors=True)

    def close(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)


@cache
def _template(suspended: bool) -> Path:
    place = directory()
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    life = Life(place / "memory.db", seed=1, twin=False)
    try:
        _furnish(life, suspended=suspended)
    finally:
        life.close()
    return place


def _furnish(life: Life, *, suspended: bool) -> None:
    # Enough that is still free for another dream.
    news = ("remember",) * 3
    for name in ("dream", "forget", "dream", *news, *(("suspend",) if suspended else ())):
        life.act(name)
    opened = life.opened
    remember(opened.store, KEPT)
    detail = EdgeDetail(is_amortized_shortcut=True, path=[1, 2, 3], valid_from_us=1, valid_to_us=2, evidence="3 walks")
    known = ("UPDATE edges SET detail=? WHERE born_in IS NOT NULL", (detail.SerializeToString(),))
    opened.store.database.write(lambda connection: connection.execute(*known).fetchall()).result(acts.PATIENCE_S)
    # One that waits for somebody's word, in a space of its own.
    remember(opened.store, "proposing")
    uid = entropy.uuid_for("dream", "proposed")
    record = Dream(id=uid, space="proposing", state=Dream.STATE_RUNNING, propose=True)
    request = acts.TriggerRequest(space="proposing")
    begun = opened.journal.begin_dream(request, record, opened.config, opened.clock.now_us()).result(acts.PATIENCE_S)[1]
    assert begun is not None
    edges = [
        row[0] for row in opened.rows("SELECT e.id FROM edges e JOIN spaces s ON s.id=e.space WHERE s.name='proposing'")
    ]
    opened.journal.stage_dream(begun.change, [acts.parts.weights(0, dict.fromkeys(edges, 0.75))], None, record).result()
    opened.journal.compact(begun.change)
    record.state = Dream.STATE_PROPOSED
    opened.journal.propose_dream(begun.change, record).result(acts.PATIENCE_S)


def remember(store: Store, space: str) -> None:
    """A few memories with edges and no vectors."""
    memories = [Memory(key=f"{space}{i}", text=f"memory {i} of {space}, not 7 km from Oslo") for i in range(8)]
    edges = [Edge(source=f"{space}{i}", target=f"{space}{i + 1}") for i in range(7)]
    request = RememberRequest(space=space, memories=memories, edges=edges)
    contract.fill(request)
    store.remember(request).result(acts.PATIENCE_S)


def digest(store: Store, space: str) -> str:
    *_, last = store.export(space)
    assert isinstance(last, ExportSummary)
    return last.digest


def require_order(store: Store, *, most: int = 12) -> None:
    """The doctor finds nothing, and what queries of the first spaces read is what a start would load."""
    wrong = [f"{found.name}: {found.detail}" for found in examine(str(store.path)) if not found.ok]
    if wrong:
        raise Broken("; ".join(wrong))
    for space in store.space_names()[:most]:
        fresh = store.database.read(lambda connection, name=space: loading.load(connection, store.space(name)))
        same_as_loaded(store.graph(space).view, fresh.view)


def pools(store: Store, journal: Any) -> Pools:
    """Names that the store has something for, by the field that they stand in."""
    rows = store.database.read(lambda c: c.execute("SELECT uid, key FROM nodes").fetchall())
    names = [entropy.uuid_text(uid) for uid, _ in rows] + [key for _, key in rows if key]
    dreams = [
        entropy.uuid_text(row[0])
        for row in store.database.read(lambda c: c.execute("SELECT uid FROM changes").fetchall())
    ]
    spots = [
        entropy.uuid_text(row[0])
        for row in store.database.read(lambda c: c.execute("SELECT uid FROM blind_spots").fetchall())
    ]
    spaces = [SPACE, SPACE, SPACE, "proposing", "new.space", "nowhere"]
    ids = [*names, *spots]
    return {
        "space": spaces,
        **dict.fromkeys(("source", "target", "used_ids", "ids"), names),
        "id": ids,
        "key": [*names, "", "", "new", "other"],
        "dream_id": [*dreams, ""],
        "page_token": [*_tokens(store, journal, dreams), "", ""],
        "kinds": ["note", "schema", "container"],
        "request_id": ["", "r1", "r2"],
        "type": ["related", "SUPERSEDES", "DREAM_DISCOVERED", "x"],
        "after_sequence": [0, 1, 2**63, 2**64 - 1],
        "recall_id": [],
        "iterations": [1],
    }


def _tokens(store: Store, journal: Any, dreams: list[str]) -> list[str]:
    found = [
        store.list_memories(ListMemoriesRequest(space=SPACE, page_size=1)).next_page_token,
        journal.list_dreams(ListDreamsRequest(space=SPACE, page_size=1)).next_page_token,
        store.list_blind_spots(ListBlindSpotsRequest(space=SPACE, page_size=1)).next_page_token,
    ]
    request = DiffDreamRequest(space=SPACE, dream_id=dreams[0], page_size=1, with_weights=True)
    return [token for token in (*found, journal.diff(request).next_page_token) if token]
