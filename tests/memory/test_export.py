"""Export and import: a round trip to equal bytes, all of it or nothing, twice as good as once."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc.clock import from_iso, iso
from dreamsvc.dreamer.v1.operations_pb2 import (
    Expansion,
    Expansions,
    FoundBlindSpot,
    FoundBlindSpots,
    Operations,
    Positions,
)
from dreamsvc.errors import (
    EmbedderMismatch,
    ImportMalformed,
    InvalidFields,
    NotFound,
    RequestIdConflict,
    StoreCorrupt,
    StoreUnavailable,
)
from dreamsvc.memory import imports
from dreamsvc.v1 import memory_pb2
from dreamsvc.v1.memory_pb2 import Edge, Memory
from dreamsvc.v1.memory_service_pb2 import ImportHeader, ImportRequest

MCP = memory_pb2.IMPORT_FORMAT_MCP_MEMORY
X, Y, Z = (f"0190a000-0000-7000-8000-00000000000{c}" for c in "abc")


def lines(*values: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def memory(key: str = "a", **fields: Any) -> dict[str, Any]:
    return {"type": "memory", "key": key, "text": f"text {key}", **fields}


def edge(source: str, target: str, **fields: Any) -> dict[str, Any]:
    return {"type": "edge", "source": source, "target": target, **fields}


def vector(*values: float) -> str:
    return base64.b64encode(np.array(values, "<f2").tobytes()).decode()


def counts(report: memory_pb2.ImportReport) -> tuple[int, int, int, int]:
    return report.memories_created, report.memories_unchanged, report.edges_created, report.edges_unchanged


@pytest.fixture
def full(room: Any) -> Any:
    """Everything that a store can hold."""
    odd = Memory(
        key="odd \0\u2028\U0001f9e0",
        kind="a\nb",
        title='"quoted" \\ ü',
        text="\n\r\t\x7f",
        aliases=["α", ""],
        importance=0.1 + 0.2,
        pinned=True,
        vector=[1 / 3, -65504],
    )
    odd.metadata.update({"n": 1e300, "deep": {"list": [1, None, True, {"": "ü"}]}})
    odd.event_time.FromMicroseconds(-1)
    ids = room.remember(
        odd,
        Memory(id=X, text="plain"),
        Memory(key="only vector", vector=[0, 1]),
        edges=[Edge(source=odd.key, target=X, type="ö", weight=0.1, confidence=1 / 3), Edge(source=X, target=odd.key)],
    ).ids
    room.clock.us += 1
    room.store.touch("default", {1: 3}).result(10)
    room.remember(Memory(key="gone", text="forgotten"), edges=[Edge(source="gone", target=X)])
    room.forget("gone")
    assert len(ids) == 3
    return room


def test_an_export_read_by_another_store_exports_to_the_same_bytes(full: Any, rooms: Any) -> None:
    data = full.export()
    with rooms() as other:
        report = other.import_(data, chunk=7)
        assert counts(report) == (3, 0, 2, 0)
        assert other.export() == data
        assert other.digest() == full.digest()
        other.reopen(snapshot=False)
        assert other.export() == data


def test_an_export_read_into_another_space_exports_to_the_same_bytes(full: Any) -> None:
    data = full.export()
    full.import_(data, space="copy")
    assert full.export("copy") == data == full.export()
    assert full.digest("copy") == full.digest()


def test_what_dreams_derived_is_no_part_of_it_and_an_import_leaves_it_absent(full: Any) -> None:
    data, digest = full.export(), full.digest()
    found = Expansion(node=1, words=["plain"], gains=[0.5], peers=[2], shares=[0.5], length=1)
    spot = FoundBlindSpot(number=1, source=1, target=3)
    full.store.note_together("default", {(1, 2): 1}).result(10)
    full.dream(
        Operations(part=0, expansions=Expansions(expansions=[found])),
        Operations(part=1, positions=Positions(node_ids=[1], dimension=2, points=[0, 0.5])),
        Operations(part=2, blind_spots=FoundBlindSpots(blind_spots=[spot])),
    )
    tables = {"expansions": 1, "positions": 1, "blind_spots": 1, "coactivations": 1}
    assert (full.export(), full.digest()) == (data, digest)
    full.import_(data, space="copy")
    assert {table: full.rows(f"SELECT count(*) FROM {table}")[0][0] for table in tables} == tables
    assert [hit.node for hit in full.find("plain")] == [2, 1]
    assert len(full.find("plain", space="copy")) == 2  # the other by the walk
    assert all(hit.lexical == 0 for hit in full.find("plain", space="copy")[1:])


def test_importing_twice_changes_nothing(full: Any) -> None:
    data = full.export()
    full.clock.us += 1000
    before = full.rows("SELECT * FROM nodes"), full.rows("SELECT * FROM edges"), full.rows("SELECT * FROM vectors")
    report = full.import_(data)
    assert counts(report) == (0, 3, 0, 2)
    assert full.export() == data
    after = full.rows("SELECT * FROM nodes"), full.rows("SELECT * FROM edges"), full.rows("SELECT * FROM vectors")
    assert after == before


def test_the_digest_is_of_the_bytes_and_counts_are_of_what_lives(full: Any) -> None:
    *_, summary = full.store.export("default")
    assert summary.digest == hashlib.sha256(full.export()).hexdigest()
    assert (summary.memories, summary.edges) == (3, 2)


def test_the_digest_does_not_depend_on_the_order_of_writes(rooms: Any) -> None:
    values = [memory("a", id=X), memory("b", id=Y), memory("c", id=Z), edge("a", "b"), edge("b", "c"), edge("c", "a")]
    for value in values:
        value["create_time"] = "2024-01-01T00:00:00Z"
        if value["type"] == "memory":
            value["update_time"] = value["create_time"]
    digests: list[str] = []
    for order in (values, values[::-1]):
        with rooms() as room:
            room.import_(lines(*order))
            digests.append(room.digest())
    assert digests[0] == digests[1]


plain = st.text(st.characters(codec="utf-8"), max_size=20)
micros = st.integers(-62135596800_000_000, 253402300799_999_999)


@st.composite
def memories(draw: st.DrawFn) -> Memory:
    made = Memory(
        key=draw(plain.filter(bool)),
        kind=draw(plain),
        title=draw(plain),
        text=draw(plain),
        aliases=draw(st.lists(plain, max_size=3)),
        importance=draw(st.floats(0, 1)),
        pinned=draw(st.booleans()),
        vector=draw(st.sampled_from([[], [1.0, 0.5], [-1e-4, 65504.0]])),
    )
    if not (made.text or made.title or made.vector):
        made.text = "x"
    if draw(st.booleans()):
        made.event_time.FromMicroseconds(draw(micros))
    if draw(st.booleans()):
        made.metadata.update(draw(st.dictionaries(plain, st.floats(allow_nan=False, allow_infinity=False) | plain)))
    return made


@settings(max_examples=20, deadline=None)
@given(
    batch=st.lists(memories(), min_size=2, max_size=6, unique_by=lambda m: m.key),
    ends=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.floats(0, 1), st.floats(0, 1)), max_size=6),
    chunk=st.integers(50, 1000),
)
def test_any_memories_survive_the_round_trip(
    shared_room: Any, new_space: Any, batch: list[Memory], ends: list[tuple[int, int, float, float]], chunk: int
) -> None:
    room, here, there = shared_room, new_space(), new_space()
    named = {(s % len(batch), t % len(batch)): (w, c) for s, t, w, c in ends if s % len(batch) != t % len(batch)}
    edges = [Edge(source=batch[s].key, target=batch[t].key, weight=w, confidence=c) for (s, t), (w, c) in named.items()]
    room.remember(*batch, edges=edges, space=here)
    data = room.export(here)
    rehearsed = room.import_(data, space=there, dry_run=True)
    report = room.import_(data, space=there, chunk=chunk)
    assert counts(report) == counts(rehearsed) == (len(batch), 0, len(edges), 0)
    assert room.export(there) == data
    same_views(room.store.graph(there), room.fresh(there))


def same_views(live: Any, fresh: Any) -> None:
    for name in ("node_ids", "alive", "importance", "created_us", "event_us", "accessed_us", "roles"):
        np.testing.assert_array_equal(
            getattr(live.view, name)[: live.view.n], getattr(fresh.view, name)[: fresh.view.n]
        )


@settings(max_examples=300, deadline=None)
@given(micros)
def test_a_time_is_written_to_the_microsecond_and_read_back(us: int) -> None:
    assert from_iso(iso(us)) == us
    assert len(iso(us)) == len("2024-01-01T00:00:00.000000Z")


def test_a_damaged_vector_stops_an_export(full: Any) -> None:
    full.execute("UPDATE vectors SET crc = crc + 1")
    with pytest.raises(StoreCorrupt, match="checksum"):
        full.export()


def test_an_export_shows_one_moment(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamsvc.memory.export.CHUNK_BYTES", 1)
    room.remember(*(Memory(key=f"k{i}", text="t") for i in range(5)))
    before = room.export()
    parts = room.store.export("default")
    seen = [next(parts)]
    room.remember(Memory(key="later", text="t"), edges=[Edge(source="later", target="k1")])
    room.forget("k2")
    assert b"".join(seen + [part for part in parts if isinstance(part, bytes)]) == before


def test_an_export_that_is_given_up_leaves_nothing_open(room: Any) -> None:
    room.remember(Memory(text="t"))
    parts = room.store.export("default")
    next(parts)
    parts.close()
    room.remember(Memory(text="t"))


def test_an_unknown_space_cannot_be_exported(room: Any) -> None:
    with pytest.raises(NotFound):
        list(room.store.export("nowhere"))


# ── the whole way of an import ──────────────────────────────────────────────────

FILE = lines(memory("a"), memory("b", vector=vector(1, 0)), edge("a", "b", weight=0.25), edge("b", "a"))


def test_what_is_imported_is_found_at_once(room: Any) -> None:
    room.import_(FILE)
    assert [found.node for found in room.find("a", limit=1)] == [room.row_of("a")]
    assert room.find(vector=[1, 0])[0].node == room.row_of("b")
    assert room.unasked.notices == ["default", "wake"]
    assert {edge.origin for edge in room.get("a").edges} == {memory_pb2.EDGE_ORIGIN_IMPORTED_DATA}
    assert [row[0] for row in room.rows("SELECT state FROM changes")] == ["folded"]


def test_a_malformed_line_refuses_the_file_and_nothing_is_left(room: Any) -> None:
    before = room.digest(), room.rows("SELECT count(*) FROM nodes")
    with pytest.raises(ImportMalformed, match="1 of 5 lines") as caught:
        room.import_(FILE + b"{\n", space="new")
    assert caught.value.metadata == {"malformed": "1", "first_line": "5"}
    assert (room.digest(), room.rows("SELECT count(*) FROM nodes")) == before
    assert room.rows("SELECT count(*) FROM change_parts") == [(0,)]
    assert room.store.stats("default").spaces == ["default"]
    with pytest.raises(NotFound):
        room.store.space("new")
    room.reopen()
    assert room.store.space_names() == ["default"]


def test_malformed_lines_may_be_skipped(room: Any) -> None:
    report = room.import_(FILE + b"{\n" + lines(memory("c")), skip_malformed=True)
    assert counts(report) == (3, 0, 2, 0)
    assert [line.line for line in report.malformed_lines] == [5]


def test_a_dry_run_counts_like_the_real_one_and_writes_nothing(room: Any) -> None:
    room.remember(
        Memory(key="old", text="t"),
        Memory(id=X, key="named", text="t"),
        Memory(key="gone", text="t"),
        edges=[Edge(source="old", target="named", type="r")],
    )
    room.forget("gone")
    data = lines(
        memory("old"),
        # By another id, and by its id alone, what the store has.
        memory("named", id=Y),
        memory("gone"),
        {**memory(), "key": None, "id": Z},
        memory("new"),
        edge("old", "named", edge_type="r"),
        edge("old", X, edge_type="r"),
        edge("named", "old", edge_type="r"),
        edge("new", "old"),
        edge("new", "old", weight=1),
        edge("new", Z),
    )
    before = room.digest(), room.rows("SELECT * FROM meta")
    with pytest.MonkeyPatch.context() as small:
        small.setattr(imports, "PART_ROWS", 2)
        foreseen = room.import_(data, dry_run=True, chunk=11)
        assert (room.digest(), room.rows("SELECT * FROM meta")) == before
        report = room.import_(data, chunk=11)
    assert counts(report) == counts(foreseen) == (2, 3, 3, 3)
    assert foreseen.dry_run
    assert not report.dry_run
    again = room.import_(data, dry_run=True)
    assert counts(again) == counts(room.import_(data)) == (0, 5, 0, 6)


def test_a_dry_run_names_malformed_lines_and_makes_no_space(room: Any) -> None:
    report = room.import_(FILE + b"{\n", dry_run=True, space="new")
    assert [line.line for line in report.malformed_lines] == [5]
    assert counts(report) == (2, 0, 2, 0)
    with pytest.raises(NotFound):
        room.store.space("new")


keys = st.sampled_from("abcd")
file_lines = st.lists(
    st.one_of(
        st.builds(memory, keys),
        st.builds(lambda key, uid: memory(key, id=uid), keys, st.sampled_from([X, Y])),
        st.builds(lambda uid: {**memory(), "key": None, "id": uid}, st.sampled_from([X, Y, X.upper()])),
        st.builds(edge, keys | st.sampled_from([X, Y]), keys | st.sampled_from([X, Y.upper()])),
    ),
    max_size=10,
)
stored_memories = st.lists(st.tuples(keys, st.sampled_from(["", X, Y])), max_size=3, unique_by=lambda pair: pair[0])


@settings(max_examples=40, deadline=None)
@given(stored=stored_memories, file=file_lines, gone=st.booleans(), rows=st.integers(1, 3))
def test_any_file_over_any_store_is_foreseen_and_folds(
    shared_room: Any,
    new_space: Any,
    stored: list[tuple[str, str]],
    file: list[dict[str, Any]],
    gone: bool,
    rows: int,
) -> None:
    """Whatever ids and keys meet: a sealed import must fold, or the store would never come to its end."""
    room, space = shared_room, new_space()
    for key, uid in stored:
        room.remember(Memory(key=key, text="t"), space=space)
        if uid:
            try:
                room.remember(Memory(id=uid, key=f"{key}'", text="t"), space=space)
            except InvalidFields:
                continue
    if gone and stored:
        room.forget(stored[0][0], space=space)
    with pytest.MonkeyPatch.context() as small:
        small.setattr(imports, "PART_ROWS", rows)
        foreseen = room.import_(lines(*file), space=space, dry_run=True, skip_malformed=True)
        report = room.import_(lines(*file), space=space, skip_malformed=True)
        again = room.import_(lines(*file), space=space, skip_malformed=True)
    assert counts(report) == counts(foreseen)
    assert (again.memories_created, again.edges_created) == (0, 0)
    assert report.malformed == foreseen.malformed
    same_views(room.store.graph(space), room.fresh(space))


def test_an_mcp_file_is_imported_and_again_changes_nothing(room: Any) -> None:
    data = lines(
        {"type": "entity", "name": "Ada", "entityType": "person", "observations": ["wrote the notes", "liked tea"]},
        {"type": "entity", "name": "Bab", "entityType": "person", "observations": []},
        {"type": "relation", "from": "Ada", "to": "Bab", "relationType": "knows"},
        {"type": "relation", "from": "Ada", "to": "Bab", "relationType": "knows"},
        {"type": "relation", "from": "Bab", "to": "Bab", "relationType": "knows"},
    )
    foreseen = room.import_(data, file_format=MCP, dry_run=True)
    report = room.import_(data, file_format=MCP)
    assert counts(report) == counts(foreseen) == (4, 0, 3, 2)
    assert {room.get("mcp:Ada").memory.title} == {"Ada"}
    assert room.rows("SELECT kind, title, text FROM nodes ORDER BY id") == [
        ("person", "Ada", ""),
        ("observation", "Ada", "wrote the notes"),
        ("observation", "Ada", "liked tea"),
        ("person", "Bab", ""),
    ]
    digest = room.digest()
    assert counts(room.import_(data, file_format=MCP)) == (0, 4, 0, 5)
    assert room.digest() == digest


def test_two_lines_that_prove_to_be_one_memory_count_as_one(room: Any) -> None:
    room.remember(Memory(id=X, key="k", text="stored"))
    report = room.import_(lines({**memory(), "key": None, "id": X}, memory("k", id=Y), memory("n"), edge("n", "k")))
    assert counts(report) == (1, 2, 1, 0)
    assert room.get("k").memory.text == "stored"


def test_edges_end_at_the_memory_that_has_the_key_though_the_file_gives_it_another_id(room: Any) -> None:
    room.remember(Memory(key="a", text="1"), Memory(key="b", text="2"), edges=[Edge(source="a", target="b")])
    room.remember(Memory(key="b", text="of this space"), space="other")
    data = room.export()
    assert counts(room.import_(data, space="other", dry_run=True)) == (1, 1, 1, 0)
    assert counts(room.import_(data, space="other")) == (1, 1, 1, 0)
    (edge,) = room.get("a", space="other").edges
    assert edge.target == room.get("b", space="other").memory.id != room.get("b").memory.id
    assert counts(room.import_(data, space="other")) == (0, 2, 0, 1)


def test_of_equal_edges_the_first_counts_wherever_the_parts_are_cut(rooms: Any) -> None:
    data = lines(memory("a"), memory("b"), edge("a", "b", weight=0.1), edge("a", "b", weight=0.9))
    for size in (1, 2, 2000):
        with rooms() as room, pytest.MonkeyPatch.context() as small:
            small.setattr(imports, "PART_ROWS", size)
            assert counts(room.import_(data)) == (2, 0, 1, 1)
            assert [edge.weight for edge in room.get("a").edges] == [0.1]


def test_vectors_of_another_kind_refuse_the_file(room: Any) -> None:
    room.remember(Memory(text="t", vector=[1, 0, 0]))
    for dry_run in (True, False):
        with pytest.raises(EmbedderMismatch):
            room.import_(FILE, dry_run=dry_run)
    with pytest.raises(EmbedderMismatch, match="toy"):
        room.import_(lines({"type": "space", "embedder": "toy"}, memory("v", vector=vector(1, 0, 0))))
    assert room.store.stats("default").memories == 1
    assert room.rows("SELECT count(*) FROM change_parts") == [(0,)]


def run_slowly(room: Any, data: bytes, between: Any, **header: Any) -> Any:
    """An import during whose stream something happens."""

    async def requests() -> AsyncIterator[ImportRequest]:
        yield ImportRequest(header=ImportHeader(space="default", format=1, **header))
        yield ImportRequest(chunk=data)
        await asyncio.to_thread(between)

    return asyncio.run(room.importing().run(requests())).report


def test_vectors_that_came_while_the_file_was_read_refuse_it(room: Any) -> None:
    """A sealed import whose vectors do not fit could never be folded."""
    with pytest.raises(EmbedderMismatch):
        run_slowly(room, FILE, lambda: room.remember(Memory(key="u", text="t", vector=[1, 0, 0])))
    assert [row[0] for row in room.rows("SELECT state FROM changes")] == ["dropped"]
    assert room.store.stats("default").memories == 1


def test_the_vectors_of_a_sealed_import_keep_others_out(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    change = staged(room, FILE)
    room.journal.seal_import(change, "default", "client", 2).result(10)
    with pytest.raises(InvalidFields, match="2"):
        room.remember(Memory(text="t", vector=[1, 0, 0]))
    room.fold(change)
    assert list(room.get("b").memory.vector) == [1, 0]


def test_what_users_do_while_the_file_is_read_is_kept(room: Any) -> None:
    def between() -> None:
        room.remember(Memory(key="a", text="of the user"))
        room.remember(Memory(key="b", text="of the user"))
        room.forget("b")

    report = run_slowly(room, FILE, between)
    assert counts(report) == (0, 2, 0, 2)
    assert room.get("a").memory.text == "of the user"
    assert room.get("b").memory.HasField("delete_time")
    same_views(room.store.graph("default"), room.fresh())


def test_a_repeated_request_id_gets_the_first_report(room: Any) -> None:
    first = room.import_(FILE, request_id="r")
    assert room.import_(FILE, request_id="r") == first
    assert first.memories_created == 2
    with pytest.raises(RequestIdConflict):
        room.import_(FILE, request_id="r", skip_malformed=True)
    assert room.rows("SELECT count(*) FROM changes") == [(1,)]


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [ImportRequest(chunk=b"x")],
        [ImportRequest()],
        [ImportRequest(header=ImportHeader(space="default"))],
        [ImportRequest(header=ImportHeader(space="no spaces", format=1))],
        [ImportRequest(header=ImportHeader(format=9))],
        [ImportRequest(header=ImportHeader(format=1)), ImportRequest(header=ImportHeader(format=1))],
    ],
)
def test_a_stream_of_the_wrong_shape_is_refused(room: Any, messages: list[ImportRequest]) -> None:
    async def requests() -> AsyncIterator[ImportRequest]:
        for message in messages:
            yield message

    with pytest.raises(InvalidFields):
        asyncio.run(room.importing().run(requests()))
    assert room.rows("SELECT count(*) FROM change_parts") == [(0,)]


def test_an_empty_file_is_an_import_of_nothing(room: Any) -> None:
    report = room.import_(b"", space="new")
    assert (counts(report), report.lines) == ((0, 0, 0, 0), 0)
    assert room.store.graph("new").view.n == 0
    room.reopen()
    assert room.store.stats("default").spaces == ["default", "new"]


def test_a_caller_that_goes_away_leaves_nothing(room: Any) -> None:
    async def run() -> None:
        read = asyncio.Event()

        async def requests() -> AsyncIterator[ImportRequest]:
            yield ImportRequest(header=ImportHeader(space="new", format=1))
            yield ImportRequest(chunk=FILE)
            read.set()
            await asyncio.sleep(3600)

        task = asyncio.ensure_future(room.importing().run(requests()))
        await read.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert room.rows("SELECT count(*) FROM change_parts") == [(0,)]
    with pytest.raises(NotFound):
        room.store.space("new")


def test_a_caller_that_goes_away_while_it_is_sealed_still_gets_all_of_it(room: Any) -> None:
    async def run() -> None:
        importing = room.importing()
        task: asyncio.Future[Any] | None = None
        real = room.journal.seal_import

        def seal(*args: Any) -> Any:
            sealed = real(*args)
            sealed.result(10)
            assert task is not None
            task.cancel()
            return sealed

        room.journal.seal_import = seal

        async def requests() -> AsyncIterator[ImportRequest]:
            yield ImportRequest(header=ImportHeader(space="new", format=1))
            yield ImportRequest(chunk=FILE)

        task = asyncio.ensure_future(importing.run(requests()))
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert [row[0] for row in room.rows("SELECT state FROM changes")] == ["folded"]
    assert room.store.stats("new").memories == 2


def test_a_full_disk_while_the_file_is_read_leaves_nothing(room: Any) -> None:
    pages = room.rows("PRAGMA page_count")[0][0]
    room.execute(f"PRAGMA max_page_count={pages + 40}")
    data = lines(*(memory(f"k{i}", text="word " * 400) for i in range(600)))
    with pytest.raises(StoreUnavailable, match="full"):
        room.import_(data)
    assert room.store.stats("default").memories == 0
    room.execute("PRAGMA max_page_count=1000000")
    room.reopen()
    room.journal.drop_unsealed_imports().result(10)
    assert room.import_(data).memories_created == 600


# ── crashes ─────────────────────────────────────────────────────────────────────


def staged(room: Any, data: bytes, space: str = "default") -> Any:
    """An import up to the moment before its seal."""
    reader = imports.LineReader(space, 1)
    change, where = room.journal.begin_import(space).result(10)
    parts = [*reader.feed(data), *reader.finish(lambda names: room.store.stored_names(where, names))]
    room.journal.stage_bytes(change, 0, [part.SerializeToString() for part in parts]).result(10)
    return change


def test_an_import_that_was_not_sealed_leaves_nothing_after_a_crash(room: Any) -> None:
    digest = room.digest()
    staged(room, FILE, "new")
    staged(room, FILE, "new")
    staged(room, FILE)
    room.reopen()
    assert room.store.space_names() == ["default"]
    assert room.journal.drop_unsealed_imports().result(10) == 3
    assert room.digest() == digest
    assert room.rows("SELECT count(*) FROM change_parts") == [(0,)]
    with pytest.raises(NotFound):
        room.store.space("new")
    assert room.journal.drop_unsealed_imports().result(10) == 0


@pytest.mark.parametrize("slices", range(6))
def test_a_sealed_import_goes_on_wherever_the_crash_was(
    rooms: Any, slices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "PART_ROWS", 2)
    data = lines(*(memory(f"k{i}", id=f"{X[:-1]}{i}") for i in range(6)), *(edge("k0", f"k{i}") for i in range(1, 5)))
    with rooms() as whole:
        whole.import_(data)
        expected = whole.digest()
    with rooms() as room:
        change = staged(room, data)
        room.journal.seal_import(change, "default", "client", 0).result(10)
        assert room.fold(change, slices=slices) == min(slices, 5)
        room.reopen()
        assert [sealed.id for sealed in room.journal.unfinished()[1]] == [change]
        assert room.fold(change) == 5 - min(slices, 5)
        assert room.digest() == expected
        same_views(room.store.graph("default"), room.fresh())
        assert room.journal.unfinished()[1] == []


def test_a_sealed_import_into_a_new_space_goes_on_after_a_crash(room: Any) -> None:
    change = staged(room, FILE, "new")
    room.journal.seal_import(change, "new", "client", 2).result(10)
    room.reopen()
    room.fold(change, "new")
    assert room.store.stats("new").memories == 2


def test_a_change_that_is_not_sealed_does_not_fold(room: Any) -> None:
    change = staged(room, FILE)
    assert room.fold(change) == 0
    assert room.store.stats("default").memories == 0
    room.journal.seal_import(change, "default", "client", 2).result(10)
    assert room.fold(change) == 2
    audit = room.rows("SELECT * FROM audit")
    assert room.fold(change) == 0
    assert room.rows("SELECT * FROM audit") == audit


def test_a_sealed_import_is_not_dropped(room: Any) -> None:
    change = staged(room, FILE)
    room.journal.seal_import(change, "default", "client", 2).result(10)
    assert not room.journal.drop_import(change).result(10)
    assert room.fold(change) == 2
    assert room.store.stats("default").memories == 2


def test_a_damaged_part_is_told_and_not_folded(room: Any) -> None:
    change = staged(room, FILE)
    room.journal.seal_import(change, "default", "client", 2).result(10)
    room.execute("UPDATE change_parts SET crc = crc + 1 WHERE part = 1")
    with pytest.raises(StoreCorrupt, match="part 1"):
        room.fold(change)
    assert room.store.stats("default").memories == 2
    assert room.store.stats("default").edges == 0
