"""What fuzzing found: bytes and values from outside that broke something once."""

import gzip
import json
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.proof import parts
from dreamsvc import config, entropy, snapshot_files
from dreamsvc.errors import ImportMalformed, InvalidFields, StoreCorrupt
from dreamsvc.memory import embedding_endpoint, manifest
from dreamsvc.memory.embedder import EmbedderUnavailable
from dreamsvc.memory.embedding_endpoint import EndpointEmbedder
from dreamsvc.memory.imports import LineReader
from dreamsvc.memory.sqlite import Connection
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import (
    AcceptBlindSpotRequest,
    DiffDreamRequest,
    GetDreamMapRequest,
    ListBlindSpotsRequest,
)
from dreamsvc.v1.memory_pb2 import IMPORT_FORMAT_DREAMSVC_JSONL, Memory
from tests.memory.conftest import Room

# ── import files ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"type":"edge","source":"a","target":"b","weight":' + "9" * 400 + "}", "too large"),
        ('{"type":"memory","key":"a","text":"x","metadata":{"n":' + "9" * 400 + "}}", "too large"),
        ('{"type":"memory","key":"a","text":"x","\\ud800":1}', "unknown fields: ?"),
        ('{"type":"memory","key":"a","text":"x","role":"\\ud800"}', "role"),
        ('{"type":"memory","key":"a","text":"x","metadata":' + '{"a":' * 50 + "1" + "}" * 50 + "}", ""),
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5000, "is no JSON"),
    ],
)
def test_a_line_that_no_encoder_writes_is_refused_by_its_number(room: Room, line: str, said: str) -> None:
    before = room.digest()
    with pytest.raises(ImportMalformed, match="line 2 ") as refused:
        room.import_(f'{{"type":"memory","key":"k","text":"good"}}\n{line}\n'.encode())
    assert said in refused.value.message
    assert room.digest() == before


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_where_a_file_is_cut_makes_no_difference(size: int) -> None:
    lines = [
        '{"type":"memory","key":"k","text":"naïve 中文"}',
        "",
        '{"type":"memory"',
        " ",
        '{"type":"memory","key":"l","text":"x"}',
    ]
    data = "\r\n".join(lines).encode()

    def read(chunks: list[bytes]) -> tuple[list[bytes], Any]:
        reader = LineReader("s", IMPORT_FORMAT_DREAMSVC_JSONL)
        found = [part for chunk in chunks for part in reader.feed(chunk)]
        found += reader.finish(lambda names: set())
        return [memory.SerializeToString() for part in found for memory in part.memories], reader.report

    assert read([data[at : at + size] for at in range(0, len(data), size)]) == read([data])


# ── configuration ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 10_000,
        "x = " + "{a=" * 10_000,
        "[server]\nport = " + "9" * 5000,
        "[dream]\nenabled = 0x" + "f" * 10_000,
        "[dream]\nhold_spaces = 0x" + "f" * 10_000,
        "[store]\nrequest_id_hours = 0x" + "f" * 10_000,
        "[dream]\nenabled = " + "[" * 300 + "]" * 300,
    ],
)
def test_a_configuration_that_python_chokes_on_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "dreamsvc.toml"
    file.write_text(text)
    with pytest.raises(InvalidFields) as refused:
        config.load(file)
    assert all(path and message for path, message in refused.value.violations)


# ── what is read back from disk ─────────────────────────────────────────────────


def test_an_error_leaves_no_reader_behind_that_sees_the_past(room: Room) -> None:
    room.remember(*(Memory(key=f"k{i}", text="x") for i in range(50)))

    def break_off(connection: Connection) -> None:
        for _ in connection.execute("SELECT id FROM nodes"):
            raise StoreCorrupt("in the middle of its rows")

    with pytest.raises(StoreCorrupt) as held:
        room.store.database.read(break_off)
    room.remember(Memory(key="k50", text="y"))
    for _ in range(4):
        assert room.rows("SELECT count(*) FROM nodes") == [(51,)]
    assert held.value.message


