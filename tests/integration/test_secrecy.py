"""What users say is in no log, in no error of others, and no token is in any file (API-10)."""

import contextlib
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory, struct_pb2
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from grpc_reflection.v1alpha import reflection_pb2

from dreamsvc import bearer_tokens
from dreamsvc.clock import Clock
from dreamsvc.server.grpc_server import ADMIN_SERVICE, DREAM_SERVICE, MEMORY_SERVICE
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_service_pb2 import GetStatusRequest, TriggerRequest
from dreamsvc.v1.memory_pb2 import Edge, Memory
from dreamsvc.v1.memory_service_pb2 import GetStatsRequest, ImportHeader, ImportRequest, RememberRequest
from tests.integration.served import CONVERGE, AsProcess

pytestmark = pytest.mark.integration
SPACE = "secrecy"
METHODS: list[MethodDescriptor] = [*DREAM_SERVICE.methods, *MEMORY_SERVICE.methods, *ADMIN_SERVICE.methods]
CANARY = "qzcanary"
LOUD = {"telemetry": {"log_level": "debug", "log_format": "json"}, "security": {"auth": "required"}}


class Canaries:
    """Texts that are nowhere else, each with a number; all of them have a word in common."""

    def __init__(self) -> None:
        self._numbers = count()

    def __call__(self) -> str:
        return f"{CANARY}{next(self._numbers)}x"

    def fill(self, message: Message, depth: int = 0) -> Message:
        """A canary in every text of a message, and of those in it; its space is left alone."""
        for field in message.DESCRIPTOR.fields:
            if field.name == "space" or depth > 3:
                continue
            part: Any = getattr(message, field.name)
            if isinstance(part, struct_pb2.Struct):
                part["session"] = self()
            elif field.type == FieldDescriptor.TYPE_STRING:
                part.append(self()) if field.is_repeated else setattr(message, field.name, self())
            elif field.type == FieldDescriptor.TYPE_BYTES:
                setattr(message, field.name, json.dumps({"type": "memory", "text": self(), "wrong": self()}).encode())
            elif field.message_type is not None and field.message_type.file.package == "dreamsvc.v1":
                self.fill(part.add() if field.is_repeated else part, depth + 1)
        return message


class Callers:
    def __init__(self, service: AsProcess, token: str) -> None:
        self.channel = service.calls.channel
        self.token = token

    def call(self, method: MethodDescriptor, body: bytes, token: str) -> str:
        """All that a caller is told, as text."""
        path = f"/{method.containing_service.full_name}/{method.name}"
        metadata = [("authorization", f"Bearer {token}"), ("x-note", CANARY), ("traceparent", CANARY)]
        try:
            if method.client_streaming:
                self.channel.stream_unary(path)(iter([body, body]), 20, metadata)
            elif method.server_streaming:
                call = self.channel.unary_stream(path)(body, 20, metadata)
                next(iter(call), None)
                call.cancel()
            else:
                self.channel.unary_unary(path)(body, 20, metadata)
        except grpc.RpcError as error:
            return f"{error.details()} {error.trailing_metadata()}"  # type: ignore[attr-defined]
        return ""


def bodies(method: MethodDescriptor, canary: Canaries) -> Iterator[bytes]:
    """Requests with canaries all over: as they should be, in ways that the contract refuses, and no requests at all."""
    kind = message_factory.GetMessageClass(method.input_type)
    fields = method.input_type.fields_by_name
    good = canary.fill(kind())
    if "space" in fields:
        setattr(good, "space", SPACE)  # noqa: B010
    yield good.SerializeToString()
    bad = canary.fill(kind())
    if "space" in fields:
        setattr(bad, "space", f"{canary()} is no name of a space\n")  # noqa: B010
    yield bad.SerializeToString()
    yield b"\xff" + canary().encode()
    if method.name == "Import":
        yield ImportRequest(header=ImportHeader(space=SPACE, format=1, request_id=canary())).SerializeToString()
    for name, field in fields.items():
        if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated:
            long = kind()
            setattr(long, name, canary() * 200)
            yield long.SerializeToString()


def tokens_in(path: Path) -> dict[str, str]:
    """One for everything, one that holds nowhere, one for another space."""
    made: dict[str, str] = {}
    for name, scopes, spaces in (
        ("all", ["admin"], ["*"]),
        ("gone", ["admin"], ["*"]),
        ("elsewhere", ["admin"], ["elsewhere"]),
        ("reader", ["memory:read"], [SPACE]),
    ):
        one = bearer_tokens.make(name=name, scopes=scopes, spaces=spaces, now_us=Clock().now_us(), expire_us=None)
        bearer_tokens.add(path, one)
        made[name] = one.text
    bearer_tokens.revoke(path, "gone")
    return made


