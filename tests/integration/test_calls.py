"""Calls over a real channel: every method answers, every mistake is told so that it can be mended."""

import asyncio
import base64
import itertools
import json
import math
import subprocess
import sys
import uuid
import zlib
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, duration_pb2, timestamp_pb2
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from dreamsvc.dream import night
from dreamsvc.dreamer.v1.operations_pb2 import BeforeImages, FoundBlindSpot, FoundBlindSpots
from dreamsvc.memory import operations
from dreamsvc.memory.blind_spots import fold_blind_spots
from dreamsvc.memory.delta import Delta
from dreamsvc.memory.fold import Fold
from dreamsvc.memory.sqlite import Connection
from dreamsvc.server.grpc_server import ADMIN_SERVICE, DREAM_SERVICE, MEMORY_SERVICE, method_names
from dreamsvc.v1 import admin_service_pb2 as admin
from dreamsvc.v1 import dream_pb2, memory_pb2
from dreamsvc.v1 import dream_service_pb2 as dreams
from dreamsvc.v1 import memory_service_pb2 as memories
from dreamsvc.v1.memory_pb2 import Edge, Memory
from tests.integration.served import Calls, InThread, refused

pytestmark = pytest.mark.integration
BUF = Path(sys.executable).with_name("buf")
SERVICES = (DREAM_SERVICE, MEMORY_SERVICE, ADMIN_SERVICE)


def errors_of(calls: Calls, name: str, request: Any) -> tuple[grpc.Call, dict[str, Any]]:
    """What a refused call gives: the call, and its details by their names."""
    method = getattr(calls.dreams, name, None) or getattr(calls.memories, name)
    streams = name in ("Export", "StreamStatus")
    with pytest.raises(grpc.RpcError) as caught:
        list(method(request, timeout=30)) if streams else method(request, timeout=30)
    call: Any = caught.value
    status = rpc_status.from_call(call)
    assert status is not None, call
    found: dict[str, Any] = {}
    for packed in status.details:
        kind = getattr(error_details_pb2, packed.TypeName().rpartition(".")[2])
        found[kind.__name__] = kind.FromString(packed.value)
    return call, found


