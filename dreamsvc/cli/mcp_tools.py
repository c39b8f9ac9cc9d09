"""The tools that an agent sees over MCP (REQ-DREAM-018, 030): each is one call of the service, and nothing more."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dreamsvc_client import Client
from google.protobuf import json_format
from google.protobuf.message import Message

from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.memory_pb2 import Memory

type Arguments = Mapping[str, Any]

PHASES = {
    "nrem": dream_pb2.DREAM_PHASE_NREM,
    "rem": dream_pb2.DREAM_PHASE_REM,
    "full_cycle": dream_pb2.DREAM_PHASE_FULL_CYCLE,
}
_SPACE = {"type": "string", "description": "The space of the memory", "default": "default"}
_TEXT = {"type": "string", "minLength": 1}


class Tool(NamedTuple):
    """One tool: what it is for, its arguments as a JSON schema, the call that it makes."""

    description: str
    schema: dict[str, Any]
    call: Callable[[Client, Arguments], dict[str, Any]]
    # It changes nothing.
    reads: bool = False


def with_defaults(tool: Tool, arguments: Arguments) -> dict[str, Any]:
    """The arguments, and the schema's default for each that was not given."""
    properties: dict[str, dict[str, Any]] = tool.schema["properties"]
    filled = {name: rule["default"] for name, rule in properties.items() if "default" in rule}
    return {**filled, **arguments}


def _schema(properties: dict[str, dict[str, Any]], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _told(message: Message) -> dict[str, Any]:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def _trigger(client: Client, given: Arguments) -> dict[str, Any]:
    answer = client.trigger(
        space=given["space"],
        phase=PHASES[given["phase"]],
        budget_s=60.0 * given["duration_minutes"],
        synthetic_query_count=given["synthetic_query_count"],
        blocking=given["blocking"],
        abort_on_query=given["abort_on_query"],
    )
    dream = answer.dream
    return {"dream_id": dream.id, "resumed": answer.resumed, "phase": given["phase"], "dream": _told(dream)}


def _status(client: Client, given: Arguments) -> dict[str, Any]:
    if given["dream_id"]:
        return {"dream": _told(client.dream(given["dream_id"], space=given["space"]))}
    return _told(client.status(space=given["space"]))


def _abort(client: Client, given: Arguments) -> dict[str, Any]:
    return _told(client.abort(space=given["space"], discard=given["discard"]))


def _recall(client: Client, given: Arguments) -> dict[str, Any]:
    return _told(client.recall(given["query"], space=given["space"], limit=given["limit"]))


def _remember(client: Client, given: Arguments) -> dict[str, Any]:
    memory = Memory(text=given["text"], key=given["key"], importance=given["importance"])
    return _told(client.remember([memory], space=given["space"]))


TOOLS = {
    "trigger_dream": Tool(
        "Trigger memory consolidation dream cycle",
        _schema(
            {
                "phase": {"type": "string", "enum": list(PHASES), "default": "full_cycle"},
                "duration_minutes": {"type": "integer", "minimum": 1, "maximum": 10, "default": 5},
                "synthetic_query_count": {"type": "integer", "minimum": 10, "maximum": 500, "default": 100},
                "blocking": {"type": "boolean", "default": False},
                "abort_on_query": {"type": "boolean", "default": True},
                "space": _SPACE,
            }
        ),
        _trigger,
    ),
    "get_dream_status": Tool(
        "What the service does now and why it does not dream; with dream_id one dream and its report",
        _schema({"dream_id": {"type": "string", "default": ""}, "space": _SPACE}),
        _status,
        reads=True,
    ),
    "abort_dream": Tool(
        "Wake the memory at once; the dream goes on from its checkpoint later, or is given up with discard",
        _schema({"discard": {"type": "boolean", "default": False}, "space": _SPACE}),
        _abort,
    ),
    "recall_memories": Tool(
        "Find memories by what they say",
        _schema(
            {
                "query": _TEXT,
                "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 10},
                "space": _SPACE,
            },
            "query",
        ),
        _recall,
        reads=True,
    ),
    "remember": Tool(
        "Store one memory; with a key that is known, change it",
        _schema(
            {
                "text": _TEXT,
                "key": {"type": "string", "default": ""},
                "importance": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5},
                "space": _SPACE,
            },
            "text",
        ),
        _remember,
    ),
}
