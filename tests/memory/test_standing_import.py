"""A compressed space as a file: it comes back as it was, and a hostile file breaks nothing."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc.dreamer.v1.operations_pb2 import EdgeDetail, NewMemory
from dreamsvc.errors import DreamsvcError, EmbedderMismatch
from dreamsvc.facet_codes import Bits
from dreamsvc.memory import imports
from dreamsvc.memory.standing import CONTAINER, FACET, PLAIN, REPLACED
from dreamsvc.v1.memory_pb2 import Edge, ImportReport, Memory

A, B, C, D, E, F = range(1, 7)
MONTH_US = 31 * 86_400_000_000
BOX, X, Y = (f"0190a000-0000-7000-8000-00000000000{c}" for c in "abc")


def vector(number: int) -> list[float]:
    return np.random.default_rng(number).normal(size=8).astype(np.float16).astype(float).tolist()


def compressed(room: Any, part: Any, bits: Bits = 4) -> None:
    """Containers, copies, a schema, a shortcut, a fact that superseded another, a memory that has only a vector."""
    room.remember(
        *(Memory(key=key, text=f"{key} text", vector=vector(row)) for row, key in enumerate("abcde", 1)),
        Memory(key="f", vector=vector(F)),
        edges=[Edge(source="a", target="b", weight=0.4), Edge(source="b", target="c", weight=0.7)],
    )
    shortcut = EdgeDetail(is_amortized_shortcut=True, path=[A, B, C], evidence="5 walks")
    through = EdgeDetail(is_amortized_shortcut=True, path=[A, E, D], evidence="6 walks")
    facts = EdgeDetail(
        valid_from_us=1_600_000_000_000_001, valid_to_us=1_650_000_000_000_000, evidence="home: A, now B"
    )
    room.dream(
        part.eliminations(0, (D, [E])),
        part.containers(1, part.container(1, room.vectors([A, B, F]), bits=bits)),
        part.new_memories(2, NewMemory(number=2, kind="schema", text="x", metadata='{"n": 1}')),
        part.new_edges(3, (-2, A, "ABSTRACTS", 0.1), (A, C, "causal", 0.5), detail=shortcut),
        part.new_edges(4, (A, D, "causal", 0.5), detail=through),
        part.new_edges(5, (C, D, "SUPERSEDES", 0.1), detail=facts),
    )
    room.remember(edges=[Edge(source=room.memory("a").merged_into, target="c", weight=0.2)])


def counts(report: ImportReport) -> tuple[int, int, int, int]:
    return report.memories_created, report.memories_unchanged, report.edges_created, report.edges_unchanged


@pytest.mark.parametrize(
    ("bits", "purged", "rows"), [(1, False, 1), (2, True, 2), (4, False, 2000), (4, True, 1), (8, True, 2000)]
)
def test_a_compressed_space_comes_back_as_it_was(
    rooms: Any, part: Any, monkeypatch: pytest.MonkeyPatch, bits: Bits, *, purged: bool, rows: int
) -> None:
    monkeypatch.setattr(imports, "PART_ROWS", rows)
    with rooms() as room, rooms() as other:
        compressed(room, part, bits)
        if purged:
            room.clock.us += MONTH_US
            assert room.purge().vectors == 3
        data = room.export()
        foreseen = other.import_(data, dry_run=True)
        report = other.import_(data)
        assert counts(report) == counts(foreseen)
        assert report.malformed == 0
        assert (other.export(), other.digest()) == (data, room.digest())
        assert [other.memory(key).role for key in "abcdf"] == [FACET, FACET, PLAIN, PLAIN, FACET]
        assert other.memory(other.memory("a").merged_into).role == CONTAINER
        names = [dict(one.rows("SELECT id, uid FROM nodes")) for one in (room, other)]
        for row in (A, B, C, D, F):
            ours, theirs = room.find(vector=vector(row)), other.find(vector=vector(row))
            assert [names[0][hit.node] for hit in ours] == [names[1][hit.node] for hit in theirs]
            assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in theirs], abs=1e-5)
            # Of a fact that does not hold any more the newer one comes first.
            assert bits == 1 or ours[0].node == (C if row == D else row)
        other.in_order()
        # A second time nothing changes.
        assert counts(other.import_(data)) == (0, report.memories_created, 0, report.edges_created)
        assert other.export() == data
        other.reopen()
        other.in_order()


def test_what_an_edge_knows_comes_back(room: Any, part: Any) -> None:
    compressed(room, part)
    room.import_(room.export(), space="copy")
    edges = {(edge.type, edge.evidence): edge for edge in room.get("a", space="copy").edges}
    shortcut = edges["causal", "5 walks"]
    assert shortcut.is_amortized_shortcut
    assert list(shortcut.path) == [room.memory(key).id for key in "abc"]
    # It leads over a copy that is not in the file.
    assert not edges["causal", "6 walks"].path
    (fact,) = [edge for edge in room.get("d", space="copy").edges if edge.type == "SUPERSEDES"]
    assert fact.valid_from.ToMicroseconds() == 1_600_000_000_000_001
    assert fact.valid_to.ToMicroseconds() == 1_650_000_000_000_000
    older = {hit.node: hit.superseded_by for hit in room.find("d", space="copy")}
    rows = dict(room.rows("SELECT key, id FROM nodes WHERE space = 2"))
    assert older[rows["d"]] == rows["c"]
    room.in_order()


def test_what_came_compressed_is_dreamt_of_and_taken_apart_like_anything(room: Any, part: Any, rooms: Any) -> None:
    compressed(room, part)
    with rooms() as other:
        other.import_(room.export())
        before = other.export()
        rows = {key: other.row_of(key) for key in "abcdf"}
        box = other.row_of_id(other.memory("a").merged_into)
        change = other.dream(part.containers(0, part.container(1, other.vectors(rows.values()), replaces=[box])))
        other.in_order()
        other.revert(change)
        assert other.export() == before
        other.unmerge(other.memory("a").merged_into)
        assert {other.memory(key).role for key in "abcdf"} == {PLAIN}
        other.in_order()


def test_originals_that_came_with_an_import_go_when_its_days_are_over(room: Any, part: Any, rooms: Any) -> None:
    compressed(room, part)
    with rooms() as other:
        other.import_(room.export())
        other.clock.us += MONTH_US
        assert other.purge().vectors == 3
        other.in_order()


# ── hostile files ───────────────────────────────────────────────────────────────


def packed(dim: int = 4, bits: int = 8, **fields: Any) -> dict[str, Any]:
    size = -(-dim * bits // 8)
    return {"bits": bits, "scale": 0.01, "code": base64.b64encode(bytes(range(1, size + 1))).decode(), **fields}


def box(**fields: Any) -> dict[str, Any]:
    return {"type": "memory", "id": BOX, "title": "box", "role": "CONTAINER", "packed": packed()} | fields


def facet(key: str = "a", **fields: Any) -> dict[str, Any]:
    given = {"type": "memory", "key": key, "text": f"{key} text", "role": "FACET", "merged_into": BOX}
    return given | {"packed": packed(bits=4)} | fields


def lines(*values: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (box(packed=None), '"packed" needs "bits" of 1, 2, 4 or 8 and a "code"'),
        (box(packed=packed(bits=4)), "a centroid of 8 bits and no vector"),
        (box(vector=base64.b64encode(np.ones(4, "<f2").tobytes()).decode()), "no vector of its own"),
        (facet(packed=packed(bits=3)), '"packed" needs "bits"'),
        (facet(packed=packed(code="")), '"packed" needs "bits"'),
        (facet(packed={}), '"packed" needs "bits"'),
        (facet(packed=packed(scale=1e6)), "scale outside 0 to 65504"),
        (facet(packed=packed(scale=-1)), "scale outside"),
        (facet(packed=packed(scale=float("nan"))), "scale"),
        (facet(packed=packed(scale=float("inf"))), "scale"),
        (facet(packed=packed(scale=1e300)), "scale"),
        (facet(packed=packed() | {"bits": -4}), "bits"),
        (facet(packed=packed() | {"bits": 2**40}), "bits"),
        (facet(packed=packed(code="%%")), "code"),
        (facet(packed=packed(extra=1)), "extra"),
        (facet(packed=[]), "packed"),
        (facet(packed="x"), "packed"),
        (facet(packed=packed(code=base64.b64encode(bytes(70_000)).decode())), '"packed" needs'),
        (facet(merged_into=None), 'its container as "merged_into"'),
        (facet(merged_into="a"), 'its container as "merged_into"'),
        (facet(merged_into=[BOX]), "merged_into"),
        (facet(role="FOLDED"), "must be CONTAINER or FACET, or absent"),
        (facet(role="REPLACED"), "must be CONTAINER or FACET, or absent"),
        (facet(role=["FACET"]), "must be CONTAINER or FACET, or absent"),
        (facet(role={}), "must be CONTAINER or FACET, or absent"),
        (facet(role=2), "must be CONTAINER or FACET, or absent"),
        (facet(role=None), '"packed" is of a CONTAINER or a FACET only'),
        (facet(kept_apart="yes"), "kept_apart"),
    ],
)
def test_a_line_that_cannot_be_is_malformed_with_a_reason(room: Any, value: dict[str, Any], reason: str) -> None:
    good = facet("good", role=None, packed=None, merged_into=None)
    report = room.import_(lines(good, value), skip_malformed=True)
    assert [line.line for line in report.malformed_lines] == [2]
    assert reason in report.malformed_lines[0].reason
    assert room.rows("SELECT key FROM nodes") == [("good",)]
    room.in_order()


@pytest.mark.parametrize(
    ("values", "roles"),
    [
        ([box(), facet()], {BOX: CONTAINER, "a": FACET}),
        # Of one part the order does not matter.
        ([facet(), box()], {BOX: CONTAINER, "a": FACET}),
        ([box(), facet(merged_into=Y)], {BOX: CONTAINER, "a": PLAIN}),
        ([facet()], {"a": PLAIN}),
        ([box(), facet(packed=packed(dim=5, bits=8))], {BOX: CONTAINER, "a": PLAIN}),
        ([box(), facet(), facet("b", packed=packed(bits=2))], {BOX: CONTAINER, "a": FACET, "b": PLAIN}),
        ([box(), facet(id=X, merged_into=X)], {BOX: CONTAINER, X: PLAIN}),
        ([box(), facet(id=X), facet("b", merged_into=X)], {BOX: CONTAINER, X: FACET, "b": PLAIN}),
        ([box(merged_into=BOX)], {BOX: CONTAINER}),
        ([box(), box(id=X, merged_into=BOX), facet(merged_into=X)], {BOX: CONTAINER, X: CONTAINER, "a": FACET}),
        ([box(packed=packed(scale=0)), facet(packed=packed(bits=4, scale=0))], {BOX: CONTAINER, "a": FACET}),
        ([box(packed=packed(scale=65504)), facet(packed=packed(bits=8, scale=65504))], {BOX: CONTAINER, "a": FACET}),
        ([box(), facet(text="", packed=packed(bits=4))], {BOX: CONTAINER, "a": FACET}),
    ],
)
def test_what_does_not_fit_stands_for_itself(room: Any, values: list[dict[str, Any]], roles: dict[str, int]) -> None:
    data = lines(*values)
    foreseen = room.import_(data, dry_run=True)
    assert counts(room.import_(data)) == counts(foreseen) == (len(values), 0, 0, 0)
    assert {name: room.memory(name).role for name in roles} == roles
    room.in_order()
    again = room.export()
    room.import_(again, space="copy")
    assert room.export("copy") == again
    for name, role in roles.items():
        if role == CONTAINER:
            room.unmerge(name)
    assert {room.memory(name).role for name in roles} <= {PLAIN, REPLACED}
    room.in_order()


def test_facets_far_from_their_container_in_a_file_find_it(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "PART_ROWS", 1)
    room.import_(lines(box(), facet("a"), facet("b")))
    assert {room.memory(key).merged_into for key in "ab"} == {BOX}
    room.in_order()
    # Before it they stand for themselves, since it is not known yet.
    room.import_(lines(facet("a"), box()), space="other")
    assert room.memory("a", space="other").role == PLAIN
    room.in_order()


def test_centroids_of_another_length_are_refused_before_anything_is_stored(room: Any) -> None:
    report = room.import_(lines(box(), box(id=X, packed=packed(dim=5))), skip_malformed=True)
    assert "5 values, the first one of the file 4" in report.malformed_lines[0].reason
    before = room.export()
    with pytest.raises(EmbedderMismatch):
        room.import_(lines(box(id=Y, packed=packed(dim=5))))
    assert room.export() == before
    room.in_order()


def test_an_import_does_not_put_a_memory_that_is_known_into_a_container(room: Any) -> None:
    room.remember(Memory(key="a", text="mine", vector=[1, 2, 3, 4]))
    report = room.import_(lines(box(), facet("a")))
    assert counts(report) == (1, 1, 0, 0)
    assert (room.memory("a").role, room.memory("a").text) == (PLAIN, "mine")
    room.in_order()


@pytest.fixture(scope="module")
def exported(rooms: Any, part: Any) -> list[dict[str, Any]]:
    with rooms() as room:
        compressed(room, part)
        return [json.loads(line) for line in room.export().splitlines()]


odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
    st.sampled_from([BOX, "CONTAINER", "FACET", "", "AAAA"]),
)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_damage_to_a_file_is_a_malformed_line_or_a_memory(
    shared_room: Any, new_space: Any, exported: list[dict[str, Any]], data: st.DataObject
) -> None:
    room, space = shared_room, new_space()
    damaged = [json.loads(json.dumps(line)) for line in exported]
    for _ in range(data.draw(st.integers(1, 4))):
        line = data.draw(st.sampled_from(damaged))
        place = (
            line["packed"]
            if "packed" in line and isinstance(line["packed"], dict) and data.draw(st.booleans())
            else line
        )
        names = sorted({*place, "role", "merged_into", "packed"})
        place[data.draw(st.sampled_from(names))] = data.draw(odd)
    order = data.draw(st.permutations(damaged)) if data.draw(st.booleans()) else damaged
    content = lines(*order)
    with pytest.MonkeyPatch.context() as small:
        small.setattr(imports, "PART_ROWS", data.draw(st.sampled_from([1, 3, 2000])))
        try:
            foreseen = room.import_(content, space=space, dry_run=True)
            report = room.import_(content, space=space, skip_malformed=True)
        except DreamsvcError:
            assert space not in room.store.space_names() or room.store.stats(space).memories == 0
            return
    assert counts(report) == counts(foreseen)
    assert report.malformed == foreseen.malformed
    room.in_order(space)
    kept = room.export(space)
    room.import_(kept, space=f"{space}-again")
    assert room.export(f"{space}-again") == kept
