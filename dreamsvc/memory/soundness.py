"""Refuses what no honest dreamer sends, before it is staged: what is sealed must fold, whatever wrote it.

A part is looked at by itself and against no row: about the rows that it names, and about numbers that two parts of a
dream have in common, it is for the fold to say, which leaves out what does not fit.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dreamsvc.dreamer.v1.operations_pb2 import (
    Containers,
    EdgeWeights,
    Eliminations,
    Expansions,
    FoundBlindSpots,
    NewEdges,
    NewMemories,
    Operations,
    Positions,
    ReplayMarks,
    Walks,
)
from dreamsvc.errors import DreamFailed
from dreamsvc.facet_codes import code_bytes
from dreamsvc.memory.operations import PART_ROWS, size
from dreamsvc.v1 import error_reason_pb2
from dreamsvc.v1.dream_pb2 import MergeStage
from dreamsvc.v1.memory_pb2 import EdgeOrigin

MOST_BYTES = 64 * 1024 * 1024
# Replays of a memory between two checkpoints, and what the words of a memory's neighbours can count for.
MOST_REPLAYS = 1_000_000
MOST_GAIN = 1_048_576.0
# In bytes, as a memory's fields may be.
MOST_KIND, MOST_TITLE, MOST_TEXT = 128, 4096, 1_048_576
# Objects and lists in one another.
MOST_DEPTH = 16
MOST_DIMENSION = 1024
# Of vectors of about unit length: the step of a facet's code and that of a centroid, and an expanded vector's length.
MOST_SCALE, MOST_STEP, MOST_LENGTH = 16.0, 1.0, 16.0
# What a cosine of float16 numbers may be beyond 1, and a walk's point beyond the ball.
SLACK = 0.01
# Years 1 to 9999 in microseconds; 0 is unknown.
EARLIEST_US, LATEST_US = -62_135_596_800_000_000, 253_402_300_799_999_999

type Problems = Iterator[str]


def require_sound(part: Operations) -> None:
    """Raises DreamFailed, saying what is wrong, for a part that no honest dreamer sends."""
    problem = next(_problems(part), None)
    if problem is not None:
        raise DreamFailed(
            error_reason_pb2.ERROR_REASON_DREAM_CONSOLIDATION,
            f"the dreamer sent what no dream can have found; part {part.part}: {problem}",
        )


def _problems(part: Operations) -> Problems:
    kind = part.WhichOneof("kind")
    if kind is None:
        yield "it holds nothing, or what a newer dreamsvc knows"
        return
    if (weight := part.ByteSize()) > MOST_BYTES:
        yield f"it has {weight} bytes; at most {MOST_BYTES} are allowed"
    # One group of copies, and one container, is never split.
    whole = max(len(part.eliminations.eliminations), len(part.containers.containers)) == 1
    if (rows := size([part])) > PART_ROWS and not whole:
        yield f"it has {rows} rows; at most {PART_ROWS} are allowed"
    yield from _CHECKS[kind](getattr(part, kind))


def _edge_weights(edges: EdgeWeights) -> Problems:
    yield from _of_one_length(edge_ids=edges.edge_ids, weights=edges.weights, pruned=edges.pruned)
    yield from _ids("edge_ids", edges.edge_ids)
    yield from _within("weights", edges.weights, 0, 1)


def _replay_marks(marks: ReplayMarks) -> Problems:
    yield from _of_one_length(node_ids=marks.node_ids, counts=marks.counts)
    yield from _ids("node_ids", marks.node_ids)
    yield from _within("counts", marks.counts, 0, MOST_REPLAYS)


def _eliminations(part: Eliminations) -> Problems:
    for one in part.eliminations:
        if len(one.copies) != len(one.cosines):
            yield f"{len(one.copies)} copies have {len(one.cosines)} cosines"
        yield from _ids("a survivor and its copies", [one.survivor, *one.copies])
    yield from _within("cosines", _joined(one.cosines for one in part.eliminations), -1 - SLACK, 1 + SLACK)


def _containers(part: Containers) -> Problems:
    yield from _numbers(one.number for one in part.containers)
    for one in part.containers:
        yield from _text("a container's title", one.title, MOST_TITLE)
        yield from _text("a container's text", one.text, MOST_TEXT)
        if one.stage not in MergeStage.values():
            yield f"a container's stage is {one.stage}"
        if not one.members:
            yield "a container has no members"
        yield from _ids("members and what they are taken from", [*one.members, *one.replaces])
        if not one.centroid or one.bits not in (1, 2, 4, 8):
            yield f"a container has a centroid of {len(one.centroid)} numbers, and codes of {one.bits} bits"
            continue
        count = len(one.members)
        if len(one.codes) != count * code_bytes(len(one.centroid), one.bits) or len(one.scales) != 2 * count:
            yield f"{count} members have {len(one.codes)} bytes of codes and {len(one.scales)} of scales"
    scales = np.frombuffer(b"".join(one.scales for one in part.containers), "<f2")
    yield from _within("scales of codes", scales, 0, MOST_SCALE)
    yield from _within("centroids' steps", [one.centroid_scale for one in part.containers], 0, MOST_STEP)
    yield from _within("cohesion", [one.cohesion for one in part.containers], -1 - SLACK, 1 + SLACK)


def _new_memories(part: NewMemories) -> Problems:
    yield from _numbers(one.number for one in part.memories)
    yield from _within("importance", [one.importance for one in part.memories], 0, 1)
    for one in part.memories:
        if not one.kind or not (one.title.strip() or one.text.strip()):
            yield "a memory has no kind, or neither title nor text"
        yield from _text("a memory's kind", one.kind, MOST_KIND)
        yield from _text("a memory's title", one.title, MOST_TITLE)
        yield from _text("a memory's text", one.text, MOST_TEXT)
        yield from _metadata(one.metadata)


def _new_edges(edges: NewEdges) -> Problems:
    yield from _of_one_length(
        sources=edges.sources,
        targets=edges.targets,
        types=edges.types,
        weights=edges.weights,
        confidences=edges.confidences,
        origins=edges.origins,
        details=edges.details,
    )
    ends = np.asarray(edges.sources, np.int64), np.asarray(edges.targets, np.int64)
    if not (ends[0].all() and ends[1].all()):
        yield "an edge has an end without a number"
    if (ends[0] == ends[1]).any():
        yield "an edge ends where it begins"
    for kind in set(edges.types):
        if not kind:
            yield "an edge has no type"
        yield from _text("an edge's type", kind, MOST_KIND)
    yield from _within("weights", edges.weights, 0, 1)
    yield from _within("confidences", edges.confidences, 0, 1)
    if not set(edges.origins) <= set(EdgeOrigin.values()):
        yield "an edge has an origin that there is not"
    for detail in edges.details:
        if len(detail.evidence) > MOST_TEXT // 4:
            yield from _text("an edge's evidence", detail.evidence, MOST_TEXT)
        if detail.path and min(detail.path) < 1:
            yield f"a path: {min(detail.path)} is no id"
        for at_us in (detail.valid_from_us, detail.valid_to_us):
            if not EARLIEST_US <= at_us <= LATEST_US:
                yield f"a fact holds from or to {at_us} us, which is outside the years 1 to 9999"


def _expansions(part: Expansions) -> Problems:
    yield from _ids("nodes", [one.node for one in part.expansions])
    yield from _within("lengths", [one.length for one in part.expansions], 0, MOST_LENGTH)
    yield from _within("gains", _joined(one.gains for one in part.expansions), 0, MOST_GAIN)
    yield from _within("shares", _joined(one.shares for one in part.expansions), 0, 1)
    for one in part.expansions:
        if len(one.words) != len(one.gains) or len(one.peers) != len(one.shares):
            yield f"{len(one.words)} words have {len(one.gains)} gains, {len(one.peers)} peers {len(one.shares)} shares"
        if not all(one.words) or not all(one.gains):
            yield "a word is empty, or counts for nothing"
        if one.peers:
            yield from _ids("peers", one.peers)
            if not one.length:
                yield "an expanded vector has no length"


def _positions(part: Positions) -> Problems:
    yield from _ids("node_ids", part.node_ids)
    yield from _points("points", part.points, part.dimension, len(part.node_ids), within=1.0)


def _blind_spots(part: FoundBlindSpots) -> Problems:
    yield from _numbers(one.number for one in part.blind_spots)
    yield from _within("distances", [one.semantic_distance for one in part.blind_spots], -SLACK, 2 + SLACK)
    shares = [share for one in part.blind_spots for share in (one.causal_overlap, one.confidence)]
    yield from _within("overlap and confidence", shares, 0, 1 + SLACK)
    for one in part.blind_spots:
        yield from _ids("both ends of a find", (one.source, one.target))
        yield from _ids("where both ends meet", one.meeting, repeats=True)
        for line in one.evidence:
            yield from _text("a find's evidence", line, MOST_TEXT)
    walked = [one for one in part.blind_spots if one.walk or one.dimension]
    for dimension in {one.dimension for one in walked}:
        yield from _paths([one.walk for one in walked if one.dimension == dimension], dimension)


def _walks(part: Walks) -> Problems:
    yield from _ids("origins", [one.origin for one in part.walks], repeats=True)
    if part.walks:
        yield from _paths([one.points for one in part.walks], part.dimension)


_CHECKS: dict[str, Callable[[Any], Problems]] = {
    "edge_weights": _edge_weights,
    "replay_marks": _replay_marks,
    "eliminations": _eliminations,
    "containers": _containers,
    "new_memories": _new_memories,
    "new_edges": _new_edges,
    "expansions": _expansions,
    "positions": _positions,
    "blind_spots": _blind_spots,
    "walks": _walks,
}


# ── what columns hold ───────────────────────────────────────────────────────────


def _of_one_length(**columns: Sequence[Any]) -> Problems:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        yield "columns differ in length: " + ", ".join(f"{name} {length}" for name, length in lengths.items())


def _ids(what: str, ids: Sequence[int], *, repeats: bool = False) -> Problems:
    """Row ids of the store count from 1."""
    if not ids:
        return
    if min(ids) < 1:
        yield f"{what}: {min(ids)} is no id"
    elif not repeats and len(set(ids)) < len(ids):
        yield f"{what}: an id is there twice"


def _numbers(numbers: Iterable[int]) -> Problems:
    yield from _ids("numbers", list(numbers))


def _within(what: str, values: ArrayLike, least: float, most: float) -> Problems:
    """All of them finite too: nothing is between two bounds that is not a number."""
    found = np.asarray(values, np.float64)
    sound = (found >= least) & (found <= most)
    if not sound.all():
        yield f"{what}: {found[~sound][0]:g} is not between {least:g} and {most:g}"


def _joined(columns: Iterable[Iterable[float]]) -> list[float]:
    """One look at all of them takes less time than one at each."""
    return [value for column in columns for value in column]


def _paths(paths: Sequence[Sequence[float]], dimension: int) -> Problems:
    if any(dimension and len(path) % dimension for path in paths):
        yield f"a walk is not of points of {dimension} dimensions"
    points = _joined(paths)
    yield from _points("walks", points, dimension, len(points) // max(1, dimension), within=1 + SLACK)


def _points(what: str, values: ArrayLike, dimension: int, count: int, *, within: float) -> Problems:
    """Points of the ball, one after the other."""
    points: NDArray[np.float64] = np.asarray(values, np.float64)
    if not 1 <= dimension <= MOST_DIMENSION or points.size != count * dimension:
        yield f"{what}: {points.size} numbers are not {count} points of {dimension} dimensions"
    elif not (np.square(points.reshape(-1, dimension)).sum(axis=1) < within**2).all():
        yield f"{what}: a point is not inside of the ball"


def _text(what: str, text: str, most: int) -> Problems:
    # A character is at most four bytes, so most texts need not be encoded to know.
    if 4 * len(text) > most and len(text.encode()) > most:
        yield f"{what} has more than {most} bytes"


def _metadata(text: str) -> Problems:
    """A JSON object that can be stored, indexed and sent back."""
    if not text:
        return
    yield from _text("a memory's metadata", text, MOST_TEXT)
    try:
        # As it is stored: every number a float, and half of a surrogate pair, which escapes can spell, no text.
        value = json.loads(text, parse_int=float)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        yield "a memory's metadata is no JSON that can be stored"
        return
    if not isinstance(value, dict):
        yield "a memory's metadata is no JSON object"
    elif not _is_flat(value, MOST_DEPTH):
        yield f"a memory's metadata is nested more than {MOST_DEPTH} deep"


def _is_flat(value: Any, depth: int) -> bool:
    held = cast("Iterable[Any]", value.values() if isinstance(value, dict) else value)
    return depth > 0 and all(_is_flat(item, depth - 1) for item in held if isinstance(item, (dict, list)))
