"""The disposable snapshot: it equals a full load, or it counts as absent."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc import snapshot_files, two_stage
from dreamsvc.dreamer.v1.operations_pb2 import Expansion, Expansions, Operations
from dreamsvc.errors import NotFound
from dreamsvc.facet_codes import decode_centroid, encode_centroid, encode_facets
from dreamsvc.memory import loading, snapshot
from dreamsvc.memory.delta import Delta
from dreamsvc.memory.doctor import examine
from dreamsvc.memory.graph import NEVER, NewEdge, NewNode, PackedContainer, SpaceGraph
from dreamsvc.memory.starting import Loaded
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_CONTAINER, MEMORY_ROLE_FACET, Edge, Memory
from dreamsvc.v1.memory_service_pb2 import RememberRequest

COLUMNS = (*snapshot._START_NODES, *snapshot._START_EDGES)


@pytest.fixture
def varied(room: Any) -> Any:
    """Kinds of every sort, vectors for some, a forgotten memory, a changed one, two spaces."""
    event = Memory(key="b", kind="a\nb", title="Second", text="bee", aliases=["zwei"], vector=[0, 1])
    event.event_time.FromMicroseconds(5)
    room.remember(
        Memory(key="a", kind="", text="ant"),
        event,
        Memory(key="c", kind="\0", text="cat"),
        Memory(key="d", kind="a", text="dog", vector=[1, 1]),
        edges=[Edge(source="a", target="b", weight=0.9), Edge(source="b", target="c"), Edge(source="c", target="d")],
    )
    room.remember(Memory(key="a", text="elk", vector=[1, 0]))
    room.forget("c")
    room.store.touch("default", {2: 1}).result(10)
    found = [
        Expansion(node=1, words=["bee", "gnu"], gains=[0.5, 1], peers=[2, 4], shares=[0.25, 0.125], length=1.25),
        Expansion(node=4, words=["elk"], gains=[0.25]),
    ]
    room.dream(Operations(expansions=Expansions(expansions=found)))
    room.remember(Memory(key="x", kind="other", text="fox"), space="second")
    return room


def same(one: SpaceGraph, two: SpaceGraph) -> None:
    assert (one.view.n, one.view.m) == (two.view.n, two.view.m)
    for name in COLUMNS:
        size = one.view.m if name in snapshot._START_EDGES else one.view.n
        if name != "kinds":
            np.testing.assert_array_equal(getattr(one.view, name)[:size], getattr(two.view, name)[:size], name)
    assert kinds(one) == kinds(two)
    for mine, theirs in zip(one.view.peers, two.view.peers, strict=True):
        np.testing.assert_array_equal(mine[: one.view.n], theirs[: two.view.n])
    for word in ("ant", "bee", "elk", "gnu"):
        # Words of others too.
        np.testing.assert_allclose(*(graph.lexical.scores(word, graph.view.n) for graph in (one, two)), rtol=1e-6)
    assert one.view.superseded_by == two.view.superseded_by
    same_vectors(one, two)


def same_vectors(one: SpaceGraph, two: SpaceGraph) -> None:
    rows = np.arange(one.view.n)
    np.testing.assert_array_equal(one.view.dense.slots[rows] >= 0, two.view.dense.slots[rows] >= 0)
    if one.view.dense.dimension:
        np.testing.assert_array_equal(*(two_stage.vectors_of(graph.view.dense, rows) for graph in (one, two)))


def kinds(graph: SpaceGraph) -> list[str]:
    names = {number: name for name, number in graph.view.kind_names.items()}
    return [names[number] for number in graph.view.kinds[: graph.view.n].tolist()]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the spaces that were loaded from their rows."""
    loaded: list[str] = []
    real = loading.load

    def load(connection: Any, space: Any) -> SpaceGraph:
        loaded.append(space.name)
        return real(connection, space)

    monkeypatch.setattr(loading, "load", load)
    return loaded


