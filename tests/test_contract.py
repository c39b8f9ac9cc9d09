"""The contract: every rule holds for every request, whatever comes in."""

import math
from typing import Any

from google.protobuf import duration_pb2, struct_pb2, timestamp_pb2
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc import contract
from dreamsvc.errors import InvalidFields
from dreamsvc.v1 import dream_service_pb2, memory_service_pb2
from dreamsvc.v1.dream_service_pb2 import ListDreamsRequest, TriggerRequest
from dreamsvc.v1.memory_pb2 import Edge, Memory
from dreamsvc.v1.memory_service_pb2 import ForgetRequest, RememberRequest

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200) | st.sampled_from(["", "default", "a" * 2000])
doubles = st.floats(width=64) | st.sampled_from([0.0, 1.0, 0.5])
floats = st.floats(width=32)
stamps = st.builds(
    timestamp_pb2.Timestamp,
    seconds=st.integers(-(1 << 63), (1 << 63) - 1),
    nanos=st.integers(-(1 << 31), (1 << 31) - 1),
)
durations = st.builds(
    duration_pb2.Duration, seconds=st.integers(-(1 << 63), (1 << 63) - 1), nanos=st.integers(-(1 << 31), (1 << 31) - 1)
)
memories = st.builds(
    Memory,
    id=texts,
    key=texts,
    kind=texts,
    text=texts,
    aliases=st.lists(texts, max_size=70),
    vector=st.lists(floats, max_size=5),
    importance=st.none() | doubles,
    event_time=st.none() | stamps,
    metadata=st.none() | st.just(struct_pb2.Struct(fields={"a": struct_pb2.Value(number_value=math.nan)})),
)
edges = st.builds(Edge, source=texts, target=texts, type=texts, weight=st.none() | doubles, confidence=doubles)
triggers = st.builds(
    TriggerRequest,
    space=texts,
    phase=st.integers(-5, 10),
    budget=st.none() | durations,
    synthetic_query_count=st.none() | st.integers(0, (1 << 32) - 1),
    seed=st.none() | st.integers(0, (1 << 64) - 1),
    request_id=texts,
)
remembers = st.builds(
    RememberRequest,
    space=st.just("default") | texts,
    memories=st.lists(memories, max_size=4),
    edges=st.lists(edges, max_size=4),
)


def wrong(message: Message) -> dict[str, str]:
    try:
        contract.check(message)
    except InvalidFields as error:
        return dict(error.violations)
    return {}


def at(message: Any, path: str) -> Any:
    """What a path such as memories[3].importance leads to; raises AttributeError where there is no such field."""
    for step in path.split("."):
        name, _, index = step.partition("[")
        message = getattr(message, name)
        if index:
            message = message[int(index.rstrip("]"))]
    return message


@settings(max_examples=150, deadline=None)
@given(triggers | remembers)
def test_a_check_names_fields_that_there_are_and_never_crashes(message: Any) -> None:
    for path, text in wrong(message).items():
        at(message, path)
        assert text
        assert len(text) < 400


@settings(max_examples=150, deadline=None)
@given(triggers | remembers)
def test_filling_in_is_done_once_and_breaks_nothing_that_held(message: Message) -> None:
    before = wrong(message)
    contract.fill(message)
    once = message.SerializeToString(deterministic=True)
    contract.fill(message)
    assert message.SerializeToString(deterministic=True) == once
    assert wrong(message).keys() <= before.keys()


@settings(max_examples=150, deadline=None)
@given(remembers)
def test_what_passes_holds_every_rule(message: RememberRequest) -> None:
    contract.fill(message)
    if wrong(message):
        return
    for memory in message.memories:
        assert 0 <= memory.importance <= 1
        assert all(map(math.isfinite, memory.vector))
        assert len(memory.aliases) <= 64
        assert memory.kind
        memory.event_time.ToDatetime()
    for edge in message.edges:
        assert edge.source
        assert edge.target
        assert 0 <= edge.weight <= 1
        assert edge.type


def test_every_request_of_the_api_can_be_filled_and_checked_empty() -> None:
    for file in (dream_service_pb2, memory_service_pb2):
        for name in file.DESCRIPTOR.message_types_by_name:
            message = getattr(file, name)()
            contract.fill(message)
            for path, text in wrong(message).items():
                assert text == "is required", (name, path)


def test_defaults_are_what_the_protos_say() -> None:
    request = TriggerRequest()
    contract.fill(request)
    assert (request.space, request.abort_on_query) == ("default", True)
    assert not request.HasField("synthetic_query_count")
    assert not request.HasField("budget")
    assert not request.HasField("seed")
    memory = RememberRequest(memories=[Memory()], edges=[Edge()])
    contract.fill(memory)
    assert (memory.memories[0].kind, memory.memories[0].importance) == ("note", 0.5)
    assert (memory.edges[0].type, memory.edges[0].weight, memory.edges[0].confidence) == ("related", 0.5, 1.0)


def test_a_value_that_was_set_is_kept_also_where_it_is_nothing() -> None:
    request = TriggerRequest(abort_on_query=False)
    contract.fill(request)
    assert request.abort_on_query is False
    edge = Edge(source="a", target="b", weight=0)
    contract.fill(edge)
    assert edge.weight == 0


def test_the_place_of_each_mistake_is_told() -> None:
    request = RememberRequest(
        space="not a space",
        memories=[Memory(), Memory(importance=2, vector=[0, math.inf], text="x" * (1 << 21))],
        edges=[Edge(source="a")],
    )
    assert wrong(request).keys() == {
        "space",
        "memories[1].importance",
        "memories[1].vector[1]",
        "memories[1].text",
        "edges[0].target",
    }
    assert wrong(ForgetRequest()) == {"ids": "is required"}
    assert wrong(ForgetRequest(ids=["x"] * 10_001)) == {"ids": "has 10001 items; at most 10000 are allowed"}
    assert wrong(ListDreamsRequest(states=[4, 77])).keys() == {"states[1]"}  # type: ignore[list-item]
    assert wrong(TriggerRequest(budget=duration_pb2.Duration(seconds=-1))) == {
        "budget": "is -1 s; must be at least 0.05 s"
    }
