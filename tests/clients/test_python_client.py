"""The thin Python client against a server that does as it is told."""

import gzip
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from dreamsvc_client import Client, DreamsvcCallError, calls, detect_format, dreams
from google.rpc import code_pb2

from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import (
    AbortResponse,
    Closing,
    GetStatusResponse,
    Heartbeat,
    PresentState,
    ProgressMade,
    StreamStatusResponse,
    TriggerResponse,
)
from dreamsvc.v1.memory_pb2 import IMPORT_FORMAT_DREAMSVC_JSONL, IMPORT_FORMAT_MCP_MEMORY, ImportReport, Memory
from dreamsvc.v1.memory_service_pb2 import (
    ExportResponse,
    ExportSummary,
    ImportResponse,
    RecallResponse,
    RememberResponse,
)
from tests.clients.fake_server import FakeServer, Refusal, unavailable


def at_once(failures: int) -> float:
    return 0.0


@pytest.fixture
def caller(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr(calls, "backoff_s", at_once)
    with Client(fake.target, timeout_s=5) as made:
        yield made


def progress(sequence: int) -> StreamStatusResponse:
    return StreamStatusResponse(sequence=sequence, progress_made=ProgressMade())


def closing(sequence: int) -> StreamStatusResponse:
    return StreamStatusResponse(sequence=sequence, closing=Closing(reason=Closing.REASON_DREAM_ENDED))


def test_an_error_brings_its_reason_hint_fields_delay_and_trace_id(fake: FakeServer, caller: Client) -> None:
    fake.answers(
        "Remember",
        Refusal(
            code_pb2.INVALID_ARGUMENT,
            "two fields are wrong",
            "ERROR_REASON_INVALID_FIELD",
            hint="Correct the fields that are listed.",
            violations=[("memories[3].importance", "is 2; must be at most 1"), ("space", "is empty")],
            retry_after_s=3,
            trace_id="4bf9",
        ),
    )
    with pytest.raises(DreamsvcCallError) as caught:
        caller.remember([Memory(text="x")])
    error = caught.value
    assert error.reason == "INVALID_FIELD"
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.message == "two fields are wrong"
    assert error.hint == "Correct the fields that are listed."
    assert error.violations == (("memories[3].importance", "is 2; must be at most 1"), ("space", "is empty"))
    assert error.retry_after_s == 3
    assert error.trace_id == "4bf9"
    assert not error.unreachable


def test_no_server_at_all_is_told_as_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "backoff_s", at_once)
    with Client("127.0.0.1:1", attempts=2) as nobody, pytest.raises(DreamsvcCallError) as caught:
        nobody.status()
    assert caught.value.unreachable


def test_a_change_is_tried_again_with_the_same_request_id(fake: FakeServer, caller: Client) -> None:
    fake.answers("Trigger", unavailable(), unavailable(), TriggerResponse(dream=Dream(id="d")))
    assert caller.trigger(budget_s=1.5, seed=0).dream.id == "d"
    sent = fake.sent("Trigger")
    assert len(sent) == 3
    assert len({request.request_id for request in sent}) == 1
    assert sent[0].request_id
    assert (sent[0].budget.seconds, sent[0].budget.nanos) == (1, 500_000_000)
    assert sent[0].HasField("seed")
    assert not sent[0].HasField("abort_on_query")


def test_two_changes_have_two_request_ids(fake: FakeServer, caller: Client) -> None:
    fake.answers("Remember", RememberResponse(ids=["a"]))
    caller.remember([Memory(text="x")])
    caller.remember([Memory(text="x")])
    first, second = fake.sent("Remember")
    assert first.request_id != second.request_id


def test_an_abort_is_not_tried_again(fake: FakeServer, caller: Client) -> None:
    fake.answers("Abort", unavailable(), AbortResponse())
    with pytest.raises(DreamsvcCallError):
        caller.abort()
    assert len(fake.sent("Abort")) == 1


@pytest.mark.parametrize(
    ("code", "reason"),
    [(code_pb2.ABORTED, "DREAM_IN_PROGRESS"), (code_pb2.UNAVAILABLE, "EMBEDDER_UNAVAILABLE"), (code_pb2.INTERNAL, "")],
)
def test_what_a_moment_does_not_mend_is_not_tried_again(
    fake: FakeServer, caller: Client, code: int, reason: str
) -> None:
    fake.answers("Recall", Refusal(code, "no", reason), RecallResponse())
    with pytest.raises(DreamsvcCallError):
        caller.recall("x")
    assert len(fake.sent("Recall")) == 1


def test_a_server_that_shuts_down_is_asked_again(fake: FakeServer, caller: Client) -> None:
    fake.answers("GetStatus", Refusal(code_pb2.UNAVAILABLE, "bye", "SHUTTING_DOWN"), GetStatusResponse(version="2"))
    assert caller.status().version == "2"


def test_a_broken_watch_goes_on_after_the_last_event(fake: FakeServer, caller: Client) -> None:
    present = StreamStatusResponse(sequence=6, present=PresentState())
    fake.streams(
        "StreamStatus",
        [progress(5), progress(6), unavailable()],
        [present, progress(6), progress(7), closing(8)],
    )
    events = list(caller.watch("s", "d", after_sequence=4))
    assert [(event.sequence, event.WhichOneof("event")) for event in events] == [
        (5, "progress_made"),
        (6, "progress_made"),
        (6, "present"),
        (7, "progress_made"),
        (8, "closing"),
    ]
    assert [(request.space, request.dream_id, request.after_sequence) for request in fake.sent("StreamStatus")] == [
        ("s", "d", 4),
        ("s", "d", 6),
    ]