def test_a_start_from_the_snapshot_equals_a_full_load(varied: Any, loads: list[str]) -> None:
    before = varied.store.graph("default"), varied.store.graph("second")
    hits = {query: varied.find(query) for query in ("elk", "zwei", "bee", "nothing")}
    assert [hit.node for hit in hits["elk"] if hit.lexical] == [1, 4]
    assert before[0].view.peers.rows[0].tolist() == [1, 3, NEVER, NEVER]
    varied.reopen()
    assert loads == []
    for old, space in zip(before, ("default", "second"), strict=True):
        same(varied.store.graph(space), old)
        same(varied.store.graph(space), varied.fresh(space))
    assert {query: varied.find(query) for query in hits} == hits
    assert [hit.node for hit in varied.find("bee", kinds=["a\nb"])] == [2]
    assert varied.find("bee", kinds=["b"]) == []


def test_a_store_that_came_from_a_snapshot_goes_on_as_any_other(varied: Any) -> None:
    for _ in range(2):
        varied.reopen()
        varied.restore("c")
        varied.remember(Memory(key="new", text="gnu", vector=[2, 1]), edges=[Edge(source="new", target="a")])
        varied.remember(Memory(key="b", kind="k", text="changed"))
        varied.forget("d")
        same(varied.store.graph("default"), varied.fresh())
        varied.restore("d")
        varied.forget("c")


def test_without_a_snapshot_nothing_is_lost(varied: Any, loads: list[str]) -> None:
    digest = varied.digest()
    varied.reopen(snapshot=False)
    assert loads == ["default", "second"]
    assert varied.digest() == digest
    same(varied.store.graph("default"), varied.fresh())


def files(varied: Any) -> list[Path]:
    return sorted(path for path in varied.snapshots.rglob("*") if path.is_file() and path.stat().st_size)


@pytest.mark.parametrize("damage", ["torn", "flipped", "gone", "manifest torn", "manifest of another form"])
def test_a_damaged_snapshot_is_ignored(varied: Any, loads: list[str], damage: str) -> None:
    digest = varied.digest()
    varied.close()
    array = varied.snapshots / "start-1" / "weights.npy"
    manifest = varied.snapshots / "start-1" / "manifest.json"
    match damage:
        case "torn":
            array.write_bytes(array.read_bytes()[:-1])
        case "flipped":
            array.write_bytes(array.read_bytes()[:-1] + b"\x7f")
        case "gone":
            array.unlink()
        case "manifest torn":
            manifest.write_bytes(manifest.read_bytes()[:-1])
        case _:
            manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "crc": []}))
    varied.open()
    assert loads == ["default"]
    assert varied.digest() == digest
    same(varied.store.graph("default"), varied.fresh())


def test_a_snapshot_of_another_change_is_ignored_and_removed(varied: Any, loads: list[str], tmp_path: Path) -> None:
    varied.close()
    shutil.copytree(varied.snapshots, tmp_path / "old")
    varied.open()
    varied.remember(Memory(key="later", text="gnu"))
    varied.close()
    shutil.rmtree(varied.snapshots)
    shutil.copytree(tmp_path / "old", varied.snapshots)
    varied.open()
    assert loads == ["default", "second"]
    assert varied.find("gnu")
    assert list(varied.snapshots.iterdir()) == []


def test_a_snapshot_does_not_outlive_the_database_it_was_made_of(varied: Any) -> None:
    """Else it would fit once an older copy of the database, put back, is written to up to the same number."""
    varied.close()
    backup = varied.path.read_bytes()
    varied.open()
    varied.remember(Memory(key="later", text="lost with the backup"))
    varied.close()
    varied.path.write_bytes(backup)
    varied.open()
    assert not varied.find("lost")
    assert varied.find("bee")
    assert not list(varied.snapshots.glob("start-*"))