def test_every_method_answers(filling: InThread, space: str) -> None:
    calls = filling.calls
    dream = calls.trigger(space, budget_s=0.05, blocking=True).dream
    header = memories.ImportHeader(space=space, format=memory_pb2.IMPORT_FORMAT_DREAMSVC_JSONL)

    def proposed() -> str:
        return calls.trigger(space, budget_s=0.05, blocking=True, propose=True).dream.id

    def given_up() -> str:
        found = proposed()
        calls.dreams.RejectDream(dreams.RejectDreamRequest(space=space, dream_id=found))
        return found

    finds = itertools.count(1)

    def found() -> str:
        """A find of the dream between two memories, and a place for one of them."""
        number = next(finds)

        def job(c: Connection) -> None:
            c.execute("INSERT OR REPLACE INTO positions VALUES (?,1,1,?,?)", (nodes[0], point, zlib.crc32(point)))
            row = c.execute("SELECT id FROM changes WHERE uid = ?", (uuid.UUID(dream.id).bytes,)).fetchone()
            change = operations.find(c, row[0])
            fold_blind_spots(Fold(c, change, 0, 0, change.base_seq, BeforeImages(), Delta()), part)

        store, point = filling.app.store, np.array([0.5, 0], "<f4").tobytes()
        query = "SELECT n.id FROM nodes n JOIN spaces s ON s.id = n.space WHERE s.name = ? AND n.role = 0 LIMIT 4"
        nodes = [row[0] for row in store.database.read(lambda c: c.execute(query, (space,)).fetchall())]
        part = FoundBlindSpots(blind_spots=[FoundBlindSpot(number=number, source=nodes[0], target=nodes[number])])
        store.database.write(job).result(10)
        return calls.dreams.ListBlindSpots(dreams.ListBlindSpotsRequest(space=space)).blind_spots[0].id

    found()
    box = {"type": "memory", "id": str(uuid.uuid4()), "title": "box", "role": "CONTAINER"}
    held = {"type": "memory", "key": "held", "text": "in a box", "role": "FACET", "merged_into": box["id"]}
    box["packed"] = {"bits": 8, "code": base64.b64encode(bytes([127, 0])).decode(), "scale": 0.01}
    held["vector"] = base64.b64encode(np.array([1, 0], "<f2").tobytes()).decode()
    held["packed"] = {"bits": 4, "code": base64.b64encode(bytes([7])).decode(), "scale": 0.1}
    chunk = "".join(json.dumps(line) + "\n" for line in (box, held)).encode()
    calls.memories.Import(
        iter([memories.ImportRequest(header=header), memories.ImportRequest(chunk=chunk)]), timeout=30
    )
    requests: dict[str, Any] = {
        "Trigger": dreams.TriggerRequest(space=space, dry_run=True, budget=duration_pb2.Duration(nanos=50_000_000)),
        "StreamStatus": dreams.StreamStatusRequest(space=space, dream_id=dream.id),
        "Abort": dreams.AbortRequest(space=space),
        "GetDream": dreams.GetDreamRequest(space=space, dream_id=dream.id),
        "ListDreams": dreams.ListDreamsRequest(space=space),
        "Revert": dreams.RevertRequest(space=space, dream_id=dream.id),
        "EstimateDream": dreams.EstimateDreamRequest(space=space),
        "ApproveDream": lambda: dreams.ApproveDreamRequest(space=space, dream_id=proposed()),
        "RejectDream": lambda: dreams.RejectDreamRequest(space=space, dream_id=proposed()),
        "DeleteDream": lambda: dreams.DeleteDreamRequest(space=space, dream_id=given_up()),
        "DiffDream": dreams.DiffDreamRequest(space=space, dream_id=dream.id),
        "ListBlindSpots": dreams.ListBlindSpotsRequest(space=space),
        "AcceptBlindSpot": lambda: dreams.AcceptBlindSpotRequest(space=space, id=found()),
        "RejectBlindSpot": lambda: dreams.RejectBlindSpotRequest(space=space, id=found()),
        "GetDreamMap": dreams.GetDreamMapRequest(space=space, dream_id=dream.id),
        "Generate": dreams.GenerateRequest(space=space, prompt="memory number 7"),
        "Simulate": dreams.SimulateRequest(
            memories=[Memory(key=key, text=f"something of {key}") for key in "abc"],
            edges=[Edge(source="a", target="b")],
            budget=duration_pb2.Duration(nanos=50_000_000),
        ),
        "GetStatus": dreams.GetStatusRequest(space=space),
        "Remember": memories.RememberRequest(space=space, memories=[Memory(key="new", text="something new")]),
        "Recall": memories.RecallRequest(space=space, text="something new"),
        "GetMemory": memories.GetMemoryRequest(space=space, id="new", with_edges=True),
        "ListMemories": memories.ListMemoriesRequest(space=space),
        "Forget": memories.ForgetRequest(space=space, ids=["new"]),
        "Restore": memories.RestoreRequest(space=space, ids=["new"]),
        "Unmerge": memories.UnmergeRequest(space=space, id="held"),
        "Feedback": lambda: memories.FeedbackRequest(
            space=space, recall_id=calls.recall(space, "something new, number 7").recall_id, used_ids=["new", "k7"]
        ),
        "Import": iter([memories.ImportRequest(header=header), memories.ImportRequest(chunk=b"")]),
        "Export": memories.ExportRequest(space=space),
        "GetStats": memories.GetStatsRequest(space=space),
        "GetHealth": admin.GetHealthRequest(),
        "GetConfig": admin.GetConfigRequest(),
        "ReloadConfig": admin.ReloadConfigRequest(),
    }
    assert list(requests) == [name for service in SERVICES for name in method_names(service)]
    for name, request in requests.items():
        method = next(filter(None, (getattr(stub, name, None) for stub in (calls.dreams, calls.memories, calls.admin))))
        answer = method(request() if callable(request) else request, timeout=30)
        if name in ("StreamStatus", "Export"):
            assert list(answer), name
        elif name != "Import":
            assert answer.ByteSize(), name


