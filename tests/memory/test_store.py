"""What reads and lists the store, and what survives a restart."""

import base64
from pathlib import Path
from typing import Any

import pytest

from dreamsvc import contract
from dreamsvc.clock import Clock
from dreamsvc.errors import InvalidFields, NotFound, StoreUnavailable
from dreamsvc.memory import paging
from dreamsvc.memory.store import Store
from dreamsvc.v1.config_pb2 import StoreConfig
from dreamsvc.v1.memory_pb2 import Edge, Memory
from dreamsvc.v1.memory_service_pb2 import GetMemoryRequest, ListMemoriesRequest


def listing(**fields: Any) -> ListMemoriesRequest:
    request = ListMemoriesRequest(space="default", **fields)
    contract.fill(request)
    return request


def all_pages(room: Any, **fields: Any) -> list[list[str]]:
    request = listing(**fields)
    pages: list[list[str]] = []
    while True:
        page = room.store.list_memories(request)
        pages.append([memory.key for memory in page.memories])
        if not page.next_page_token:
            return pages
        request.page_token = page.next_page_token


@pytest.fixture
def seven(room: Any) -> Any:
    room.remember(*(Memory(key=key, text=key, kind="even" if i % 2 else "odd") for i, key in enumerate("abcdefg")))
    room.forget("c")
    return room


def test_pages_hold_every_memory_once(seven: Any) -> None:
    assert all_pages(seven, page_size=2) == [["a", "b"], ["d", "e"], ["f", "g"]]
    assert all_pages(seven, page_size=3, show_deleted=True) == [list("abc"), list("def"), ["g"]]
    assert all_pages(seven, page_size=7, show_deleted=True) == [list("abcdefg")]
    assert all_pages(seven, page_size=2, kinds=["odd"]) == [["a", "e"], ["g"]]
    assert all_pages(seven, kinds=["odd", "even", "none"]) == [list("abdefg")]
    assert all_pages(seven, kinds=["none"]) == [[]]


def test_a_page_token_is_good_for_its_own_listing_only(seven: Any) -> None:
    token = seven.store.list_memories(listing(page_size=2)).next_page_token
    for other in (listing(kinds=["odd"]), listing(show_deleted=True)):
        other.page_token = token
        with pytest.raises(InvalidFields, match="page_token"):
            seven.store.list_memories(other)
    seven.remember(Memory(key="x", text="x"), space="second")
    there = listing(page_token=token)
    there.space = "second"
    with pytest.raises(InvalidFields, match="page_token"):
        seven.store.list_memories(there)


@pytest.mark.parametrize(
    "token", ["x", "ü", "AAAA", "!" * 20, "A" * 512, "\0", base64.urlsafe_b64encode(bytes(14)).decode()]
)
def test_a_token_of_nobody_is_refused(seven: Any, token: str) -> None:
    with pytest.raises(InvalidFields, match="page_token"):
        seven.store.list_memories(listing(page_token=token))


def test_a_token_with_a_position_beyond_all_rows_is_refused_or_empty(seven: Any) -> None:
    scope = paging.scope("memories", "default", False)
    assert all_pages(seven, page_token=paging.write(2**63 - 1, scope)) == [[]]
    beyond = base64.urlsafe_b64encode(scope + b"\xff" * 8).decode()
    with pytest.raises(InvalidFields, match="page_token"):
        seven.store.list_memories(listing(page_token=beyond))


def test_a_memory_is_got_by_id_and_by_key(seven: Any) -> None:
    memory = seven.get("a").memory
    assert seven.get(memory.id).memory == memory
    assert memory.space == "default"
    assert seven.get("c").memory.HasField("delete_time")
    plain = seven.store.get_memory(GetMemoryRequest(space="default", id="a"))
    assert (list(plain.memory.vector), list(plain.edges)) == ([], [])
    for space, name in (("default", "nobody"), ("nowhere", "a")):
        with pytest.raises(NotFound):
            seven.get(name, space=space)


def test_an_error_shows_no_more_of_a_name_than_fits(seven: Any) -> None:
    with pytest.raises(NotFound) as caught:
        seven.get("x" * 1000)
    assert len(caught.value.message) < 200


