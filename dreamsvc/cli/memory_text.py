"""One memory and its edges, as people read them."""

import json
from collections.abc import Sequence

from google.protobuf import json_format

from dreamsvc.cli import output
from dreamsvc.v1 import memory_pb2
from dreamsvc.v1.memory_pb2 import Edge, EdgeOrigin, Memory, MemoryRole


def mark(memory: Memory) -> str:
    """What stands before a memory in a list, e.g. "(forgotten) "; empty for an ordinary one."""
    marks = [
        "forgotten" if memory.HasField("delete_time") else "",
        output.word(MemoryRole, memory.role, "MEMORY_ROLE_"),
    ]
    said = ", ".join(part for part in marks if part)
    return f"({said}) " if said else ""


def print_memory(memory: Memory) -> None:
    times = {
        "happened": memory.event_time,
        "  last": memory.event_end_time,
        "remembered": memory.create_time,
        "changed": memory.update_time,
        "recalled": memory.access_time,
        "forgotten": memory.delete_time,
    }
    output.print_pairs(
        [
            ("id", memory.id),
            ("key", memory.key),
            ("kind", memory.kind),
            ("title", memory.title),
            ("aliases", ", ".join(memory.aliases)),
            ("importance", f"{memory.importance:.3g}{', pinned' if memory.pinned else ''}"),
            ("role", _role_text(memory)),
            *((label, output.time_text(stamp)) for label, stamp in times.items() if stamp.ByteSize()),
            ("counts", f"recalled {_times(memory.access_count)}, replayed {_times(memory.replay_count)}"),
            ("metadata", json.dumps(json_format.MessageToDict(memory.metadata)) if memory.metadata.fields else ""),
        ]
    )
    if memory.text:
        print()
        output.print_text(memory.text)


def _times(number: int) -> str:
    return output.counted(number, "time", "times")


def _role_text(memory: Memory) -> str:
    apart = "dreams keep it apart" if memory.kept_apart else ""
    match memory.role:
        case memory_pb2.MEMORY_ROLE_CONTAINER:
            told = "a container; recall answers with what it holds"
        case memory_pb2.MEMORY_ROLE_FACET:
            told = f"a facet of the container {memory.merged_into}"
        case memory_pb2.MEMORY_ROLE_FOLDED:
            told = f"a copy; {memory.merged_into} stands for it"
        case memory_pb2.MEMORY_ROLE_REPLACED:
            told = f"a container whose members lie in {memory.merged_into} now"
        case _:
            # A newer server may know more roles.
            told = output.word(MemoryRole, memory.role, "MEMORY_ROLE_")
    return ", ".join(part for part in (told, apart) if part)


def print_edges(edges: Sequence[Edge]) -> None:
    if not edges:
        return
    listed = output.table("from", "type", "to", ">weight", ">confidence", "origin", "dream")
    for edge in edges:
        listed.add_row(
            output.plain(edge.source),
            output.plain(edge.type) + (" (gone)" if edge.HasField("delete_time") else ""),
            output.plain(edge.target),
            f"{edge.weight:.4f}",
            f"{edge.confidence:.2f}",
            output.word(EdgeOrigin, edge.origin, "EDGE_ORIGIN_"),
            edge.changed_by_dream,
        )
    print()
    output.console().print(listed)
    # A column of sentences would leave no room for the ids.
    for edge in edges:
        if note := _note(edge):
            output.print_text(f"{edge.source} -{edge.type}-> {edge.target}: {note}")


def _note(edge: Edge) -> str:
    """What a dream knows of an edge that it made: the path it spares, when a fact held, the evidence."""
    parts = [
        f"shortcut of {max(0, len(edge.path) - 1)} edges" if edge.is_amortized_shortcut else "",
        f"held from {output.time_text(edge.valid_from)}" if edge.HasField("valid_from") else "",
        f"held until {output.time_text(edge.valid_to)}" if edge.HasField("valid_to") else "",
        output.shortened(edge.evidence, 80),
    ]
    return "; ".join(part for part in parts if part)