@pytest.mark.parametrize(
    ("name", "request_", "path"),
    [
        ("Trigger", dreams.TriggerRequest(budget=duration_pb2.Duration(seconds=-1)), "budget"),
        ("Trigger", dreams.TriggerRequest(budget=duration_pb2.Duration(seconds=1801)), "budget"),
        ("Trigger", dreams.TriggerRequest(budget=duration_pb2.Duration(seconds=1 << 60)), "budget"),
        ("Trigger", dreams.TriggerRequest(phase=99), "phase"),  # type: ignore[arg-type]
        ("Trigger", dreams.TriggerRequest(synthetic_query_count=5), "synthetic_query_count"),
        ("Trigger", dreams.TriggerRequest(space="../etc"), "space"),
        ("Trigger", dreams.TriggerRequest(space="a\nb"), "space"),
        ("Trigger", dreams.TriggerRequest(request_id="x" * 129), "request_id"),
        ("ListDreams", dreams.ListDreamsRequest(page_size=0), "page_size"),
        ("ListDreams", dreams.ListDreamsRequest(page_token="nonsense"), "page_token"),
        ("ListDreams", dreams.ListDreamsRequest(states=[99]), "states[0]"),  # type: ignore[list-item]
        ("GetDream", dreams.GetDreamRequest(), "dream_id"),
        ("ListBlindSpots", dreams.ListBlindSpotsRequest(states=[99]), "states[0]"),  # type: ignore[list-item]
        ("ListBlindSpots", dreams.ListBlindSpotsRequest(page_token="nonsense"), "page_token"),
        ("AcceptBlindSpot", dreams.AcceptBlindSpotRequest(), "id"),
        ("RejectBlindSpot", dreams.RejectBlindSpotRequest(id="x" * 37), "id"),
        ("GetDreamMap", dreams.GetDreamMapRequest(max_memories=0), "max_memories"),
        ("StreamStatus", dreams.StreamStatusRequest(space="*"), "space"),
        ("Recall", memories.RecallRequest(), "text"),
        ("Recall", memories.RecallRequest(text=" \n"), "text"),
        ("Recall", memories.RecallRequest(vector=[1.0, math.nan]), "vector[1]"),
        ("Recall", memories.RecallRequest(vector=[math.inf]), "vector[0]"),
        ("Recall", memories.RecallRequest(vector=[0.0, 0.0]), "vector"),
        ("Recall", memories.RecallRequest(text="a", limit=1001), "limit"),
        ("Recall", memories.RecallRequest(text="x" * ((1 << 20) + 1)), "text"),
        ("Recall", memories.RecallRequest(text="x", after=timestamp_pb2.Timestamp(seconds=1 << 60)), "after"),
        ("Remember", memories.RememberRequest(), "memories"),
        ("Remember", memories.RememberRequest(memories=[Memory()]), "memories[0].text"),
        ("Remember", memories.RememberRequest(memories=[Memory(text="x" * 10_000_000)]), "memories[0].text"),
        ("Remember", memories.RememberRequest(memories=[Memory(text="a", vector=[math.nan])]), "memories[0].vector[0]"),
        (
            "Remember",
            memories.RememberRequest(memories=[Memory(text="a", importance=math.inf)]),
            "memories[0].importance",
        ),
        ("Remember", memories.RememberRequest(edges=[Edge(source="a")]), "edges[0].target"),
        ("Remember", memories.RememberRequest(edges=[Edge(source="a", target="b", weight=2)]), "edges[0].weight"),
        ("ListMemories", memories.ListMemoriesRequest(page_token="nonsense"), "page_token"),
        ("Forget", memories.ForgetRequest(ids=["never remembered"]), "ids[0]"),
        ("Forget", memories.ForgetRequest(), "ids"),
        ("Feedback", memories.FeedbackRequest(recall_id="x"), "used_ids"),
        ("Feedback", memories.FeedbackRequest(used_ids=["x"]), "recall_id"),
    ],
)
def test_a_wrong_field_is_named(calls: Calls, name: str, request_: Any, path: str) -> None:
    call, details = errors_of(calls, name, request_)
    assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details["ErrorInfo"].reason == "INVALID_FIELD"
    assert details["ErrorInfo"].domain == "dreamsvc"
    assert details["ErrorInfo"].metadata["code"] == "-32602"
    assert details["BadRequest"].field_violations[0].field == path
    assert len(call.details()) < 500
    assert details["RequestInfo"].request_id == dict(call.trailing_metadata())["trace-id"]
    assert len(details["RequestInfo"].request_id) == 32