def test_a_watch_that_ends_without_a_closing_is_taken_up_again(fake: FakeServer, caller: Client) -> None:
    beat = StreamStatusResponse(sequence=1, heartbeat=Heartbeat())
    fake.streams("StreamStatus", [progress(1)], [beat, closing(2)])
    assert [event.WhichOneof("event") for event in caller.watch()] == ["progress_made", "heartbeat", "closing"]


def test_a_watch_gives_up_after_bounded_tries(fake: FakeServer, caller: Client) -> None:
    fake.streams("StreamStatus", [progress(1), unavailable()], [unavailable()])
    with pytest.raises(DreamsvcCallError) as caught:
        list(caller.watch())
    assert caught.value.unreachable
    assert len(fake.sent("StreamStatus")) == dreams.RECONNECT_ATTEMPTS


def test_a_watch_of_an_unknown_dream_is_not_repeated(fake: FakeServer, caller: Client) -> None:
    fake.streams("StreamStatus", [Refusal(code_pb2.NOT_FOUND, "no such dream", "NOT_FOUND")])
    with pytest.raises(DreamsvcCallError, match="NOT_FOUND"):
        list(caller.watch(dream_id="d"))
    assert len(fake.sent("StreamStatus")) == 1


OWN_LINE = b'{"type": "memory", "text": "x"}\n'
MCP_LINE = b'{"type": "entity", "name": "x", "entityType": "y", "observations": []}\n'


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (OWN_LINE, IMPORT_FORMAT_DREAMSVC_JSONL),
        (MCP_LINE, IMPORT_FORMAT_MCP_MEMORY),
        (b"no json\n\n[]\n" + MCP_LINE, IMPORT_FORMAT_MCP_MEMORY),
        (b"", IMPORT_FORMAT_DREAMSVC_JSONL),
        (b"\xff\xfe\n", IMPORT_FORMAT_DREAMSVC_JSONL),
    ],
)
def test_the_format_is_told_by_the_first_line_that_can_be_read(
    tmp_path: Path, content: bytes, told: int, packed: bool
) -> None:
    path = tmp_path / "memory"
    path.write_bytes(gzip.compress(content) if packed else content)
    assert detect_format(path) == told


@pytest.mark.parametrize("packed", [False, True])
def test_an_import_sends_the_header_and_then_the_unpacked_bytes(
    fake: FakeServer, caller: Client, tmp_path: Path, packed: bool
) -> None:
    content = OWN_LINE * 30_000
    path = tmp_path / "memory.jsonl"
    path.write_bytes(gzip.compress(content) if packed else content)
    fake.answers("Import", unavailable(), ImportResponse(report=ImportReport(lines=30_000)))
    steps: list[tuple[int, int]] = []
    report = caller.import_file(path, "s", dry_run=True, progress=lambda sent, total: steps.append((sent, total)))
    assert report.lines == 30_000
    first, second = fake.sent("Import")
    header = second[0].header
    assert (header.space, header.format, header.dry_run) == ("s", IMPORT_FORMAT_DREAMSVC_JSONL, True)
    assert header.request_id == first[0].header.request_id
    assert b"".join(part.chunk for part in second[1:]) == content
    size = path.stat().st_size
    assert steps[-1] == (size, size)
    assert all(0 <= sent <= total == size for sent, total in steps)


def test_a_torn_gzip_file_is_an_error_of_the_file(fake: FakeServer, caller: Client, tmp_path: Path) -> None:
    path = tmp_path / "memory.jsonl.gz"
    path.write_bytes(gzip.compress(OWN_LINE * 10 + bytes(range(256)) * 4000)[:-500])
    fake.answers("Import", ImportResponse())
    with pytest.raises(OSError, match="torn"):
        caller.import_file(path)


def exported(*chunks: bytes, digest: str = "") -> list[ExportResponse]:
    whole = digest or hashlib.sha256(b"".join(chunks)).hexdigest()
    return [*(ExportResponse(chunk=chunk) for chunk in chunks), ExportResponse(summary=ExportSummary(digest=whole))]


def test_an_export_writes_the_bytes_that_came(fake: FakeServer, caller: Client, tmp_path: Path) -> None:
    fake.streams("Export", exported(b"one\n", b"two\n"))
    counts: list[int] = []
    caller.export_to(tmp_path / "plain.jsonl", progress=counts.append)
    caller.export_to(tmp_path / "packed.jsonl.gz")
    target = io.BytesIO()
    caller.export_to(target)
    assert (tmp_path / "plain.jsonl").read_bytes() == b"one\ntwo\n"
    assert gzip.decompress((tmp_path / "packed.jsonl.gz").read_bytes()) == b"one\ntwo\n"
    assert target.getvalue() == b"one\ntwo\n"
    assert counts == [4, 8]


def test_an_export_that_breaks_leaves_the_old_file(fake: FakeServer, caller: Client, tmp_path: Path) -> None:
    path = tmp_path / "memory.jsonl"
    path.write_bytes(b"old")
    fake.streams("Export", [ExportResponse(chunk=b"half"), unavailable()])
    with pytest.raises(DreamsvcCallError):
        caller.export_to(path)
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("memory.jsonl", b"old")]


def test_an_export_with_another_digest_is_an_error_and_leaves_the_old_file(
    fake: FakeServer, caller: Client, tmp_path: Path
) -> None:
    path = tmp_path / "memory.jsonl"
    path.write_bytes(b"old")
    fake.streams("Export", exported(b"damaged", digest="00"))
    with pytest.raises(DreamsvcCallError, match="damaged"):
        caller.export_to(path)
    assert path.read_bytes() == b"old"