def test_edges_are_told_with_both_of_their_ends(room: Any) -> None:
    room.remember(
        *(Memory(key=key, text=key) for key in "abc"),
        edges=[Edge(source="a", target="b"), Edge(source="c", target="a")],
    )
    room.forget("c")
    a, b, c = (room.get(key).memory.id for key in "abc")
    edges = room.get("a").edges
    assert [(edge.source, edge.target, edge.HasField("delete_time")) for edge in edges] == [(a, b, False), (c, a, True)]


def test_stats_count_what_lives(seven: Any, part: Any) -> None:
    seven.remember(
        Memory(key="v", title="ü", text="x", vector=[1, 0]),
        edges=[Edge(source="a", target="b"), Edge(source="b", target="d")],
    )
    seven.dream(part.weights(0, {1: 0.1}, pruned=[1]))
    stats = seven.store.stats("default")
    assert (stats.memories, stats.memories_forgotten, stats.edges, stats.edges_pruned) == (7, 1, 1, 1)
    assert (stats.vectors, stats.to_embed, stats.dimension, stats.embedder) == (1, 6, 2, "client")
    assert (stats.vector_bytes, stats.text_bytes, stats.dreams) == (8, 9, 1)
    assert (stats.database_bytes > 0, list(stats.spaces)) == (True, ["default"])
    assert stats.change_seq == seven.rows("SELECT value FROM meta WHERE key = 'change_seq'")[0][0]
    with pytest.raises(NotFound):
        seven.store.stats("nowhere")


def test_spaces_are_apart(room: Any) -> None:
    room.remember(Memory(key="a", text="1", vector=[1, 0]))
    room.remember(Memory(key="a", text="2", vector=[1, 0, 0]), space="other")
    room.forget("a")
    assert room.get("a", space="other").memory.text == "2"
    assert room.store.stats("other").memories == 1
    assert room.store.stats("default").memories == 0
    assert list(room.store.stats("default").spaces) == ["default", "other"]
    room.reopen()
    assert room.store.space_names() == ["default", "other"]


def test_a_recall_is_noted_behind_everything_else(room: Any) -> None:
    room.remember(Memory(key="a", text="1"), Memory(key="b", text="2"))
    room.clock.us += 7
    room.store.touch("default", {1: 2}).result(10)
    room.store.touch("default", {1: 3}).result(10)
    memory = room.get("a").memory
    assert (memory.access_count, memory.access_time.ToMicroseconds()) == (5, room.clock.us)
    assert room.get("b").memory.access_count == 0
    assert room.store.graph("default").view.accessed_us[0] == room.clock.us


def test_memories_by_row_leaves_out_what_does_not_exist(room: Any) -> None:
    room.remember(Memory(key="a", text="1", vector=[1, 0]))
    found = room.store.memories_by_row("default", [1, 99], with_vectors=True)
    assert list(found) == [1]
    assert list(found[1].vector) == [1, 0]
    assert list(room.store.memories_by_row("default", [1], with_vectors=False)[1].vector) == []


def test_everything_is_there_after_a_restart(seven: Any) -> None:
    before = seven.digest(), all_pages(seven, show_deleted=True), seven.rows("SELECT * FROM audit")
    seven.reopen()
    assert (seven.digest(), all_pages(seven, show_deleted=True), seven.rows("SELECT * FROM audit")) == before


def test_a_store_in_memory_leaves_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    config = StoreConfig(path=":memory:", request_id_hours=1)
    store = Store(config, Clock())
    assert store.space_names() == ["default"]
    assert list(tmp_path.iterdir())
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_a_second_store_on_the_same_file_is_refused(room: Any) -> None:
    with pytest.raises(StoreUnavailable, match="held by process"):
        type(room)(room.path)
    assert room.remember(Memory(text="x")).memories_created == 1


def test_a_store_closes_although_an_import_into_a_new_space_never_ended(room: Any) -> None:
    room.journal.begin_import("new").result(10)
    room.reopen()
    assert room.store.space_names() == ["default"]
    assert list(room.store.stats("default").spaces) == ["default"]
    room.remember(Memory(key="a", text="1"), space="new")
    room.journal.drop_unsealed_imports().result(10)
    assert room.store.stats("new").memories == 1
