"""Lines into parts: what is read, what is refused with its number and why, however the bytes are cut."""

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc.errors import StoreUnavailable
from dreamsvc.memory import imports
from dreamsvc.memory.imports import LineReader
from dreamsvc.server import importing
from dreamsvc.v1 import memory_pb2
from dreamsvc.v1.memory_pb2 import Edge, Memory
from dreamsvc.v1.memory_service_pb2 import ImportHeader, ImportRequest, RememberRequest

OWN, MCP = memory_pb2.IMPORT_FORMAT_DREAMSVC_JSONL, memory_pb2.IMPORT_FORMAT_MCP_MEMORY
X = "0190a000-0000-7000-8000-00000000000a"


def read(
    *lines: bytes | str | dict[str, Any], file_format: int = OWN, stored: set[str] | None = None, end: bytes = b"\n"
) -> tuple[list[RememberRequest], LineReader]:
    data = b"\n".join(
        line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
        for line in lines
    )
    return cut(data + end, [], file_format, stored)


def cut(
    data: bytes, places: list[int], file_format: int = OWN, stored: set[str] | None = None
) -> tuple[list[RememberRequest], LineReader]:
    reader = LineReader("default", file_format)  # pyright: ignore
    parts: list[RememberRequest] = []
    bounds = [0, *sorted(places), len(data)]
    for start, stop in itertools.pairwise(bounds):
        parts += reader.feed(data[start:stop])
    parts += reader.finish(lambda names: names & (stored or set()))
    return parts, reader


def refused(*lines: bytes | str | dict[str, Any], **options: Any) -> dict[int, str]:
    _, reader = read(*lines, **options)
    assert reader.report.malformed == len(reader.report.malformed_lines)
    return {line.line: line.reason for line in reader.report.malformed_lines}


def memory(key: str = "a", **fields: Any) -> dict[str, Any]:
    return {"type": "memory", "key": key, "text": "t", **fields}


def edge(source: str = "a", target: str = "b", **fields: Any) -> dict[str, Any]:
    return {"type": "edge", "source": source, "target": target, **fields}


def vector(*values: float) -> str:
    return base64.b64encode(np.array(values, "<f2").tobytes()).decode()


def test_every_field_of_a_memory_is_read() -> None:
    line = {
        "type": "memory",
        "id": X,
        "key": "k",
        "kind": "fact",
        "title": "Ü",
        "text": "\u0000 \U0001f9e0",
        "aliases": ["a", "b"],
        "importance": 0.1,
        "pinned": True,
        "metadata": {"n": [1, None]},
        "event_time": "0001-01-01T00:00:00Z",
        "create_time": "2024-02-29T12:34:56.123456Z",
        "update_time": "2024-02-29T14:34:56.000001+02:00",
        "access_time": "9999-12-31T23:59:59.999999Z",
        "access_count": 2**63 - 1,
        "replay_count": 3,
        "vector": vector(1, -0.5),
    }
    (part,), reader = read(line)
    (read_back,) = part.memories
    assert (read_back.id, read_back.key, read_back.kind, read_back.title) == (X, "k", "fact", "Ü")
    assert (read_back.text, list(read_back.aliases)) == ("\0 \U0001f9e0", ["a", "b"])
    assert (read_back.importance, read_back.pinned) == (0.1, True)
    assert read_back.event_time.ToMicroseconds() == -62135596800_000_000
    assert read_back.create_time.ToMicroseconds() % 1_000_000 == 123456
    assert read_back.update_time.ToMicroseconds() - read_back.create_time.ToMicroseconds() == -123455
    assert read_back.access_time.ToMicroseconds() == 253402300799_999_999
    assert (read_back.access_count, read_back.replay_count) == (2**63 - 1, 3)
    assert list(read_back.vector) == [1, -0.5]
    assert (reader.dimension, reader.report.malformed, reader.report.lines) == (2, 0, 1)


def test_what_is_absent_gets_its_default() -> None:
    (memories, edges), _ = read(memory(), memory("b"), edge())
    assert memories.memories[0] == Memory(key="a", text="t", kind="note", importance=0.5)
    assert edges.edges[0] == Edge(source="a", target="b", type="related", weight=0.5, confidence=1)