def test_what_users_say_is_in_no_log_and_no_token_is_in_a_file(tmp_path: Path) -> None:
    canary, store = Canaries(), tmp_path / "memory.db"
    tokens = tokens_in(tmp_path / "memory.db.tokens")
    tokens |= {"bad": f"dsvc_{CANARY}", "no bearer of ours": CANARY}
    told_others: list[str] = []
    with AsProcess(store, CONVERGE, LOUD) as service:
        callers = Callers(service, tokens["all"])
        good = [("authorization", f"Bearer {tokens['all']}")]
        memories = [Memory(key=f"{canary()}-{i}", text=f"{canary()} tells of tea {i}.") for i in range(30)]
        edges = [Edge(source=memories[i].key, target=memories[i - 1].key, weight=0.5) for i in range(30)]
        request = RememberRequest(space=SPACE, memories=memories, edges=edges)
        service.calls.memories.Remember(request, metadata=good)
        trigger = TriggerRequest(space=SPACE, phase=dream_pb2.DREAM_PHASE_FULL_CYCLE, blocking=True, fresh=True)
        trigger.budget.FromMilliseconds(3000)
        dream = service.calls.dreams.Trigger(trigger, metadata=good, timeout=60).dream
        assert dream.report.nodes_replayed or dream.end_time.seconds
        for method in METHODS:
            for body in bodies(method, canary):
                callers.call(method, body, tokens["all"])
                told_others += [callers.call(method, body, tokens[name]) for name in tokens if name != "all"]
        reflect = callers.channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        asked = reflection_pb2.ServerReflectionRequest(file_containing_symbol=canary()).SerializeToString()
        for metadata in (good, [("authorization", CANARY)]):
            with contextlib.suppress(grpc.RpcError):
                list(reflect(iter([asked]), 20, metadata))
        with contextlib.suppress(grpc.RpcError):
            callers.channel.unary_unary(f"/{CANARY}/{CANARY}")(CANARY.encode(), 20, good)
        status = service.calls.dreams.GetStatus(GetStatusRequest(space=SPACE), metadata=good)
        assert status.space == SPACE
        log = service.end()
    assert log.count("\n") > 3
    assert "shutting down" in log
    secrets = [CANARY, *(text for name, text in tokens.items() if name not in ("bad", "no bearer of ours"))]
    for secret in secrets:
        assert _around(log, secret) == []
    # What a caller sent itself it may see again, but no token.
    for secret in (text for text in tokens.values() if text != CANARY):
        told = [text for text in told_others if secret in text]
        assert told == []
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "memory.db.tokens" for path in files)
    for path in files:
        content = path.read_bytes()
        assert [name for name in ("all", "gone", "elsewhere") if tokens[name].encode() in content] == [], path
    assert CANARY.encode() not in (tmp_path / "memory.db.tokens").read_bytes()


def test_what_was_remembered_is_in_no_error_of_others(tmp_path: Path) -> None:
    tokens = tokens_in(tmp_path / "memory.db.tokens")
    with AsProcess(tmp_path / "memory.db", LOUD) as service:
        callers = Callers(service, tokens["all"])
        memories = [Memory(key=f"secretkey{i}", text=f"secrettext{i}") for i in range(3)]
        good = [("authorization", f"Bearer {tokens['all']}")]
        service.calls.memories.Remember(RememberRequest(space=SPACE, memories=memories), metadata=good)
        for method in METHODS:
            body = RememberRequest(space=SPACE).SerializeToString()
            for name in ("elsewhere", "gone"):
                told = callers.call(method, body, tokens[name])
                assert "secretkey" not in told
                assert "secrettext" not in told
        elsewhere = [("authorization", f"Bearer {tokens['elsewhere']}")]
        with pytest.raises(grpc.RpcError) as caught:
            service.calls.memories.GetStats(GetStatsRequest(space=SPACE), metadata=elsewhere)
        refusal: Any = caught.value
        assert refusal.code() is grpc.StatusCode.NOT_FOUND


def _around(log: str, secret: str) -> list[str]:
    """The lines of a log that hold a secret."""
    return [line[:600] for line in log.splitlines() if secret in line]