def test_a_hundred_thousand_mistakes_still_give_an_error_that_arrives(calls: Calls) -> None:
    wrong = [Edge(source="x" * 100, target="ü" * 2000, weight=7, confidence=math.nan) for _ in range(2000)]
    call, details = errors_of(calls, "Remember", memories.RememberRequest(edges=wrong))
    assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert len(details["BadRequest"].field_violations) >= 10
    unknown = [f"{i} " + "\N{SLEEPING FACE}" * 250 for i in range(1000)]
    call, details = errors_of(calls, "Forget", memories.ForgetRequest(ids=unknown))
    assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in details["BadRequest"].field_violations][:2] == ["ids[0]", "ids[1]"]


def test_queries_go_on_while_a_large_request_is_read(filling: InThread) -> None:
    edges = [Edge(source="x", target="y", weight=7) for _ in range(50_000)]
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def ask() -> int:
        """How often others had their turn from its arrival to its answer."""
        counting = asyncio.create_task(count())
        target = f"127.0.0.1:{filling.port}"
        async with grpc.aio.insecure_channel(target) as channel:
            remember = channel.unary_unary("/dreamsvc.v1.MemoryService/Remember", request_serializer=lambda body: body)
            body = memories.RememberRequest(edges=edges).SerializeToString()
            await channel.channel_ready()
            before = turns
            with pytest.raises(grpc.aio.AioRpcError) as refused_:
                await remember(body)
            counting.cancel()
            assert refused_.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            return turns - before

    assert filling.run(ask()) > 100


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("Trigger", dreams.TriggerRequest(space="nowhere")),
        ("StreamStatus", dreams.StreamStatusRequest(space="nowhere")),
        ("Abort", dreams.AbortRequest(space="nowhere")),
        ("GetDream", dreams.GetDreamRequest(space="nowhere", dream_id="x")),
        ("ListDreams", dreams.ListDreamsRequest(space="nowhere")),
        ("GetStatus", dreams.GetStatusRequest(space="nowhere")),
        ("ListBlindSpots", dreams.ListBlindSpotsRequest(space="nowhere")),
        ("AcceptBlindSpot", dreams.AcceptBlindSpotRequest(space="nowhere", id="a")),
        ("RejectBlindSpot", dreams.RejectBlindSpotRequest(space="nowhere", id="a")),
        ("GetDreamMap", dreams.GetDreamMapRequest(space="nowhere")),
        ("Recall", memories.RecallRequest(space="nowhere", text="a")),
        ("GetMemory", memories.GetMemoryRequest(space="nowhere", id="a")),
        ("ListMemories", memories.ListMemoriesRequest(space="nowhere")),
        ("Forget", memories.ForgetRequest(space="nowhere", ids=["a"])),
        ("Restore", memories.RestoreRequest(space="nowhere", ids=["a"])),
        ("Feedback", memories.FeedbackRequest(space="nowhere", recall_id="a", used_ids=["a"])),
        ("Export", memories.ExportRequest(space="nowhere")),
        ("GetStats", memories.GetStatsRequest(space="nowhere")),
    ],
)
def test_a_space_that_is_not_there_is_not_found_and_not_made(calls: Calls, name: str, request_: Any) -> None:
    call, details = errors_of(calls, name, request_)
    assert call.code() is grpc.StatusCode.NOT_FOUND
    assert 'no space "nowhere"' in call.details()
    assert details["ErrorInfo"].reason == "NOT_FOUND"
    assert "nowhere" not in calls.memories.GetStats(memories.GetStatsRequest()).spaces