def test_edges_may_stand_before_their_memories() -> None:
    (memories, edges), reader = read(edge(), memory("b"), memory("a"))
    assert [m.key for m in memories.memories] == ["b", "a"]
    assert len(edges.edges) == 1
    assert reader.report.malformed == 0


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "no JSON"),
        (b'{"type": "memory"', "no JSON"),
        (b"\xff\xfe{}", "no UTF-8"),
        (b'{"type": "memory", "key": "a", "text": "\xc3"}', "no UTF-8"),
        (b'{"type": "memory", "key": "a", "text": "\\ud800"}', ""),
        # The name of a field of a message within one.
        (b'{"type": "memory", "key": "a", "text": "t", "packed": "\\ud800"}', "surrogate"),
        (b'{"type": "memory", "key": "a", "text": "t", "packed": {"\\ud800": 1}}', "surrogate"),
        (b"[" * 100_000, "deeply"),
        (b'{"type":' * 100_000, "deeply"),
        (b'{"type": "memory", "key": "a", "text": "t", "importance": ' + b"9" * 5000 + b"}", "no JSON"),
        ("[]", "no JSON object"),
        ("null", "no JSON object"),
        ('"text"', "no JSON object"),
        ("{}", '"type" is None'),
        ({"type": "nothing"}, "must be"),
        ({"type": ["memory"]}, "must be"),
        (memory(unknown=1, other=2), "unknown fields: other, unknown"),
        (memory(space="other"), "unknown fields: space"),
        ({"type": "memory", "text": "t"}, '"id" or a "key"'),
        ({"type": "memory", "key": "a"}, "needs"),
        (memory(id="x"), "no UUID"),
        (memory(id=5), ""),
        (memory(text=5), ""),
        (memory(text=["t"]), ""),
        (memory(aliases="x"), ""),
        (memory(pinned="yes"), ""),
        ('{"type": "memory", "key": "a", "text": "t", "importance": NaN}', ""),
        ('{"type": "memory", "key": "a", "text": "t", "importance": Infinity}', ""),
        (memory(importance="NaN"), "finite"),
        (memory(importance=1.5), "at most 1"),
        (memory(importance=-0.1), "at least 0"),
        (memory(access_count=-1), ""),
        (memory(access_count=2**63), "beyond"),
        (memory(replay_count=2**64 - 1), "beyond"),
        (memory(access_count=2**64), ""),
        (memory(access_count=1.5), ""),
        (memory(key="k" * 1025), "1025 bytes"),
        (memory(text="x" * (2**20 + 1)), "1048577 bytes"),
        (memory(aliases=["x"] * 65), "65 items"),
        (memory(event_time="yesterday"), "no RFC 3339 time"),
        (memory(event_time=5), "no RFC 3339 time"),
        (memory(event_time="0001-01-01T00:00:00+14:00"), "years 1 to 9999"),
        (memory(metadata=[1]), ""),
        (memory(metadata="x"), ""),
        ('{"type": "memory", "key": "a", "text": "t", "metadata": {"a": NaN}}', "not finite"),
        ('{"type": "memory", "key": "a", "text": "t", "metadata": ' + '{"a":' * 40 + "1" + "}" * 41, "deeply"),
        ('{"type": "memory", "key": "a", "text": "t", "metadata": ' + '{"a":' * 5000 + "1" + "}" * 5001, "deep"),
        (memory(vector="!"), "base64"),
        (memory(vector=[1, 2]), "base64"),
        (memory(vector="AAA="), "all zero"),
        (memory(vector="AA=="), "float16"),
        (memory(vector=vector(float("nan"))), "finite"),
        (memory(vector=vector(float("inf"))), "finite"),
        (edge(weight=2), "at most 1"),
        (edge(weight="NaN"), "finite"),
        (edge(target="a"), "the same"),
        (edge(source=""), "required"),
        ({"type": "edge", "source": "a"}, "required"),
        (edge(origin="MARS"), "no origin"),
        (edge(origin=7), "no origin"),
        (edge(create_time="x"), "no RFC 3339 time"),
        (edge(type_="x"), "unknown"),
        (edge(target="nowhere"), "neither here nor stored"),
        ({"type": "space", "embedder": "e"}, "first"),
    ],
)
def test_a_malformed_line_is_named_by_its_number_and_why(line: bytes | str | dict[str, Any], why: str) -> None:
    parts, reader = read(memory("b"), line, memory("c"), edge("b", "c"))
    (named,) = reader.report.malformed_lines
    assert named.line == 2
    assert why in named.reason
    assert 0 < len(named.reason) < 500
    assert named.reason.isprintable() or "\n" not in named.reason
    assert [m.key for part in parts for m in part.memories] == ["b", "c"]
    assert sum(len(part.edges) for part in parts) == 1
    assert reader.report.lines == 4


