"""A store on disk with what stands around it, for all tests of this room."""

import asyncio
import contextlib
import itertools
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamsvc import contract, entropy
from dreamsvc.clock import Clock, Micros
from dreamsvc.config import defaults
from dreamsvc.dreamer.v1.operations_pb2 import EdgeWeights, Operations, ReplayMarks
from dreamsvc.memory import loading, recall
from dreamsvc.memory.graph import SpaceGraph
from dreamsvc.memory.journal import Journal
from dreamsvc.memory.sqlite import ChangeId
from dreamsvc.memory.store import Store
from dreamsvc.server.importing import Importing
from dreamsvc.v1.config_pb2 import DreamConfig, StoreConfig
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import TriggerRequest
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
)

SECOND = 1_000_000


class JumpingClock(Clock):
    """Stands still until it is told to move."""

    def __init__(self) -> None:
        self.us = 1_700_000_000_123_456

    def now_us(self) -> Micros:
        return Micros(self.us)

    def monotonic(self) -> float:
        return self.us / SECOND


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
        self.journal = Journal(self.store.database, self.clock, 24 * 3600 * SECOND)

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

    def fresh(self, space: str = "default") -> SpaceGraph:
        """The graph as the next start would load it from the rows."""
        return self.store.database.read(lambda c: loading.load(c, self.store.space(space)))

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

    def begin_dream(self, space: str = "default") -> tuple[ChangeId, Dream]:
        dream = Dream(id=entropy.uuid7(self.clock.us), space=space, state=Dream.STATE_RUNNING)
        _, begun = self.journal.begin_dream(TriggerRequest(space=space), dream, DreamConfig(), self.clock.us).result(10)
        assert begun is not None
        return begun.change, dream

    def dream(
        self, *parts: Operations, space: str = "default", fold: bool = True, meanwhile: Callable[[], None] | None = None
    ) -> ChangeId:
        """A dream from its begin to its seal, with something in between, and its fold."""
        change, dream = self.begin_dream(space)
        self.journal.stage_dream(change, parts, None, dream).result(10)
        if meanwhile is not None:
            meanwhile()
        self.journal.compact(change)
        dream.state = Dream.STATE_FOLDING
        self.journal.seal_dream(change, dream).result(10)
        if fold:
            self.fold(change, space)
        return change

    def fold(self, change: ChangeId, space: str = "default", slices: int | None = None) -> int:
        """Folds some slices, all for None; how many there were."""
        for done in itertools.count():
            if done == slices or self.store.fold_next(change, space).result(10) is None:
                return done
        raise AssertionError


def weights(part: int, edges: dict[int, float], pruned: Sequence[int] = ()) -> Operations:
    return Operations(
        part=part,
        edge_weights=EdgeWeights(
            edge_ids=list(edges), weights=list(edges.values()), pruned=[edge in pruned for edge in edges]
        ),
    )


def marks(part: int, counts: dict[int, int]) -> Operations:
    return Operations(part=part, replay_marks=ReplayMarks(node_ids=list(counts), counts=list(counts.values())))


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
def part() -> "type[Parts]":
    return Parts


class Parts:
    """Parts of a dream's journal."""

    weights = staticmethod(weights)
    marks = staticmethod(marks)
