"""A store on disk with what stands around it, for all tests of this room."""

import asyncio
import contextlib
import itertools
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from benchmarks.proof import parts
from benchmarks.proof.jumping_clock import DAY, SECOND, JumpingClock
from benchmarks.proof.same import same_as_loaded
from dreamsvc import contract, entropy
from dreamsvc.config import defaults
from dreamsvc.dreamer.v1.operations_pb2 import Operations
from dreamsvc.memory import loading, recall
from dreamsvc.memory.doctor import examine
from dreamsvc.memory.graph import SpaceGraph
from dreamsvc.memory.journal import Journal
from dreamsvc.memory.purge import Purged
from dreamsvc.memory.sqlite import ChangeId
from dreamsvc.memory.store import Store
from dreamsvc.server.importing import Importing
from dreamsvc.v1.config_pb2 import DreamConfig, StoreConfig
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import RevertRequest, TriggerRequest
from dreamsvc.v1.memory_pb2 import IMPORT_FORMAT_DREAMSVC_JSONL, Edge, ImportReport, Memory
from dreamsvc.v1.memory_service_pb2 import (
    ExportSummary,
    ForgetRequest,
    ForgetResponse,
    GetMemoryRequest,
    GetMemoryResponse,
    ImportHeader,
    ImportRequest,
    RememberRequest,
    RememberResponse,
    RestoreRequest,
    RestoreResponse,
    UnmergeRequest,
    UnmergeResponse,
)


class Unasked:
    """Stands for the scheduler and the embedding worker, which an import only gives notice to."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def note_call(self, space: str) -> None:
        self.notices.append(space)

    def wake(self) -> None:
        self.notices.append("wake")


class Room:
    """An open store, its journal, and short ways to say things to them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = JumpingClock()
        self.unasked = Unasked()
        self.open()

    def open(self) -> None:
        config = StoreConfig()
        contract.fill(config)
        config.path = str(self.path)
        self.store = Store(config, self.clock)
        self.journal = Journal(self.store.database, self.store.clock, 24 * 3600 * SECOND)

    def close(self) -> None:
        self.store.close()

    def reopen(self, *, snapshot: bool = True) -> None:
        self.close()
        if not snapshot:
            shutil.rmtree(self.snapshots)
        self.open()

    @property
    def snapshots(self) -> Path:
        return self.path.with_name(self.path.name + ".snapshots")

    # ── as a user ───────────────────────────────────────────────────────────────

    def remember(
        self, *memories: Memory, edges: Sequence[Edge] = (), space: str = "default", request_id: str = ""
    ) -> RememberResponse:
        request = RememberRequest(space=space, memories=memories, edges=edges, request_id=request_id)
        contract.fill(request)
        contract.check(request)
        return self.store.remember(request).result(10)

    def forget(self, *names: str, space: str = "default", request_id: str = "") -> ForgetResponse:
        return self.store.forget(ForgetRequest(space=space, ids=names, request_id=request_id)).result(10)

    def restore(self, *names: str, space: str = "default", request_id: str = "") -> RestoreResponse:
        return self.store.restore(RestoreRequest(space=space, ids=names, request_id=request_id)).result(10)

    def unmerge(self, name: str, space: str = "default", request_id: str = "") -> UnmergeResponse:
        return self.store.unmerge(UnmergeRequest(space=space, id=name, request_id=request_id)).result(10)

    def get(self, name: str, *, space: str = "default") -> GetMemoryResponse:
        return self.store.get_memory(GetMemoryRequest(space=space, id=name, with_vector=True, with_edges=True))

    def find(
        self,
        text: str = "",
        *,
        vector: Sequence[float] | None = None,
        limit: int = 10,
        kinds: Sequence[str] = (),
        after_us: int | None = None,
        before_us: int | None = None,
        space: str = "default",
        graph: SpaceGraph | None = None,
    ) -> list[recall.Found]:
        wanted = None if vector is None else np.asarray(vector, np.float32)
        query = recall.Query(text, wanted, limit, kinds, after_us, before_us)
        return recall.find((graph or self.store.graph(space)).view, query, defaults().recall)

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.store.database.read(lambda c: c.execute(sql, values).fetchall())

    def execute(self, sql: str, *values: Any) -> None:
        self.store.database.write(lambda c: c.execute(sql, values).fetchall()).result(10)

    def row_of(self, key: str) -> int:
        return int(self.rows("SELECT id FROM nodes WHERE key = ?", key)[0][0])

    def row_of_id(self, uid: str) -> int:
        return int(self.rows("SELECT id FROM nodes WHERE uid = ?", entropy.uuid_bytes(uid))[0][0])

    def fresh(self, space: str = "default") -> SpaceGraph:
        """The graph as the next start would load it from the rows."""
        return self.store.database.read(lambda c: loading.load(c, self.store.space(space)))

    def memory(self, name: str, *, space: str = "default") -> Memory:
        return self.get(name, space=space).memory

    def edges(self, *, space: str = "default") -> dict[tuple[str, str, str], float]:
        """Weights of the living edges by source, target and type, memories by key, else by id."""
        query = (
            "SELECT ifnull(s.key, hex(s.uid)), ifnull(t.key, hex(t.uid)), k.name, e.weight FROM edges e"
            " JOIN nodes s ON s.id = e.source JOIN nodes t ON t.id = e.target JOIN edge_types k ON k.id = e.type"
            " JOIN spaces p ON p.id = e.space WHERE p.name = ? AND e.deleted_us IS NULL ORDER BY e.id"
        )
        return {(source, target, kind): weight for source, target, kind, weight in self.rows(query, space)}

    def vectors(self, nodes: Sequence[int], *, space: str = "default") -> dict[int, list[float]]:
        """By row id, as stored or as codes remember them."""
        found = self.store.memories_by_row(space, list(nodes), with_vectors=True)
        return {node: list(found[node].vector) for node in nodes}

    def in_order(self, *spaces: str, but: Sequence[str] = ()) -> None:
        """What queries read is what the next start would load, and the doctor finds nothing but what is allowed."""
        for space in spaces or self.store.space_names():
            same_as_loaded(self.store.graph(space).view, self.fresh(space).view)
        assert [found for found in examine(str(self.path)) if not found.ok and found.name not in but] == []

    # ── files ───────────────────────────────────────────────────────────────────

    def export(self, space: str = "default") -> bytes:
        return b"".join(part for part in self.store.export(space) if isinstance(part, bytes))

    def digest(self, space: str = "default") -> str:
        *_, last = self.store.export(space)
        assert isinstance(last, ExportSummary)
        return last.digest

    def import_(
        self,
        data: bytes,
        *,
        space: str = "default",
        file_format: int = IMPORT_FORMAT_DREAMSVC_JSONL,
        chunk: int = 1 << 16,
        **header: Any,
    ) -> ImportReport:
        first = ImportHeader(space=space, format=file_format, **header)  # pyright: ignore

        async def requests() -> AsyncIterator[ImportRequest]:
            yield ImportRequest(header=first)
            for start in range(0, len(data), chunk):
                yield ImportRequest(chunk=data[start : start + chunk])

        return asyncio.run(self.importing().run(requests())).report

    def importing(self) -> Importing:
        return Importing(self.store, self.journal, self.unasked, self.unasked)  # pyright: ignore

    # ── as a dream ──────────────────────────────────────────────────────────────

    def begin_dream(self, space: str = "default", dream: Dream | None = None) -> tuple[ChangeId, Dream]:
        dream = dream or Dream(id=entropy.uuid7(self.clock.us), space=space, state=Dream.STATE_RUNNING)
        _, begun = self.journal.begin_dream(TriggerRequest(space=space), dream, DreamConfig(), self.clock.us).result(10)
        assert begun is not None
        return begun.change, dream

    def dream(
        self, *parts: Operations, space: str = "default", fold: bool = True, meanwhile: Callable[[], None] | None = None
    ) -> ChangeId:
        """A dream from its begin to its seal, with something in between, and its fold."""
        change, dream = self.begin_dream(space)
        if meanwhile is not None:
            meanwhile()
        self.seal(change, dream, *parts)
        if fold:
            self.fold(change, space)
        return change

    def seal(self, change: ChangeId, dream: Dream, *parts: Operations) -> None:
        self.journal.stage_dream(change, parts, None, dream).result(10)
        self.journal.compact(change)
        dream.state = Dream.STATE_FOLDING
        self.journal.seal_dream(change, dream).result(10)

    def revert(self, change: ChangeId, space: str = "default", slices: int | None = None) -> int:
        """Takes a dream back by some slices, all for None; raises ChangedLater."""
        dream = self.rows("SELECT d.body FROM dreams d WHERE d.change = ?", change)[0][0]
        request = RevertRequest(space=space, dream_id=Dream.FromString(dream).id)
        self.journal.begin_revert(request).result(10)
        return self.go_on_reverting(change, space, slices)

    def go_on_reverting(self, change: ChangeId, space: str = "default", slices: int | None = None) -> int:
        for done in itertools.count():
            if done == slices or self.store.revert_next(change, space).result(10) is None:
                return done
        raise AssertionError

    def purge(self, days: float = 30, held: Sequence[str] = ()) -> Purged:
        """What a whole purge let go of."""
        total = Purged(0, 0, 0, 0)
        while (purged := self.store.purge_next(int(days * DAY), held).result(10)).total:
            total = Purged(*(one + other for one, other in zip(total, purged, strict=True)))
        return total

    def fold(self, change: ChangeId, space: str = "default", slices: int | None = None) -> int:
        """Folds some slices, all for None; how many there were."""
        for done in itertools.count():
            if done == slices or self.store.fold_next(change, space).result(10) is None:
                return done
        raise AssertionError


