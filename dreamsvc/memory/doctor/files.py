"""What lies beside the database: the log, snapshots, who holds the store, and what broke off."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dreamsvc import entropy, snapshot_files, two_stage
from dreamsvc.memory import loading, replacing, snapshot, spaces, sqlite, write_log
from dreamsvc.memory.doctor.finding import RESTORE, Note, Place, Problem, Said
from dreamsvc.memory.graph import NEVER, GraphView
from dreamsvc.v1.dream_pb2 import Dream

_NODES = ("alive", "importance", "created_us", "event_us", "event_end_us", "accessed_us", "roles")
_EDGES = ("edges_alive", "types")
_WEIGHTS = ("weights", "confidences")
# Texts whose words are looked up in both.
MOST_TEXTS = 100


def log(path: Path, holder: int | None) -> Said:
    """The log beside a database, before SQLite reads it."""
    state = write_log.look(path)
    if state.damage and holder is not None and write_log.look(path) != state:
        # It was written to while it was read.
        state = write_log.LogState(state.frames)
    if holder is None and sqlite.log_is_lost(path):
        yield Problem(
            f"{path}-wal is gone, and the service was killed before it could move what is in it into the database",
            "put it back before you start the service; else what was acknowledged last is lost, or in a backup",
        )
    elif state.damage:
        wal = path.with_name(f"{path.name}-wal")
        aside = f"move {wal} away, nothing is lost: the database has all that it holds"
        yield Problem(f"{wal}: {state.damage}", aside if state.spare else RESTORE)
    elif state.left_out and holder is None:
        yield Note(
            f"it ends in {state.left_out} frames of a commit that is not whole: a power cut, before the commit was"
            " acknowledged; the next start leaves it out"
        )


def server(place: Place) -> Said:
    yield Note(f"process {place.holder} serves it" if place.holder is not None else "no process serves it")


def snapshots(place: Place) -> Said:
    """I11: a snapshot that the next start would take shows what the rows say."""
    moment = snapshot.moment_of(place.connection)
    for space in spaces.all_of(place.connection):
        directory = _snapshots_of(place) / f"start-{space.id}"
        if not directory.exists():
            continue
        shows = snapshot_files.shows(directory)
        away = f"delete {directory}, nothing is lost: the next start builds it anew"
        arrays = snapshot_files.read(directory)
        if arrays is None and _lacks_files(directory):
            yield Note(f'that of space "{space.name}" was being replaced; the next start builds it anew')
        elif arrays is None:
            yield Problem(f'that of space "{space.name}" is torn', away)
        elif shows != moment.seq:
            yield Note(
                f'that of space "{space.name}" shows change {shows} of {moment.seq}; the next start builds it anew'
            )
        elif not snapshot.is_of(arrays, moment):
            yield Note(f'that of space "{space.name}" is of another database; the next start builds it anew')
        elif wrong := _differs(
            snapshot.restore(arrays).view, loading.load(place.connection, space).view, place, space.id
        ):
            yield Problem(
                f'that of space "{space.name}" shows change {shows} and has other {wrong} than the rows', away
            )


def dream_snapshots(place: Place) -> Said:
    query = "SELECT c.uid, d.state FROM dreams d JOIN changes c ON c.id = d.change WHERE d.state IN (?, ?)"
    states = Dream.STATE_SUSPENDED, Dream.STATE_RUNNING
    wanted = {entropy.uuid_text(uid): state for uid, state in place.connection.execute(query, states)}
    for directory in sorted(_snapshots_of(place).glob("dream-*")):
        dream = directory.name.removeprefix("dream-").removesuffix(".new")
        if dream not in wanted:
            yield Note(f"no dream needs {directory}; the next start removes it")
    for dream, state in wanted.items():
        directory = _snapshots_of(place) / f"dream-{dream}"
        if state != Dream.STATE_SUSPENDED:
            continue
        if not directory.exists():
            yield Note(f"dream {dream} was interrupted and its snapshot is gone; the next trigger begins anew")
        elif snapshot_files.read(directory) is None:
            yield Problem(
                f"the snapshot of dream {dream} is torn",
                "trigger: the dream is discarded and another begins; or dreamsvc abort --discard",
            )


def left_behind(place: Place) -> Said:
    name = place.path.name
    said = {
        "*.part": "broke off; it can be deleted",
        "*.bak": "is the store as an older dreamsvc left it; it can be deleted once all is well",
        "*.restoring": "a restore broke off; the next start ends it",
        "*.before-restore-*": "was replaced by a backup; it can be deleted once all is well",
    }
    for pattern, what in said.items():
        for found in sorted(place.path.parent.glob(f"{name}{pattern}")):
            yield Note(f"{found} {what}")
    for found in sorted(_snapshots_of(place).glob("*.new")):
        if place.holder is None:
            yield Note(f"{found} broke off; the next snapshot takes its place")


def _snapshots_of(place: Place) -> Path:
    return replacing.snapshots_of(place.path)


def _lacks_files(directory: Path) -> bool:
    """Whether files that its manifest names are gone, as where it was being deleted; not that one is damaged."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        manifest = json.loads((directory / snapshot_files.MANIFEST).read_text())
        return any(not (directory / f"{name}.npy").exists() for name in manifest["crc"])
    return not (directory / snapshot_files.MANIFEST).exists()


