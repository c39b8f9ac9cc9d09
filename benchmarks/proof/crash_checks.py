"""What must hold of a store after every kill, read from its files beside whoever serves it."""

import contextlib
import shutil
from collections.abc import Sequence, Set
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from benchmarks.proof import crash_dreams
from benchmarks.proof.crash_clients import DIMENSION, WORDS
from benchmarks.proof.crash_dreams import Proposal
from benchmarks.proof.crash_facts import LINK, MEMORY, PAIR, PREFIX, Fact, Facts, Found, Kept, Ledger, Linked, compare
from benchmarks.proof.crash_servers import PATIENCE_S, Calls
from benchmarks.proof.same import same_as_loaded
from dreamsvc import config, entropy, snapshot_files
from dreamsvc.errors import DreamsvcError
from dreamsvc.memory import backup, loading, recall, snapshot, spaces
from dreamsvc.memory.doctor import LEFT_OVER, examine
from dreamsvc.memory.sqlite import Connection, change_seq, open_read_only
from dreamsvc.v1.memory_service_pb2 import RecallRequest

# Of live answers, how many of the best are compared, and by how much floats that were added in another order differ.
BEST, SLACK = 10, 1e-4


def check(path: Path, ledgers: Sequence[Ledger], proposals: Sequence[Proposal], *, recovered: bool) -> Found:
    """recovered: a server has started since, and brought to an end what was sealed."""
    found = Found([])
    try:
        with contextlib.closing(open_read_only(path)) as connection:
            connection.execute("BEGIN")
            observed = observe(connection)
            halfway = not recovered and "import" in crash_dreams.unfinished(connection)
            unsettled: set[Fact] = set()
            for ledger in ledgers:
                call = ledger.in_flight
                if halfway and call is not None and call.what.startswith("import"):
                    unsettled |= call.after.keys()
                else:
                    ledger.settle(observed, found)
            compare(ledgers, observed, frozenset(unsettled), found)
            crash_dreams.check(connection, proposals, found, recovered=recovered)
    except DreamsvcError as error:
        found.wrong.append(f"the store cannot be read: {error.message}")
    return found


def examined(path: Path, *, recovered: bool) -> list[str]:
    """What the doctor finds wrong."""
    return [
        f"the doctor: {one.name}: {one.detail}"
        for one in examine(str(path))
        if not one.ok and (recovered or one.name != LEFT_OVER)
    ]


def observe(connection: Connection) -> Facts:
    """All that clients stored, as it is."""
    facts: dict[Fact, Any] = {}
    own = f"GLOB '{PREFIX}*'"
    query = (
        "SELECT s.name, n.key, n.text, n.importance, n.deleted_us IS NULL,"
        " (SELECT count(*) FROM node_versions v WHERE v.node = n.id), ifnull(v.body, x'')"
        f" FROM nodes n JOIN spaces s ON s.id = n.space LEFT JOIN vectors v ON v.node = n.id WHERE n.key {own}"
    )
    for space, key, text, importance, alive, versions, vector in connection.execute(query):
        facts[MEMORY, space, key] = Kept(text, importance, bool(alive), versions, vector)
    ends = "JOIN nodes a ON a.id = e.source JOIN nodes b ON b.id = e.target JOIN spaces s ON s.id = e.space"
    query = f"SELECT s.name, a.key, b.key, e.weight, e.deleted_us IS NULL FROM edges e {ends} WHERE a.key {own}"
    for space, source, target, weight, alive in connection.execute(query):
        facts[LINK, space, source, target] = Linked(weight, bool(alive))
    query = f"SELECT s.name, a.key, b.key, e.confirmed FROM coactivations e {ends} WHERE a.key {own} AND b.key {own}"
    for space, one, other, confirmed in connection.execute(query):
        if confirmed:
            facts[PAIR, space, *sorted((one, other))] = confirmed
    return facts


def check_answers(path: Path, calls: Calls, names: Sequence[str], random: Random) -> list[str]:
    """Whether a server answers as one would that has just loaded the rows. Nobody writes meanwhile."""
    wrong: list[str] = []
    settings = config.defaults().recall
    with contextlib.closing(open_read_only(path)) as connection:
        for name in names:
            space = spaces.find(connection, name)
            text = " ".join(random.choices(WORDS, k=3))
            vector = np.array([random.gauss(0, 1) for _ in range(DIMENSION if space.dimension else 0)], np.float32)
            request = RecallRequest(space=name, text=text, vector=vector.tolist(), limit=BEST, with_similar=True)
            given = [(hit.memory.id, hit.score) for hit in calls.memories.Recall(request, timeout=PATIENCE_S).hits]
            query = recall.Query(text, vector if space.dimension else None, 5 * BEST, (), None, None)
            loaded = recall.find(loading.load(connection, space).view, query, settings)
            uids: dict[int, bytes] = dict(connection.execute("SELECT id, uid FROM nodes WHERE space=?", (space.id,)))
            wanted = [(entropy.uuid_text(uids[one.node]), one.score) for one in loaded]
            if not _alike(given, wanted):
                wrong.append(f"{name} was asked for {text!r} and answers {given[:3]}; the rows give {wanted[:3]}")
    return wrong


def _alike(given: Sequence[tuple[str, float]], wanted: Sequence[tuple[str, float]]) -> bool:
    """Equal but for the order of what scores alike."""
    scores = dict(wanted)
    return len(given) == min(BEST, len(wanted)) and all(
        abs(score - scores.get(uid, -1)) < SLACK and abs(score - wanted[place][1]) < SLACK
        for place, (uid, score) in enumerate(given)
    )


def check_backup(target: Path, promised: Set[Fact]) -> list[str]:
    """A backup that has its name is whole, and holds what was acknowledged before it began."""
    if not target.exists():
        return []
    try:
        backup.check(target)
        with contextlib.closing(open_read_only(target / backup.DATABASE)) as connection:
            lacking = promised - observe(connection).keys()
    except DreamsvcError as error:
        return [f"a backup was made and is none: {error.message}"]
    shutil.rmtree(target)
    return [f"{len(lacking)} memories were acknowledged and are in no backup: {sorted(lacking)[:3]}"] if lacking else []


def check_snapshots(path: Path) -> tuple[int, list[str]]:
    """Compares what a server left for the next start, its live graphs, with the rows; how many there were."""
    wrong: list[str] = []
    count = 0
    with contextlib.closing(open_read_only(path)) as connection:
        seq = change_seq(connection)
        for space in spaces.all_of(connection):
            arrays = snapshot_files.read(path.with_name(f"{path.name}.snapshots") / f"start-{space.id}", seq)
            if arrays is None:
                continue
            count += 1
            try:
                same_as_loaded(snapshot.restore(arrays).view, loading.load(connection, space).view)
            except AssertionError as error:
                wrong.append(f"the live graph of {space.name} was not what its rows give: {str(error).split()}"[:400])
    return count, wrong
