"""The memories and edges of a file, as Remember takes them; nothing of it is stored."""

from collections.abc import Iterable
from typing import NamedTuple

from dreamsvc.errors import ImportMalformed
from dreamsvc.memory.imports import LineReader
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_CONTAINER, Edge, ImportFormat, Memory

SHOWN_LINES = 10
# A reader wants one to say where a memory lies; these lie nowhere.
_SPACE = "simulation"


class GraphFile(NamedTuple):
    memories: list[Memory]
    edges: list[Edge]


def read_graph(chunks: Iterable[bytes], file_format: ImportFormat.ValueType) -> GraphFile:
    """Reads a file as Import does; raises ImportMalformed.

    Containers are left out: what they hold stands for itself here, as Remember has no way to say otherwise.
    """
    reader = LineReader(_SPACE, file_format)
    parts = [part for chunk in chunks for part in reader.feed(chunk)]
    parts += reader.finish(lambda _: set())
    if reader.report.malformed:
        lines = reader.report.malformed_lines[:SHOWN_LINES]
        shown = "; ".join(f"line {line.line} {line.reason}" for line in lines)
        raise ImportMalformed(f"{reader.report.malformed} of {reader.report.lines} lines are malformed: {shown}")
    graph = GraphFile([], [])
    containers: set[str] = set()
    for part in parts:
        for memory in part.memories:
            if memory.role == MEMORY_ROLE_CONTAINER:
                containers |= {memory.id, memory.key} - {""}
                continue
            for name in ("role", "merged_into", "packed"):
                memory.ClearField(name)
            graph.memories.append(memory)
        graph.edges.extend(part.edges)
    return graph._replace(edges=[edge for edge in graph.edges if not {edge.source, edge.target} & containers])