# ── two graphs ──────────────────────────────────────────────────────────────────


def _differs(live: GraphView, fresh: GraphView, place: Place, space: int) -> str:
    """In what a snapshot's graph differs from the rows' for queries, '' for nothing; it may hold rows that are gone."""
    return next(_differences(live, fresh, place, space), "")


def _differences(live: GraphView, fresh: GraphView, place: Place, space: int) -> Iterator[str]:
    there = live.rows_of(fresh.node_ids[: fresh.n].tolist())
    if not _same(live.node_ids[: live.n], there, fresh.node_ids[: fresh.n]):
        yield "memories"
        return
    edges = live.edge_rows_of(fresh.edge_ids[: fresh.m].tolist())
    if not _same(live.edge_ids[: live.m], edges, fresh.edge_ids[: fresh.m]):
        yield "edges"
        return
    if np.count_nonzero(live.alive[: live.n]) != np.count_nonzero(fresh.alive[: fresh.n]):
        yield "living memories"
    if np.count_nonzero(live.edges_alive[: live.m]) != np.count_nonzero(fresh.edges_alive[: fresh.m]):
        yield "living edges"
    for column in _NODES:
        if not np.array_equal(getattr(live, column)[there], getattr(fresh, column)[: fresh.n]):
            yield column
    for column in _EDGES:
        if not np.array_equal(getattr(live, column)[edges], getattr(fresh, column)[: fresh.m]):
            yield column
    shown = np.flatnonzero(fresh.edges_alive[: fresh.m])
    for column in _WEIGHTS:
        if not np.array_equal(getattr(live, column)[edges[shown]], getattr(fresh, column)[shown]):
            yield column
    alive = np.flatnonzero(fresh.alive[: fresh.n])
    if not np.array_equal(_merged_into(live, there[alive]), _merged_into(fresh, alive)):
        yield "containers"
    if _superseded(live) != _superseded(fresh):
        yield "superseded memories"
    if not _same_vectors(live, fresh, there[alive], alive):
        yield "vectors"
    query = "SELECT title || ' ' || text FROM nodes WHERE space = ? AND deleted_us IS NULL ORDER BY id LIMIT ?"
    for (text,) in place.connection.execute(query, (space, MOST_TEXTS)):
        ours, theirs = live.lexical.scores(text, live.n)[there], fresh.lexical.scores(text, fresh.n)
        if not np.allclose(ours, theirs, rtol=1e-4, atol=1e-6):
            yield "words"
            return


def _same(held: NDArray[np.int64], rows: NDArray[np.int64], wanted: NDArray[np.int64]) -> bool:
    return bool((rows < len(held)).all()) and np.array_equal(held[rows], wanted)


def _merged_into(view: GraphView, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    into = view.merged_into[rows]
    return np.where(into == NEVER, NEVER, view.node_ids[np.maximum(into, 0)])


def _superseded(view: GraphView) -> dict[int, int]:
    return {int(view.node_ids[older]): int(view.node_ids[newer]) for older, newer in view.superseded_by.items()}


def _same_vectors(live: GraphView, fresh: GraphView, ours: NDArray[np.int64], theirs: NDArray[np.int64]) -> bool:
    known = [view.dense.slots[rows] >= 0 for view, rows in ((live, ours), (fresh, theirs))]
    if not np.array_equal(known[0], known[1]):
        return False
    if not fresh.dense.dimension:
        return True
    found = [two_stage.vectors_of(view.dense, rows) for view, rows in ((live, ours), (fresh, theirs))]
    return np.allclose(found[0], found[1], atol=1e-6)