def test_a_torn_last_line_is_named() -> None:
    data = json.dumps(memory("a")).encode() + b"\n" + json.dumps(memory("b")).encode()
    assert refused(data[:-1], end=b"") == {2: "is no JSON: Expecting ',' delimiter at column 43"}
    assert refused(data, end=b"") == {}
    # Torn inside a character of several bytes.
    assert refused(json.dumps(memory("ü"), ensure_ascii=False).encode()[:30], end=b"").keys() == {1}


def test_a_byte_order_mark_is_passed_over_and_utf16_is_no_utf8() -> None:
    line = json.dumps(memory())
    assert refused(b"\xef\xbb\xbf" + line.encode(), json.dumps(memory("b"))) == {}
    assert refused(line.encode("utf-16-le")).keys() == {1}
    assert refused(b"\xff\xfe" + line.encode("utf-16-le"))[1] == "is no UTF-8"


def test_blank_lines_and_carriage_returns_count_as_lines_and_nothing_else() -> None:
    parts, reader = read(b"", json.dumps(memory()).encode() + b"\r", b"  \t", b"{")
    assert len(parts[0].memories) == 1
    assert [line.line for line in reader.report.malformed_lines] == [4]
    assert reader.report.lines == 4


def test_a_memory_that_the_file_names_twice_is_refused() -> None:
    found = refused(
        memory("a", id=X), memory("a"), memory("c", id=X.upper()), memory("d"), memory(X), {**memory("e"), "id": None}
    )
    assert found.keys() == {2, 3, 5}
    assert "line 1" in found[2]


def test_an_id_is_taken_in_either_case() -> None:
    parts, reader = read(memory("a", id=X.upper()), memory("b"), edge(X.upper(), "b"), edge("b", X))
    assert reader.report.malformed == 0
    assert parts[0].memories[0].id == X
    assert [(e.source, e.target) for e in parts[1].edges] == [(X, "b"), ("b", X)]


def test_vectors_of_two_lengths_are_refused() -> None:
    found = refused(memory("a", vector=vector(1, 2)), memory("b", vector=vector(1)), memory("c"))
    assert found == {2: "vector has 1 values, the first one of the file 2"}


def test_a_memory_may_have_a_vector_and_no_words() -> None:
    parts, reader = read({"type": "memory", "key": "a", "vector": vector(1)})
    assert reader.report.malformed == 0
    assert list(parts[0].memories[0].vector) == [1]


def test_edges_may_end_at_what_is_stored() -> None:
    parts, reader = read(memory("a"), edge("a", "old"), edge("a", "older"), stored={"old"})
    assert [e.target for e in parts[1].edges] == ["old"]
    assert [line.line for line in reader.report.malformed_lines] == [3]


def test_only_the_first_hundred_malformed_lines_are_shown_and_all_are_counted() -> None:
    _, reader = read(*["{"] * 250)
    assert (reader.report.malformed, len(reader.report.malformed_lines)) == (250, 100)


def test_a_space_line_names_the_embedder() -> None:
    _, reader = read({"type": "space", "embedder": "toy-2"}, memory())
    assert reader.embedder == "toy-2"
    _, reader = read({"type": "space"}, memory())
    assert reader.embedder == "client"


