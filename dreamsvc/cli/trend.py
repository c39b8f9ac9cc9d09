"""How nights went over time: one row of numbers a night, and what a row of them looks like in a table."""

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from dreamsvc_client import Client
from google.protobuf.timestamp_pb2 import Timestamp

from dreamsvc.cli import output
from dreamsvc.v1.dream_pb2 import Dream, DreamReport

PAGE = 100
# Of a table; of more nights the last ones are drawn.
SPARKS = 40
BARS = "▁▂▃▄▅▆▇█"
ABSENT = "·"


class Night(NamedTuple):
    """A night that was applied. What it did not measure is None."""

    dream: Dream
    score: float | None
    # Recall@5 of the night's own queries, and of its cues within the token budget; shares.
    recall_before: float | None
    recall_after: float | None
    retention_before: float | None
    retention_after: float | None
    information_loss: float | None
    memories_a_node: float | None
    memories_replayed: float
    edges_strengthened: float
    edges_weakened: float
    edges_pruned: float
    links: float | None
    blind_spots: float | None
    semantic_leap: float | None
    coverage: float | None
    # Of its last wake; None where nothing woke it.
    wake_latency_ms: float | None
    nrem_seconds: float
    rem_seconds: float
    busy_share: float


# Columns of Night, what they are called, and how their numbers read.
SHOWN = (
    ("score", "score", "number"),
    ("recall_before", "recall@5 before", "share"),
    ("recall_after", "recall@5 after", "share"),
    ("retention_before", "retention before", "share"),
    ("retention_after", "retention after", "share"),
    ("information_loss", "information loss", "share"),
    ("memories_a_node", "memories a node", "number"),
    ("memories_replayed", "replayed", "count"),
    ("edges_strengthened", "edges stronger", "count"),
    ("edges_weakened", "edges weaker", "count"),
    ("edges_pruned", "edges pruned", "count"),
    ("links", "links", "count"),
    ("blind_spots", "blind spots", "count"),
    ("semantic_leap", "semantic leap", "number"),
    ("coverage", "coverage of walks", "share"),
    ("wake_latency_ms", "wake latency", "ms"),
    ("nrem_seconds", "NREM", "seconds"),
    ("rem_seconds", "REM", "seconds"),
    ("busy_share", "device busy", "share"),
)


class Row(NamedTuple):
    """One metric over all nights."""

    name: str
    last: str
    median: str
    least: str
    most: str
    spark: str


def fetch(client: Client, space: str, limit: int, after: Timestamp | None, before: Timestamp | None) -> list[Dream]:
    """The last nights of a space, the oldest first; dry runs are not kept and so are none of them."""
    found: list[Dream] = []
    token = ""
    while len(found) < limit:
        size = min(PAGE, limit - len(found))
        page = client.dreams(space, page_size=size, page_token=token, after=after, before=before)
        found += page.dreams
        token = page.next_page_token
        if not token:
            break
    return found[::-1]


def nights_of(dreams: Iterable[Dream]) -> list[Night]:
    return [_night(dream) for dream in dreams if dream.state == Dream.STATE_SUCCEEDED]


def _night(dream: Dream) -> Night:
    report = dream.report
    explored, kept, quality = report.exploration, report.compression.retention, report.quality
    walked = explored.queries > 0
    compression = (one.value for one in quality.criteria if one.name == "compression" and one.measured)
    before, after = _recall(report)
    return Night(
        dream=dream,
        score=quality.overall_score if quality.grade else None,
        recall_before=before,
        recall_after=after,
        retention_before=kept.before if kept.measured else None,
        retention_after=kept.after if kept.measured else None,
        information_loss=kept.information_loss if kept.measured else None,
        memories_a_node=next(compression, None),
        memories_replayed=report.nodes_replayed,
        edges_strengthened=report.edges_strengthened,
        edges_weakened=report.edges_weakened,
        edges_pruned=report.edges_pruned,
        links=explored.linking.links if report.HasField("exploration") else None,
        blind_spots=explored.verified if walked else None,
        semantic_leap=explored.average_semantic_leap if explored.average_semantic_leap else None,
        coverage=explored.coverage if walked else None,
        wake_latency_ms=report.wake_latency_ms if report.wakes else None,
        nrem_seconds=report.nrem_seconds,
        rem_seconds=report.rem_seconds,
        busy_share=report.busy_share,
    )


def _recall(report: DreamReport) -> tuple[float | None, float | None]:
    """Recall@5 before and after by the queries that the night made itself; what was refused changed nothing."""
    linking = report.exploration.linking
    probe = linking.probe
    asked = probe.single + probe.pairs
    if not probe.measured or not asked:
        return None, None
    before = (probe.single * probe.single_before + probe.pairs * probe.pairs_before) / asked
    after = (probe.single * probe.single_after + probe.pairs * probe.pairs_after) / asked
    return before, before if linking.refused else after


def rows(nights: Sequence[Night]) -> Iterator[Row]:
    """Metrics that at least one of the nights has."""
    for field, name, kind in SHOWN:
        values: list[float | None] = [getattr(night, field) for night in nights]
        known = [value for value in values if value is not None]
        if known:
            yield Row(
                name=name,
                last=told(known[-1], kind),
                median=told(statistics.median(known), kind),
                least=told(min(known), kind),
                most=told(max(known), kind),
                spark=sparkline(values[-SPARKS:]),
            )


def sparkline(values: Sequence[float | None]) -> str:
    """One bar a value, from the least to the most of them; a point where there is none."""
    known = [value for value in values if value is not None]
    if not known:
        return ABSENT * len(values)
    least, width = min(known), max(known) - min(known)

    def bar(value: float) -> str:
        # Where nothing changes, it is a line in the middle.
        return BARS[3] if width <= 0 else BARS[min(len(BARS) - 1, int((value - least) / width * len(BARS)))]

    return "".join(ABSENT if value is None else bar(value) for value in values)


def told(value: float, kind: str) -> str:
    match kind:
        case "share":
            return output.percent_text(value)
        case "count":
            return f"{value:,.0f}"
        case "ms":
            return f"{value:.1f} ms"
        case "seconds":
            return output.seconds_text(value)
        case _:
            return f"{value:.2f}"


def summary(dreams: Sequence[Dream]) -> str:
    """E.g. "20 nights from 2026-03-01 to 2026-03-20: 18 succeeded, 2 failed"."""
    states = Counter(output.word(Dream.State, dream.state, "STATE_") for dream in dreams)
    counted = ", ".join(f"{number} {state}" for state, number in states.most_common())
    first, last = (output.time_text(dreams[place].start_time)[:10] for place in (0, -1))
    return f"{output.counted(len(dreams), 'night', 'nights')} from {first} to {last}: {counted}"