def test_a_snapshot_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    where = tmp_path / "snapshot"
    snapshot_files.write(where, 1, {"x": np.arange(3)})

    class Unwilling(dict[str, Any]):
        def items(self) -> Any:
            yield "x", np.arange(4)
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        snapshot_files.write(where, 2, Unwilling())
    found = snapshot_files.read(where, 1)
    assert found is not None
    assert found["x"].tolist() == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["snapshot"]


def test_a_snapshot_that_cannot_be_written_does_not_keep_the_store_from_closing(
    varied: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshot_files, "write", full)
    varied.reopen()
    assert "no snapshot" in caplog.text
    assert varied.find("bee")


def test_an_absent_snapshot_is_none(tmp_path: Path) -> None:
    assert snapshot_files.read(tmp_path / "nowhere") is None
    (tmp_path / "file").write_text("")
    assert snapshot_files.read(tmp_path / "file") is None


ARRAYS = {
    "ints": np.array([1, -1, 2**40], "<i8"),
    "wide": np.arange(6, dtype="<f4").reshape(2, 3),
    "flags": np.array([True, False]),
    "none": np.zeros((0, 4), np.float32),
}


@settings(max_examples=100, deadline=None)
@given(which=st.integers(0, 4), at=st.floats(0, 1), mask=st.integers(1, 255), cut=st.booleans())
def test_any_damage_is_seen_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, which: int, at: float, mask: int, cut: bool
) -> None:
    where = tmp_path_factory.getbasetemp() / "fuzz"
    snapshot_files.write(where, 7, ARRAYS)
    path = sorted(where.iterdir())[which]
    data = bytearray(path.read_bytes())
    place = min(int(at * len(data)), len(data) - 1)
    if cut:
        del data[place:]
    else:
        data[place] ^= mask
    path.write_bytes(data)
    found = snapshot_files.read(where, 7)
    if found is None:
        return
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_containers_and_what_superseded_what_are_as_they_were_after_a_start(tmp_path: Path) -> None:
    vectors = np.array([[1, 0.1, 0], [1, -0.1, 0], [0, 0, 1], [1, 1, 1]], np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    centroid = encode_centroid(vectors[:2].mean(axis=0))
    codes = encode_facets(vectors[:2], decode_centroid(centroid), bits=4)

    def node(number: int, role: int = 0, into: int = NEVER) -> NewNode:
        return NewNode(number, True, "note", "", f"word{number}", [], 0.5, 1, NEVER, NEVER, role, into)

    graph = SpaceGraph()
    facets = [node(i, MEMORY_ROLE_FACET, 9) for i in (1, 2)]
    graph.add_nodes([*facets, node(3), node(4), node(9, MEMORY_ROLE_CONTAINER)])
    graph.set_vectors([3, 4], vectors[2:])
    graph.add_containers({9: PackedContainer([1, 2], codes, 4, centroid)})
    graph.hide_nodes([4])
    graph.add_edges([NewEdge(1, 3, 1, 0.5, 1, False, 2, True), NewEdge(2, 2, 1, 0.5, 1, True, 2, True)])
    snapshot_files.write(tmp_path / "start", 1, snapshot.start_arrays(graph))
    arrays = snapshot_files.read(tmp_path / "start", 1)
    assert arrays is not None
    again = snapshot.restore(arrays)
    same(graph, again)
    assert again.view.dense.blocks[4].rows.tolist() == [0, 1]
    assert again.view.superseded_by == {0: 1}
    # An edge that was dead comes back, the facets go, and a vector comes where one was taken out.
    for one in (graph, again):
        one.set_edges([1, 2], [0.5, 0.5], [True, False])
        one.hide_nodes([2])
        one.change_node(node(4))
        one.set_vectors([4], vectors[:1])
        assert one.view.superseded_by == {0: 2}
        assert one.view.dense.blocks[4].rows.tolist() == [0]
    same(graph, again)


def test_a_dream_reads_the_moment_that_its_number_says(room: Any, held: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    room.remember(Memory(key="a", text="1"))
    queued = threading.Event()
    write = room.store.database.write

    def noticed(*job: Any, **how: Any) -> Any:
        future = write(*job, **how)
        queued.set()
        return future

    def request(key: str) -> RememberRequest:
        return RememberRequest(space="default", memories=[Memory(key=key, text="t", kind="k", importance=0.5)])

    with ThreadPoolExecutor(1) as beside:
        with held(room):
            # These three share one commit.
            first = room.store.remember(request("b"))
            monkeypatch.setattr(room.store.database, "write", noticed)
            taken = beside.submit(room.store.dream_snapshot, "default")
            assert queued.wait(10)
            last = room.store.remember(request("c"))
        first.result(10), last.result(10)
        seq, arrays = taken.result(10)
    by_then = [row[0] for row in room.rows("SELECT id FROM nodes WHERE seq <= ? ORDER BY id", seq)]
    assert arrays["node_ids"].tolist() == by_then == [1, 2]
    assert set(arrays) >= {*snapshot_files.DREAM_NODES, *snapshot_files.DREAM_EDGES}


def test_a_dreams_snapshot_is_a_copy(varied: Any) -> None:
    _, arrays = varied.store.dream_snapshot("default")
    before = {name: array.copy() for name, array in arrays.items()}
    varied.remember(Memory(key="more", text="m"), edges=[Edge(source="a", target="b", weight=0.1)])
    varied.forget("d")
    for name, array in before.items():
        np.testing.assert_array_equal(arrays[name], array)
    assert arrays["sources"].dtype == np.int32
    assert NEVER in arrays["accessed_us"].tolist()
    with pytest.raises(NotFound):
        varied.store.dream_snapshot("nowhere")


def test_writes_beside_the_end_leave_a_snapshot_that_fits_or_none(room: Any, loads: list[str]) -> None:
    """What is queued when the store closes is in the rows; the snapshot must not claim to hold it if it does not."""
    for i in range(20):
        for j in range(5):
            memory = Memory(key=f"{i}-{j}", text=f"word{i}x{j}", kind="k", importance=0.5)
            room.store.remember(RememberRequest(space="default", memories=[memory]))
        room.reopen()
        same(room.store.graph("default"), room.fresh())
        assert room.store.graph("default").view.n == 5 * (i + 1)


def test_what_came_to_disk_and_not_to_the_live_graph_is_in_no_snapshot(
    varied: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Delta, "apply", full)
        with pytest.raises(MemoryError):
            varied.remember(Memory(key="late", text="yak"))
    varied.reopen()
    varied.in_order()
    assert [varied.memory("late").text] == ["yak"]
    assert len(varied.find("yak")) == 1


def test_a_snapshot_of_another_database_is_not_taken_though_both_had_as_many_changes(rooms: Any) -> None:
    with rooms() as one, rooms() as other:
        one.remember(Memory(key="a", text="ant"))
        other.remember(Memory(key="a", text="yak"))
        for room in (one, other):
            room.close()
        shutil.copy(other.path, one.path)
        told = next(found for found in examine(str(one.path)) if "snapshots for the next start" in found.name)
        assert "is of another database" in told.detail
        one.open()
        assert len(one.find("yak")) == 1
        assert one.store.loaded != [Loaded.SNAPSHOT]
        one.in_order()
        one.reopen()
        assert one.store.loaded == [Loaded.SNAPSHOT]
        other.open()


def test_what_another_program_wrote_meanwhile_is_in_no_snapshot(varied: Any) -> None:
    other = apsw.Connection(str(varied.path))
    other.execute("UPDATE nodes SET text = 'yak' WHERE key = 'a'").fetchall()
    other.close()
    varied.reopen()
    varied.in_order()
    assert [found.node for found in varied.find("yak") if found.lexical] == [varied.row_of("a")]


def test_a_disk_without_room_for_a_snapshot_is_told_and_is_no_defect(
    varied: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(snapshot_files, "write", full)
        varied.close()
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "no snapshot of space" in caplog.text
    varied.open()
    varied.in_order()