def _directory() -> Path:
    """In memory where the machine has such a place: these tests wait for many syncs."""
    shm = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="dreamsvc-test-", dir=shm if shm.is_dir() else None))


type Rooms = Callable[[], contextlib.AbstractContextManager[Room]]


@pytest.fixture(scope="session")
def rooms() -> Rooms:
    """Makes rooms; for tests that need several, or that hypothesis runs many times."""

    @contextlib.contextmanager
    def make() -> Iterator[Room]:
        directory = _directory()
        try:
            room = Room(directory / "memory.db")
            try:
                yield room
            finally:
                room.close()
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    return make


@pytest.fixture
def room(rooms: Rooms) -> Iterator[Room]:
    with rooms() as made:
        yield made


@pytest.fixture(scope="module")
def shared_room(rooms: Rooms) -> Iterator[Room]:
    """For hypothesis: each example takes a space of its own in it."""
    with rooms() as made:
        yield made


@pytest.fixture(scope="session")
def new_space() -> Callable[[], str]:
    numbers = itertools.count()
    return lambda: f"space-{next(numbers)}"


class HeldWriter:
    """Keeps the store's writer busy, so that what is queued meanwhile waits together."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._go = threading.Event()

    def __enter__(self) -> None:
        started = threading.Event()

        def job(_: Any) -> None:
            started.set()
            self._go.wait(10)

        self._held = self._room.store.database.write(job)
        assert started.wait(10)

    def __exit__(self, *_: object) -> None:
        self._go.set()
        self._held.result(10)


@pytest.fixture
def held() -> Callable[[Room], HeldWriter]:
    return HeldWriter


@pytest.fixture(scope="session")
def part() -> ModuleType:
    """Builds parts of a dream's journal."""
    return parts