@pytest.mark.parametrize("places", [[], [5], [3_000_000, 9_000_000], [8_388_607, 8_388_608, 8_388_609, 20_000_000]])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_of_any_length_is_refused_once_however_it_is_cut(places: list[int], end: bytes) -> None:
    # What stands at its end would be a good line of its own.
    long = b'{"type":"memory","key":"x","text":"' + b"y" * 25_000_000 + b' {"type":"memory","key":"z","text":"t"}'
    data = json.dumps(memory("b")).encode() + b"\n" + long + b"\n" + json.dumps(memory("c")).encode() + end
    parts, reader = cut(data, places)
    assert [m.key for part in parts for m in part.memories] == ["b", "c"]
    assert [(line.line, "longer than" in line.reason) for line in reader.report.malformed_lines] == [(2, True)]
    assert (reader.report.lines, reader.report.malformed) == (3, 1)
    _, reader = cut(long + end, places)
    assert (reader.report.lines, reader.report.malformed) == (1, 1)


def test_a_text_of_the_greatest_size_is_read_though_every_character_is_escaped() -> None:
    line = json.dumps(memory(text="\x01" * 2**20)).encode()
    (part,), _ = cut(line, [])
    assert len(part.memories[0].text) == 2**20


def test_parts_are_bounded_by_rows_and_by_bytes() -> None:
    parts, _ = read(*(memory(f"k{i}") for i in range(4500)), *(edge("k1", f"k{i}") for i in range(2, 2300)))
    assert [(len(part.memories), len(part.edges)) for part in parts] == [
        (2000, 0),
        (2000, 0),
        (500, 0),
        (0, 2000),
        (0, 298),
    ]
    parts, _ = read(*(memory(f"k{i}", text="x" * 1_000_000) for i in range(10)))
    assert [len(part.memories) for part in parts] == [4, 4, 2]


LINES = [
    json.dumps(memory("ü", text="\U0001f9e0"), ensure_ascii=False).encode(),
    json.dumps(memory("b", id=X)).encode(),
    json.dumps(memory("c", vector=vector(1, 2))).encode(),
    json.dumps(edge("ü", "b"), ensure_ascii=False).encode() + b"\r",
    json.dumps(edge("b", "nowhere")).encode(),
    b"",
    b"{",
    b"\xff",
    b'{"type":"memory","key":"long","text":"' + b"x" * 150 + b'"}',
]


@settings(max_examples=150, deadline=None)
@given(
    lines=st.lists(st.sampled_from(LINES), max_size=14),
    places=st.lists(st.integers(0, 1500), max_size=12),
    end=st.sampled_from([b"", b"\n", b"\n\n"]),
)
def test_any_split_of_the_bytes_gives_the_same_parts(lines: list[bytes], places: list[int], end: bytes) -> None:
    with pytest.MonkeyPatch.context() as small:
        small.setattr(imports, "PART_ROWS", 2)
        small.setattr(imports, "PART_BYTES", 60)
        small.setattr(imports, "LONGEST_LINE", 130)
        data = b"\n".join(lines) + end
        whole, one = cut(data, [])
        pieces, other = cut(data, [min(place, len(data)) for place in places])
        single, third = cut(data, list(range(len(data))))
    assert whole == pieces == single
    assert one.report == other.report == third.report
    assert one.report.lines == len((b"\n".join(lines) + end).removesuffix(b"\n").split(b"\n")) or not data.strip()


# ── the MCP server's file ───────────────────────────────────────────────────────


def entity(name: str = "Ada", kind: str = "person", *observations: Any) -> dict[str, Any]:
    return {"type": "entity", "name": name, "entityType": kind, "observations": list(observations)}


def relation(source: str, target: str, kind: str = "knows") -> dict[str, Any]:
    return {"type": "relation", "from": source, "to": target, "relationType": kind}


