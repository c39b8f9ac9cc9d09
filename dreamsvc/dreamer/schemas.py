"""What the members of a cluster have in common, as a template with slots (REQ-DREAM-009).

A pattern is a type of edge in one direction that enough members have. Where its other end is nearly always the same
memory it is a constant, else a slot: "note: works_at → Acme, lives_in → ?place". The same patterns with the same
constants are the same schema, and have the same title, by which those of earlier nights are known.

n: rows. e: edges.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.adjacency import Adjacency, by_end
from dreamsvc.dreamer.memories import NOT_WALKED, Memories
from dreamsvc.dreamer.merging import Rows, Search, Step
from dreamsvc.v1.config_pb2 import SchemaConfig

SCHEMA = "schema"
# Share of the members with a pattern that must have the same other end for a constant, or ends of one kind for a name.
NEARLY_ALL = 0.9
# Patterns of a schema, the best supported ones; fillers of a slot that are shown; characters of each.
PATTERNS = 8
EXAMPLES = 3
LABEL = 40
# Edges looked at in one step: about 3 ms.
LOOKED_AT = 4_096
# Edges of one member that are looked at in one direction: more make a hub, which has a bit of everything.
HUB = 1_024
# Three of five members are a share of 0.6, whatever their quotient is.
WHIM = 1e-9


class Schema(NamedTuple):
    """A memory to be made."""

    title: str
    text: str
    confidence: float  # mean share of the members that have a pattern, 0..1
    sources: list[int]  # rows of the members, ascending
    metadata: dict[str, Any]  # as JSON has it


class _Pattern(NamedTuple):
    type_name: str
    outgoing: bool
    fillers: dict[int, list[int]]  # by member, the rows at the other end, each once, ascending
    constant: int | None  # the row that is nearly always there
    slot: str  # name, where there is no constant

    def arrow(self) -> str:
        return f"{self.type_name} {'→' if self.outgoing else '←'}"


def extract(memories: Memories, clusters: Sequence[Rows], config: SchemaConfig) -> Search[list[Schema]]:
    """The schemas of the clusters, the best first: by confidence times members, at most `max_schemas_per_cycle`.

    Left out are those that live already as a memory of the kind "schema", and of two that are the same the worse.
    """
    kind = list(memories.kind_names).index(SCHEMA) if SCHEMA in memories.kind_names else -1
    edges = yield from _edges(memories)
    # Only supports are counted for all clusters; what a schema says is put into words for the best of them.
    ranked: list[tuple[float, int, _Shared]] = []
    looked_at = 0
    for done, cluster in enumerate(clusters):
        members = [row for row in sorted(set(cluster.tolist())) if memories.kinds[row] != kind]
        if len(members) >= config.min_cluster_size:
            shared = _shared(memories, edges, members, config.abstraction_level)
            looked_at += edges.count(members)
            if shared.patterns:
                ranked.append((-shared.confidence * len(members), done, shared))
        if looked_at > LOOKED_AT:
            looked_at = 0
            yield Step("schemas", done, len(clusters))
    ranked.sort(key=lambda entry: entry[:2])
    yield Step("schemas", len(clusters), len(clusters))
    known = {memories.titles[row] for row in np.flatnonzero(memories.alive & (memories.kinds == kind)).tolist()}
    chosen: list[Schema] = []
    for *_, shared in ranked:
        if len(chosen) == config.max_schemas_per_cycle:
            break
        patterns = _patterns(memories, edges, shared)
        yield Step("schemas", len(clusters), len(clusters))
        schema = _schema(memories, shared, patterns, config.abstraction_level)
        if schema.title not in known:
            known.add(schema.title)
            chosen.append(schema)
    return chosen


class _Edges(NamedTuple):
    """Edges by their source and by their target."""

    out: Adjacency
    into: Adjacency

    def count(self, rows: list[int]) -> int:
        return sum(self.out.count(row) + self.into.count(row) for row in rows)

    def at(self, row: int) -> list[tuple[bool, NDArray[np.int64]]]:
        """Whether outgoing, and the places of the edges."""
        return [(True, self.out.at(row)[:HUB]), (False, self.into.at(row)[:HUB])]


class _Shared(NamedTuple):
    """Members of a cluster and what enough of them have."""

    members: list[int]
    patterns: list[tuple[int, bool]]  # place of the type and whether outgoing, the best supported first
    confidence: float


def _edges(memories: Memories) -> Search[_Edges]:
    ignored = memories.types_named(NOT_WALKED)
    wanted = memories.edges_alive & (memories.src != memories.dst) & ~np.isin(memories.types, ignored)
    yield Step("schemas", 0, 1)
    # What dreams say about memories, shortcuts and links among it, is no pattern of what those say.
    wanted &= memories.trusted
    yield Step("schemas", 0, 1)
    out = yield from by_end(memories.src, wanted, len(memories.node_ids))
    into = yield from by_end(memories.dst, wanted, len(memories.node_ids))
    return _Edges(out, into)


def _shared(memories: Memories, edges: _Edges, members: list[int], least: float) -> _Shared:
    support: Counter[tuple[int, bool]] = Counter()
    for row in members:
        for outgoing, places in edges.at(row):
            # An edge that a member has twice counts once.
            support.update({(place, outgoing) for place in memories.types[places].tolist()})
    names = memories.type_names
    enough = [
        (-count, names[place], not outgoing, place)
        for (place, outgoing), count in support.items()
        if count >= least * len(members) - WHIM
    ]
    best = sorted(enough)[:PATTERNS]
    confidence = -sum(count for count, *_ in best) / (max(1, len(best)) * len(members))
    return _Shared(members, [(place, not into) for _, _, into, place in best], confidence)


def _patterns(memories: Memories, edges: _Edges, shared: _Shared) -> list[_Pattern]:
    """What is at the other ends."""
    fillers: dict[tuple[int, bool], dict[int, list[int]]] = {pattern: {} for pattern in shared.patterns}
    for row in shared.members:
        for outgoing, places in edges.at(row):
            others = (memories.dst if outgoing else memories.src)[places].tolist()
            for place, other in sorted(set(zip(memories.types[places].tolist(), others, strict=True))):
                if (by_member := fillers.get((place, outgoing))) is not None:
                    by_member.setdefault(row, []).append(other)
    taken: Counter[str] = Counter()
    patterns: list[_Pattern] = []
    for place, outgoing in shared.patterns:
        type_name, by_member = memories.type_names[place], fillers[place, outgoing]
        constant = _constant(by_member)
        slot = ""
        if constant is None:
            name = _common_kind(memories, [other for others in by_member.values() for other in others]) or type_name
            taken[name] += 1
            slot = f"?{name}" if taken[name] == 1 else f"?{name}_{taken[name]}"
        patterns.append(_Pattern(type_name, outgoing, by_member, constant, slot))
    return patterns


def _constant(by_member: dict[int, list[int]]) -> int | None:
    """The other end that nearly all of these members share; never that of a single one."""
    row, count = _most(other for others in by_member.values() for other in others)
    return row if count > 1 and count >= NEARLY_ALL * len(by_member) - WHIM else None


def _common_kind(memories: Memories, rows: list[int]) -> str:
    """The kind of nearly all of these rows, or nothing."""
    kind, count = _most(int(memories.kinds[row]) for row in rows)
    return memories.kind_names[kind] if count >= NEARLY_ALL * len(rows) - WHIM else ""


def _most(numbers: Iterable[int]) -> tuple[int, int]:
    """The most frequent number, the least of several, and how often it occurs."""
    return min(Counter(numbers).items(), key=lambda item: (-item[1], item[0]))


# ── what is told ────────────────────────────────────────────────────────────────


def _schema(memories: Memories, shared: _Shared, patterns: list[_Pattern], level: float) -> Schema:
    size = len(shared.members)
    kind = _common_kind(memories, shared.members) or "memory"
    ends = [_label(memories, row) if (row := pattern.constant) is not None else pattern.slot for pattern in patterns]
    title = f"{kind}: " + ", ".join(f"{pattern.arrow()} {end}" for pattern, end in zip(patterns, ends, strict=True))
    lines = [f"What {size} memories have in common:"]
    for pattern, end in zip(patterns, ends, strict=True):
        shown = "" if pattern.constant is not None else f", e.g. {'; '.join(_examples(memories, pattern))}"
        lines.append(f"{kind} {pattern.arrow()} {end} ({len(pattern.fillers)} of {size}){shown}")
    metadata: dict[str, Any] = {
        "slots": [_slot(memories, pattern) for pattern in patterns if pattern.constant is None],
        "patterns": [
            {
                "type": pattern.type_name,
                "direction": "out" if pattern.outgoing else "in",
                "support": len(pattern.fillers) / size,
                "other": end if pattern.constant is None else memories.id_of(pattern.constant),
            }
            for pattern, end in zip(patterns, ends, strict=True)
        ],
        "confidence": shared.confidence,
        "abstraction_level": level,
        "size": size,
    }
    return Schema(title, "\n".join(lines), shared.confidence, shared.members, metadata)


def _slot(memories: Memories, pattern: _Pattern) -> dict[str, Any]:
    others = {other for others in pattern.fillers.values() for other in others}
    return {
        "name": pattern.slot,
        "kinds": sorted({memories.kind_names[int(memories.kinds[row])] for row in others}),
        "fillers": len(others),
        "examples": _examples(memories, pattern),
    }


def _examples(memories: Memories, pattern: _Pattern) -> list[str]:
    """Labels of fillers, those of most members first, each once."""
    counts = Counter(other for others in pattern.fillers.values() for other in others)
    ranked = sorted(counts, key=lambda row: (-counts[row], row))
    return list(dict.fromkeys(_label(memories, row) for row in ranked[: 2 * EXAMPLES]))[:EXAMPLES]


def _label(memories: Memories, row: int) -> str:
    """The title of a memory or the beginning of its text, on one line."""
    words = " ".join((memories.titles[row] or memories.texts[row])[: 4 * LABEL].split()) or "(no text)"
    return words if len(words) <= LABEL else words[: LABEL - 1].rstrip() + "…"
