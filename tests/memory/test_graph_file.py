"""The memories and edges of a file, read without a store."""

import base64
import json
from typing import Any

import pytest

from dreamsvc import entropy
from dreamsvc.errors import ImportMalformed
from dreamsvc.memory.graph_file import read_graph
from dreamsvc.v1.memory_pb2 import IMPORT_FORMAT_DREAMSVC_JSONL, IMPORT_FORMAT_MCP_MEMORY


def jsonl(*lines: dict[str, Any]) -> list[bytes]:
    """In chunks that end within lines."""
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    return [data[start : start + 50] for start in range(0, len(data), 50)]


def test_an_export_is_read_without_its_containers() -> None:
    container, facet = entropy.uuid_for("container"), entropy.uuid_for("facet")
    code = base64.b64encode(b"\x01").decode()
    held = {"text": "one of them", "role": "FACET", "merged_into": container}
    graph = read_graph(
        jsonl(
            {"type": "space", "embedder": "client"},
            {"type": "memory", "id": container, "role": "CONTAINER", "packed": {"bits": 8, "code": code, "scale": 0.5}},
            {"type": "memory", "id": facet, **held, "packed": {"bits": 4, "code": code, "scale": 0.5}},
            {"type": "memory", "key": "plain", "text": "alone", "importance": 0.9},
            {"type": "edge", "source": "plain", "target": facet, "edge_type": "SEES", "weight": 0.7},
            {"type": "edge", "source": container, "target": "plain"},
        ),
        IMPORT_FORMAT_DREAMSVC_JSONL,
    )
    assert [(memory.id or memory.key, memory.text) for memory in graph.memories] == [
        (facet, "one of them"),
        ("plain", "alone"),
    ]
    assert not graph.memories[0].role
    assert not graph.memories[0].merged_into
    assert not graph.memories[0].HasField("packed")
    assert [(edge.source, edge.target, edge.type, edge.weight) for edge in graph.edges] == [
        ("plain", facet, "SEES", 0.7)
    ]


def test_the_file_of_the_mcp_memory_server_is_read() -> None:
    graph = read_graph(
        jsonl(
            {"type": "entity", "name": "Ann", "entityType": "person", "observations": ["likes tea"]},
            {"type": "entity", "name": "Bob", "entityType": "person", "observations": []},
            {"type": "relation", "from": "Ann", "to": "Bob", "relationType": "knows"},
        ),
        IMPORT_FORMAT_MCP_MEMORY,
    )
    assert [(memory.title, memory.text) for memory in graph.memories] == [
        ("Ann", ""),
        ("Ann", "likes tea"),
        ("Bob", ""),
    ]
    assert [edge.type for edge in graph.edges] == ["has_observation", "knows"]


def test_a_malformed_file_is_refused_with_its_lines() -> None:
    with pytest.raises(ImportMalformed, match="1 of 2 lines are malformed: line 2 names a memory"):
        read_graph(
            jsonl({"type": "memory", "key": "a", "text": "x"}, {"type": "edge", "source": "a", "target": "b"}),
            IMPORT_FORMAT_DREAMSVC_JSONL,
        )
