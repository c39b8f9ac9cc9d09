"""The live graph that a space starts with: from the snapshot that the last end left, or from its rows."""

import logging
from enum import Enum, auto
from pathlib import Path

from dreamsvc import snapshot_files
from dreamsvc.memory import loading, snapshot
from dreamsvc.memory.graph import SpaceGraph
from dreamsvc.memory.snapshot import Moment
from dreamsvc.memory.spaces import Space
from dreamsvc.memory.sqlite import Connection

logger = logging.getLogger(__name__)


class Loaded(Enum):
    """What the snapshot of a space was worth at the start; but for the first the rows were read."""

    SNAPSHOT = auto()
    NONE = auto()
    OLDER = auto()
    TORN = auto()


def load(connection: Connection, snapshots: Path, space: Space, moment: Moment) -> tuple[SpaceGraph, Loaded]:
    """The live graph of a space as the database is at this moment, and how it was come by."""
    directory = _directory(snapshots, space)
    graph = _from_snapshot(directory, space, moment)
    if graph is not None:
        return graph, Loaded.SNAPSHOT
    loaded = _why_not(directory, moment.seq)
    # It would fit again by number alone where an older copy of the database was put in place.
    snapshot_files.remove(directory)
    return loading.load(connection, space), loaded


def save(snapshots: Path, space: Space, moment: Moment, graph: SpaceGraph) -> None:
    """Leaves a snapshot for the next start; without one, which is logged, the rows are read then."""
    arrays = snapshot.start_arrays(graph) | snapshot.marked(moment)
    try:
        snapshot_files.write(_directory(snapshots, space), moment.seq, arrays)
    except OSError as error:
        logger.warning('no snapshot of space "%s" for the next start: %s', space.name, error)


def _from_snapshot(directory: Path, space: Space, moment: Moment) -> SpaceGraph | None:
    """None where there is none of this moment, or none that can be read."""
    arrays = snapshot_files.read(directory, moment.seq)
    if arrays is None or not snapshot.is_of(arrays, moment):
        return None
    try:
        return snapshot.restore(arrays)
    except Exception:
        # Whole, and yet its arrays do not fit together; nothing is lost with it.
        logger.exception('the snapshot of space "%s" makes no graph; it is read from its rows', space.name)
        return None


def _why_not(directory: Path, seq: int) -> Loaded:
    if not directory.exists():
        return Loaded.NONE
    shows = snapshot_files.shows(directory)
    return Loaded.OLDER if shows is not None and shows != seq else Loaded.TORN


def _directory(snapshots: Path, space: Space) -> Path:
    return snapshots / f"start-{space.id}"