def test_an_entity_becomes_a_memory_and_each_observation_another() -> None:
    (memories, edges), reader = read(
        entity("Ada", "person", "wrote notes", "liked tea", "wrote notes"),
        entity("Bab", "person"),
        relation("Ada", "Bab"),
        file_format=MCP,
    )
    assert reader.report.malformed == 0
    assert [(m.kind, m.title, m.text) for m in memories.memories] == [
        ("person", "Ada", ""),
        ("observation", "Ada", "wrote notes"),
        ("observation", "Ada", "liked tea"),
        ("person", "Bab", ""),
    ]
    keys = [m.key for m in memories.memories]
    assert keys[0] == "mcp:Ada"
    assert len(set(keys)) == 4
    assert [(e.source, e.target, e.type) for e in edges.edges] == [
        (keys[0], keys[1], "has_observation"),
        (keys[0], keys[2], "has_observation"),
        ("mcp:Ada", "mcp:Bab", "knows"),
    ]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ({"type": "entity", "entityType": "x"}, '"name"'),
        ({"type": "entity", "name": " ", "entityType": "x"}, '"name"'),
        ({"type": "entity", "name": "x"}, '"entityType"'),
        ({"type": "entity", "name": 5, "entityType": "x"}, '"name"'),
        ({**entity("x"), "observations": "text"}, "list"),
        ({**entity("x"), "observations": None}, "list"),
        (entity("x", "k", 5), "no text"),
        (entity("x", "k", {"a": 1}), "no text"),
        (entity("x", "k", ["a"]), "no text"),
        (entity("x", "k", ""), "no text"),
        (entity("x", "k" * 200), "200 bytes"),
        (b'{"type":"entity","name":"\\ud800","entityType":"k","observations":[]}', "UTF-8"),
        (b'{"type":"entity","name":"x","entityType":"k","observations":["\\udfff"]}', "UTF-8"),
        (b'{"type":"entity","name":"x","entityType":"k","observations":[' + b"[" * 100_000, "deeply"),
        (entity("Ada"), "repeats the entity of line 1"),
        (relation("Ada", "Nobody"), "neither here nor stored"),
        ({"type": "relation", "from": "Ada", "to": "Bab"}, '"relationType"'),
        ({"type": "relation", "from": ["Ada"], "to": "Bab", "relationType": "k"}, '"from"'),
        ({"type": "note"}, "must be"),
    ],
)
def test_a_malformed_mcp_line_is_named(line: bytes | dict[str, Any], why: str) -> None:
    parts, reader = read(entity(), line, entity("Bab"), file_format=MCP)
    (named,) = reader.report.malformed_lines
    assert named.line == 2
    assert why in named.reason
    assert [m.title for part in parts for m in part.memories] == ["Ada", "Bab"]


def test_names_of_any_length_have_keys_that_fit() -> None:
    long = "ü" * 2000
    parts, reader = read(
        entity(long, "k", long), entity("Bab"), relation(long, "Bab"), relation("Bab", long), file_format=MCP
    )
    assert reader.report.malformed == 0
    assert all(len(m.key.encode()) <= 1024 for m in parts[0].memories)
    assert len(parts[1].edges) == 3


def test_a_file_that_is_sealed_when_the_disk_fails_is_kept_and_stored_later(
    room: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(importing, "GO_ON_S", 0.01)
    fold, tries = room.store.fold_next, itertools.count()

    def failing(*arguments: Any) -> Any:
        if next(tries) < 3:
            failed: Future[Any] = Future()
            failed.set_exception(StoreUnavailable("the disk is full"))
            return failed
        return fold(*arguments)

    monkeypatch.setattr(room.store, "fold_next", failing)

    async def run() -> None:
        async def requests() -> AsyncIterator[ImportRequest]:
            yield ImportRequest(header=ImportHeader(space="default", format=OWN))
            yield ImportRequest(chunk=b'{"type": "memory", "key": "a", "text": "kept"}\n')

        files = room.importing()
        with pytest.raises(StoreUnavailable, match="the file is kept") as told:
            await files.run(requests())
        assert importing.KEPT in told.value.metadata
        await asyncio.wait(set(files._later))
        assert room.rows("SELECT text FROM nodes WHERE key = 'a'") == [("kept",)]
        assert "is stored" in caplog.text
        files.close()

    with caplog.at_level("INFO"):
        asyncio.run(asyncio.wait_for(run(), 20))
