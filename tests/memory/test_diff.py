"""What a dream did or would do, read page by page."""

from typing import Any

import numpy as np
import pytest

from dreamsvc.dreamer.v1.operations_pb2 import EdgeDetail, NewMemory
from dreamsvc.errors import InvalidFields
from dreamsvc.memory import diff
from dreamsvc.v1.dream_pb2 import MERGE_STAGE_TOPIC, Dream
from dreamsvc.v1.dream_service_pb2 import DiffDreamRequest, DiffDreamResponse, DreamEdit
from dreamsvc.v1.memory_pb2 import Edge, Memory

A, B, C, D, E, F = range(1, 7)


def vector(number: int) -> list[float]:
    return np.random.default_rng(number).normal(size=4).astype(np.float16).astype(float).tolist()


@pytest.fixture
def town(room: Any) -> Any:
    room.remember(
        *(Memory(key=key, title=key.upper(), text=f"{key}  text", vector=vector(i)) for i, key in enumerate("abcdef")),
        edges=[Edge(source="a", target="b", weight=0.4), Edge(source="c", target="d"), Edge(source="e", target="f")],
    )
    return room


def parts(room: Any, part: Any) -> list[Any]:
    return [
        part.weights(0, {1: 0.75, 2: 0.25, 3: 0.0}, pruned=[3]),
        part.marks(1, {A: 1}),
        part.eliminations(2, (A, [B])),
        part.containers(3, part.container(1, room.vectors([C, D, E]), title="three", cohesion=0.25)),
        part.new_memories(4, NewMemory(number=2, kind="schema", title="S", text="x")),
        part.new_edges(5, (-2, A, "ABSTRACTS", 0.5), (A, F, "causal", 0.25), detail=EdgeDetail(evidence="why")),
    ]


def proposed(room: Any, *operations: Any) -> str:
    change, dream = room.begin_dream()
    room.journal.stage_dream(change, operations, None, dream).result(10)
    room.journal.compact(change)
    dream.state = Dream.STATE_PROPOSED
    room.journal.propose_dream(change, dream).result(10)
    return str(dream.id)


def page(room: Any, dream_id: str, **fields: Any) -> DiffDreamResponse:
    answer: DiffDreamResponse = room.journal.diff(
        DiffDreamRequest(**({"space": "default", "dream_id": dream_id, "page_size": 100} | fields))
    )
    return answer


def dream_id(room: Any, change: int) -> str:
    return Dream.FromString(room.rows("SELECT body FROM dreams WHERE change = ?", change)[0][0]).id


def told(edits: Any) -> list[tuple[str, str, list[str]]]:
    return [
        (DreamEdit.Kind.Name(edit.kind).removeprefix("KIND_"), edit.what, [memory.key for memory in edit.memories])
        for edit in edits
    ]


EXPECTED = [
    ("EDGE_STRENGTHENED", "related", ["a", "b"]),
    ("EDGE_WEAKENED", "related", ["c", "d"]),
    ("EDGE_PRUNED", "related", ["e", "f"]),
    ("ELIMINATED", "copies", ["a", "b"]),
    ("MERGED", "three", ["c", "d", "e"]),
    ("MEMORY_MADE", "schema", [""]),
    ("EDGE_MADE", "ABSTRACTS", ["", "a"]),
    ("EDGE_MADE", "causal", ["a", "f"]),
]


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_pages_hold_every_edit_once_in_one_order(town: Any, part: Any, size: int, *, folded: bool) -> None:
    operations = parts(town, part)
    name = dream_id(town, town.dream(*operations)) if folded else proposed(town, *operations)
    for weights in (True, False):
        found: list[Any] = []
        token = ""
        for _ in range(20):
            answer = page(town, name, page_size=size, page_token=token, with_weights=weights)
            assert 0 < len(answer.edits) <= size
            found += answer.edits
            token = answer.next_page_token
            if not token:
                break
        assert told(found) == EXPECTED[0 if weights else 3 :]


def test_an_edit_says_what_it_was_and_why(town: Any, part: Any) -> None:
    edits = page(town, proposed(town, *parts(town, part)), with_weights=True).edits
    assert [(edit.weight_before, edit.weight_after) for edit in edits[:3]] == [(0.4, 0.75), (0.5, 0.25), (0.5, 0.0)]
    assert edits[3].memories[0].text == "A: a text"
    assert edits[3].why == "cosine 0.970"
    assert (edits[4].stage, edits[4].why) == (MERGE_STAGE_TOPIC, "mean cosine 0.25")
    assert (edits[5].memories[0].text, edits[5].memories[0].id) == ("S: x", edits[6].memories[0].id)
    assert (edits[7].weight_after, edits[7].why) == (0.25, "why")


def test_a_night_tells_what_it_did_and_not_what_users_prevented(town: Any, part: Any) -> None:
    def meanwhile() -> None:
        town.remember(Memory(key="b", text="mine"), edges=[Edge(source="a", target="b", weight=0.1)])
        town.forget("e")

    change = town.dream(*parts(town, part), meanwhile=meanwhile)
    found = told(page(town, dream_id(town, change), with_weights=True).edits)
    assert found == [
        ("EDGE_WEAKENED", "related", ["c", "d"]),
        ("MERGED", "three", ["c", "d"]),
        *EXPECTED[5:],
    ]
    town.revert(change)
    assert told(page(town, dream_id(town, change), with_weights=True).edits) == found


def test_a_token_goes_on_where_it_was_whatever_happened_meanwhile(town: Any, part: Any) -> None:
    name = proposed(town, *parts(town, part))
    first = page(town, name, page_size=4, with_weights=True)
    # Edges that are gone are passed over; what follows stays where it was.
    town.forget("c")
    rest = page(town, name, page_token=first.next_page_token, with_weights=True)
    assert told([*first.edits, *rest.edits]) == EXPECTED
    for other in ({"with_weights": False}, {"space": "other"}):
        with pytest.raises(InvalidFields):
            page(town, name, **({"page_token": first.next_page_token, "with_weights": True} | other))


def test_a_page_reads_only_the_parts_it_shows(town: Any, part: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name = proposed(town, *(part.eliminations(number, (A, [B])) for number in range(20)))
    read: list[int] = []
    real = diff._edits_of

    def counted(*args: Any, **more: Any) -> Any:
        read.append(1)
        return real(*args, **more)

    monkeypatch.setattr(diff, "_edits_of", counted)
    token = ""
    pages = 0
    while True:
        answer = page(town, name, page_size=2, page_token=token)
        pages += 1
        token = answer.next_page_token
        if not token:
            break
    assert pages == 10
    assert len(read) <= 3 * pages


def test_a_dream_that_did_nothing_or_runs_has_no_edits(town: Any, part: Any) -> None:
    change, dream = town.begin_dream()
    assert not page(town, dream.id).edits
    town.journal.stage_dream(change, [part.weights(0, {1: 0.9})], None, dream).result(10)
    town.journal.drop_dream(change, dream).result(10)
    assert not page(town, dream.id).edits