def test_a_message_that_cannot_be_read_back_is_damage_of_the_store(room: Room) -> None:
    room.remember(*(Memory(key=f"k{i}", text="x") for i in range(3)))
    room.dream(parts.blind_spots(0, (1, 2, True)))
    room.execute("UPDATE blind_spots SET body=?", b"\xff\xff")
    with pytest.raises(StoreCorrupt, match="cannot be read"):
        room.store.list_blind_spots(ListBlindSpotsRequest(space="default", page_size=5))
    (spot,) = room.rows("SELECT uid FROM blind_spots")[0]
    with pytest.raises(StoreCorrupt, match="cannot be read"):
        room.store.accept_blind_spot(AcceptBlindSpotRequest(space="default", id=entropy.uuid_text(spot))).result(10)


def test_a_damaged_part_is_shown_to_nobody(room: Room) -> None:
    room.remember(*(Memory(key=f"k{i}", text="x") for i in range(3)))
    change = room.dream(parts.positions(0, {1: (0.5, 0.5)}), parts.walks(1, 1, 2), parts.blind_spots(2, (1, 2, True)))
    (body,) = room.rows("SELECT body FROM dreams WHERE change=?", change)[0]
    dream = Dream.FromString(body).id
    room.execute(
        "UPDATE change_parts SET body=CAST(substr(body, 1, length(body) - 1) || x'00' AS BLOB) WHERE change=?", change
    )
    with pytest.raises(StoreCorrupt, match="checksum"):
        room.journal.diff(DiffDreamRequest(space="default", dream_id=dream, page_size=10))
    with pytest.raises(StoreCorrupt, match="checksum"):
        room.store.dream_map(GetDreamMapRequest(space="default", dream_id=dream, max_memories=10))


def test_an_expansion_that_makes_no_sense_keeps_nobody_from_starting(room: Room) -> None:
    room.remember(*(Memory(key=f"k{i}", text="x") for i in range(3)))
    room.dream(parts.expansions(0, parts.expansion(1, {"far": 1.0}, {})))
    for body in (parts.expansion(1, {"far": 1.0}, {}), None):
        if body is not None:
            body.words.append("odd")
        raw = b"\xff\xff" if body is None else body.SerializeToString()
        room.execute("UPDATE expansions SET body=?, crc=?", raw, zlib.crc32(raw))
        room.reopen(snapshot=False)
        assert len(room.find("x")) == 3


@pytest.mark.parametrize("name", ["weights", "node_ids", "dense.units", "kind_names"])
def test_a_snapshot_whose_arrays_do_not_fit_together_counts_as_absent(room: Room, name: str) -> None:
    room.remember(*(Memory(key=f"k{i}", text="x", vector=[1.0, i]) for i in range(3)))
    room.close()
    (shot,) = room.snapshots.glob("start-*")
    arrays = dict(snapshot_files.read(shot) or {})
    seq = snapshot_files.shows(shot)
    assert seq is not None
    arrays = {key: np.array(array) for key, array in arrays.items() if key != name}
    snapshot_files.write(shot, seq, arrays)
    room.open()
    room.in_order()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"format": 4, "seq": 1e400}', "\x00"])
def test_a_snapshots_manifest_may_hold_anything(text: str, tmp_path: Path) -> None:
    (tmp_path / snapshot_files.MANIFEST).write_text(text)
    assert snapshot_files.read(tmp_path) is None
    assert snapshot_files.shows(tmp_path) is None


@pytest.mark.parametrize("told", ["[" * 100_000, {"schema": float("inf")}, {"made_at": "9" * 50}, {"spaces": [[]]}])
def test_a_backups_manifest_may_hold_anything(told: Any, tmp_path: Path) -> None:
    body = told
    if isinstance(told, dict):
        sealed: dict[str, Any] = told
        body = json.dumps(
            {"format": manifest.FORMAT, **sealed, "manifest_sha256": manifest.seal(manifest.FORMAT, sealed)}
        )
    (tmp_path / manifest.NAME).write_text(body)
    with pytest.raises(StoreCorrupt, match="use another backup"):
        manifest.read(tmp_path)


# ── the embedding endpoint ──────────────────────────────────────────────────────


@pytest.fixture
def swelling() -> Iterator[str]:
    """An endpoint that answers more than it takes to send it."""
    body = gzip.compress(bytes(8 * 1024 * 1024))

    class Served(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Served)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_endpoint_cannot_answer_without_end(swelling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_endpoint, "_MOST_BYTES", 1024 * 1024)
    with pytest.raises(EmbedderUnavailable, match="more than 1048576 bytes"):
        EndpointEmbedder(url=swelling, model="m", api_key_env="", timeout_s=10)