def test_a_refusal_because_of_a_dream_names_it(calls: Calls, space: str) -> None:
    dream = calls.trigger(space).dream
    call, details = errors_of(calls, "Trigger", dreams.TriggerRequest(space=space))
    assert call.code() is grpc.StatusCode.ABORTED
    assert details["ErrorInfo"].reason == "DREAM_IN_PROGRESS"
    assert details["ErrorInfo"].metadata["code"] == "-32100"
    assert details["ErrorInfo"].metadata["dream_id"] == dream.id


def test_a_message_over_the_limit_is_refused_with_the_limit(calls: Calls) -> None:
    text = "x" * 1000
    for count in (20_000, 40_000):
        batch = memories.RememberRequest(memories=[Memory(text=text) for _ in range(count)])
        with pytest.raises(grpc.RpcError) as caught:
            calls.memories.Remember(batch, timeout=30)
        call: Any = caught.value
        assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "16777216" in call.details() or "33554432" in call.details()


def test_what_goes_wrong_inside_is_not_shown_but_for_a_trace_id_that_the_log_has(
    filling: InThread, space: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr(filling.app.store, "stats", broken)
    monkeypatch.setattr(filling.app.store, "export", broken)
    for name, request in (("GetStats", memories.GetStatsRequest()), ("Export", memories.ExportRequest())):
        call, details = errors_of(filling.calls, name, request)
        assert call.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in str(call.details()) + str(call.trailing_metadata()) + str(details)
        trace_id = details["RequestInfo"].request_id
        assert trace_id in call.details()
        assert trace_id in caplog.text
        assert "the secret of the house" in caplog.text


def test_a_dream_that_fails_inside_says_so_and_the_next_one_works(
    filling: InThread, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("something unforeseen")

    with monkeypatch.context() as patch:
        patch.setattr(night.snapshot_files, "write", broken)
        dream = filling.calls.trigger(space, blocking=True).dream
    assert (dream.state, dream.end_reason) == (dream_pb2.Dream.STATE_FAILED, dream_pb2.END_REASON_FAILED)
    # The kind of it: what an error says may quote what was remembered.
    assert "ValueError" in dream.message
    assert filling.calls.status(space).last_dream.id == dream.id
    after = filling.calls.trigger(space, budget_s=0.1, blocking=True).dream
    assert after.state == dream_pb2.Dream.STATE_SUCCEEDED


def test_exports_that_are_given_up_free_what_they_hold(filling: InThread) -> None:
    calls = filling.calls
    calls.remember("large", memories.RememberRequest(memories=[Memory(text=f"{i} " * 20_000) for i in range(100)]))
    for _ in range(10):
        stream = calls.memories.Export(memories.ExportRequest(space="large"))
        next(iter(stream))
        stream.cancel()
    assert calls.export("large")[0]


def test_lists_of_dreams_are_paged_and_filtered(calls: Calls, space: str) -> None:
    made = [calls.trigger(space, budget_s=0.05, blocking=True).dream.id for _ in range(3)]
    calls.trigger(space)
    made.append(calls.abort(space, discard=True).dream.id)
    refused(lambda: calls.trigger(space, phase=99))
    seen: list[str] = []
    token = ""
    while True:
        page = calls.dreams.ListDreams(dreams.ListDreamsRequest(space=space, page_size=3, page_token=token))
        seen += [dream.id for dream in page.dreams]
        token = page.next_page_token
        if not token:
            break
    assert seen == made[::-1]
    wanted = dreams.ListDreamsRequest(space=space, states=[dream_pb2.Dream.STATE_DISCARDED])
    assert [dream.id for dream in calls.dreams.ListDreams(wanted).dreams] == made[3:]


def test_the_status_tells_why_nothing_dreams(calls: Calls, space: str) -> None:
    status = calls.status(space)
    assert status.why_not_dreaming == "dreams start by Trigger only (dream.trigger.automatic is false)"
    assert status.dream_available
    assert status.embedder == "none"
    assert status.activity > 0
    assert status.start_time.seconds > 0


# ── what speaks no protos of ours ───────────────────────────────────────────────


def test_health_is_told_for_the_service_as_a_whole_and_for_each(calls: Calls) -> None:
    health = health_pb2_grpc.HealthStub(calls.channel)
    for name in ("", *(service.full_name for service in SERVICES)):
        assert (
            health.Check(health_pb2.HealthCheckRequest(service=name)).status == health_pb2.HealthCheckResponse.SERVING
        )
    watch = health.Watch(health_pb2.HealthCheckRequest())
    assert next(iter(watch)).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


@pytest.mark.parametrize("protocol", ["grpc-v1", "grpc-v1alpha"])
def test_a_tool_without_protos_lists_the_services_and_triggers_a_dream(calls: Calls, space: str, protocol: str) -> None:
    def buf(path: str, *arguments: str) -> str:
        base = [str(BUF), "curl", "--protocol", "grpc", "--http2-prior-knowledge", "--reflect-protocol", protocol]
        done = subprocess.run(
            [*base, *arguments, f"http://{calls.address}{path}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    services = buf("", "--list-services").split()
    assert {*(service.full_name for service in SERVICES), "grpc.health.v1.Health"} <= set(services)
    assert {f"grpc.reflection.{version}.ServerReflection" for version in ("v1", "v1alpha")} <= set(services)
    asked = json.dumps({"space": space, "budget": "0.1s", "blocking": True})
    answer = json.loads(buf("/dreamsvc.v1.DreamService/Trigger", "-d", asked))
    assert answer["dream"]["state"] == "STATE_SUCCEEDED"


def test_reflection_describes_our_options(calls: Calls) -> None:
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    stub = reflection_pb2_grpc.ServerReflectionStub(calls.channel)
    asked = reflection_pb2.ServerReflectionRequest(file_containing_symbol="dreamsvc.v1.TriggerRequest")
    answer = next(iter(stub.ServerReflectionInfo(iter([asked]))))
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(body)
        for body in answer.file_descriptor_response.file_descriptor_proto
    ]
    assert "dreamsvc/v1/dream_service.proto" in {file.name for file in files}


def test_a_caller_may_name_the_trace_that_a_call_belongs_to(calls: Calls, space: str) -> None:
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    sent = [("traceparent", f"00-{trace}-{span}-01")]
    _, call = calls.dreams.GetStatus.with_call(dreams.GetStatusRequest(space=space), metadata=sent)
    assert dict(call.trailing_metadata())["trace-id"] == trace
    stream = calls.memories.Export(memories.ExportRequest(space=space), metadata=sent)
    assert list(stream)
    assert dict(stream.trailing_metadata())["trace-id"] == trace
    with pytest.raises(grpc.RpcError) as caught:
        calls.dreams.GetStatus(dreams.GetStatusRequest(space="nobody"), metadata=sent)
    refusal: Any = caught.value
    assert dict(refusal.trailing_metadata())["trace-id"] == trace
    _, call = calls.dreams.GetStatus.with_call(
        dreams.GetStatusRequest(space=space), metadata=[("traceparent", f"00-{trace}-{'0' * 16}-01")]
    )
    assert dict(call.trailing_metadata())["trace-id"] != trace
