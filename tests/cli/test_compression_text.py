"""How the compression and the quality of a night read."""

from collections.abc import Iterable

import pytest

from dreamsvc.cli import compression_text, output, report_tables
from dreamsvc.v1.dream_pb2 import (
    MERGE_STAGE_CONSERVATIVE,
    MERGE_STAGE_TOPIC,
    QUALITY_GRADE_GOOD,
    Compression,
    DreamReport,
    Exploration,
    Fault,
    Lift,
    Merging,
    Quality,
    Redundancy,
    Refusal,
    RefusedPair,
    Retention,
    Shortcuts,
)

RETENTION = Retention(
    measured=True,
    cues=1000,
    before=0.61,
    after=0.602,
    information_loss=0.0131,
    loss_low=0,
    loss_high=0.031,
    token_budget=512,
    max_information_loss=0.15,
)
NIGHT = Compression(
    nodes_before=1200,
    nodes_after=130,
    vector_bytes_before=1_843_200,
    vector_bytes_after=230_400,
    text_bytes_before=412_000,
    text_bytes_after=401_000,
    edges_before=3400,
    edges_after=0,
    redundancy=Redundancy(pairs=61, pairs_by_text=9, eliminated=52, survivors=40, overflow=3),
    merging=[
        Merging(
            stage=MERGE_STAGE_CONSERVATIVE,
            containers=60,
            members=206,
            nodes_before=1148,
            nodes_after=1002,
            left_out=12,
            mean_cohesion=0.93,
        ),
        Merging(stage=MERGE_STAGE_TOPIC, nodes_before=1002, nodes_after=1002, dropped=1),
    ],
    facets=1100,
    shortcuts=Shortcuts(walks=8000, paths=340, created=12, rejected={"exists": 28, "low_confidence": 1300, "none": 0}),
    schemas=2,
    superseded=1,
    refusals=[
        Refusal(kind="extra", count=1, examples=[RefusedPair(left="", right="at noon", cosine=0.96)]),
        Refusal(kind="number", count=41, examples=[RefusedPair(left="5 km", right="7 km", cosine=0.971)]),
    ],
    retention=RETENTION,
    lift=Lift(measured=False),
    pinned=4,
    kept_apart=2,
    notices=["12 memories have no vector"],
)


def told(rows: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{label} | {value}" for label, value in rows]


def test_a_night_is_told_line_by_line() -> None:
    assert told(compression_text.compression_rows(NIGHT)) == [
        "memories | 1,200 -> 130 (9.2:1)",
        "  vectors | 1.8 MB -> 230.4 kB (8.0:1)",
        "  text | 412.0 kB -> 401.0 kB (1.0:1)",
        "  pairs with an edge | 3,400 -> 0",
        "eliminated | 52, 40 stand for them (61 near pairs, 9 more by their texts, 3 left for a later night)",
        "merged, conservative | 1,148 -> 1,002: 60 containers of 206 memories, mean cohesion 0.93; "
        "12 left out by the evidence",
        "merged, topic | 1,002 -> 1,002; 1 cluster dropped by the gate",
        "  facets | 1,100",
        "schemas | 2",
        "superseded | 1 fact",
        "shortcuts | 12 made of 340 paths in 8,000 walks; rejected: 1,300 low confidence, 28 exists",
        "not merged | number: 41 pairs, e.g. “5 km” against “7 km” (cosine 0.97)",
        " | extra: 1 pair, e.g. nothing against “at noon” (cosine 0.96)",
        "left alone | 4 pinned, 2 kept apart on request",
        "retention | 61.0 % -> 60.2 % of 1,000 cues found within 512 tokens",
        "  loss | 1.3 % (95 % interval 0.0 % to 3.1 %), within the limit of 15.0 %",
        "lift | not measured",
        "note | 12 memories have no vector",
    ]


def test_a_night_that_changed_nothing_claims_nothing() -> None:
    assert told(compression_text.compression_rows(Compression())) == [
        "memories | 0 -> 0",
        "  vectors | 0 B -> 0 B",
        "  text | 0 B -> 0 B",
        "  pairs with an edge | 0 -> 0",
        "eliminated | 0 (0 near pairs)",
        "  facets | 0",
        "schemas | 0",
        "superseded | 0 facts",
        "shortcuts | 0 made of 0 paths in 0 walks",
        "retention | not measured",
        "lift | not measured",
    ]


def changed(**fields: object) -> Retention:
    made = Retention()
    made.CopyFrom(RETENTION)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("retention", "verdict"),
    [
        (changed(loss_high=0.15), "within the limit of 15.0 %"),
        (changed(loss_high=0.16), "above the limit of 15.0 %"),
        (changed(refused=True), "the limit is 15.0 %: merging was refused, nothing of it is kept"),
    ],
)
def test_the_verdict_looks_at_the_upper_end_of_the_loss(retention: Retention, verdict: str) -> None:
    rows = dict(compression_text.retention_rows(retention))
    assert rows["  loss"].endswith(f"%), {verdict}")
    assert "  gate" not in rows


def test_what_the_gate_dropped_is_told() -> None:
    rows = dict(compression_text.retention_rows(changed(retries=1, clusters_dropped=4)))
    assert rows["  gate"] == "refused 1 time, 4 clusters dropped"


def test_a_lift_has_its_pairs_and_its_interval() -> None:
    lift = Lift(measured=True, pairs=250, before=0.54, after=0.561, lift_points=2.1, lift_low=-0.4, lift_high=4.6)
    assert compression_text.lift_text(lift) == (
        "54.0 % -> 56.1 % recall@5 over 250 hidden pairs: +2.1 points (95 % interval -0.4 to +4.6)"
    )


def test_quality_tells_what_was_missed_and_not_what_could_not_be_measured() -> None:
    quality = Quality(
        overall_score=0.834,
        grade=QUALITY_GRADE_GOOD,
        information_preserved=True,
        recommendations=["Give it more time."],
        not_measured=["exploration"],
    )
    assert told(compression_text.quality_rows(quality)) == [
        "score | 0.83, good",
        "reached | information preserved",
        "not reached | compression achieved",
        "not measured | exploration",
        "advice | Give it more time.",
    ]


def test_what_grew_has_no_ratio() -> None:
    rows = dict(compression_text.compression_rows(Compression(edges_before=5, edges_after=101)))
    assert rows["  pairs with an edge"] == "5 -> 101"


def test_a_report_without_compression_has_no_table() -> None:
    assert list(report_tables.tables(DreamReport())) == []
    # Nor one of a REM phase that did not begin.
    assert list(report_tables.tables(DreamReport(exploration=Exploration()))) == []
    assert len(list(report_tables.tables(DreamReport(compression=NIGHT, quality=Quality())))) == 2


def test_errors_that_a_dream_got_over_are_told_first(capsys: pytest.CaptureFixture[str]) -> None:
    faults = [Fault(what="killed by signal 9", place="replay", recovery="retry")]
    output.console().print(next(report_tables.tables(DreamReport(faults=faults))))
    assert "tried again: killed by signal 9" in " ".join(capsys.readouterr().out.split())


def test_a_long_note_takes_no_room_from_the_labels(capsys: pytest.CaptureFixture[str]) -> None:
    report = DreamReport(compression=Compression(notices=["why \x1b[2Jnot " * 60]))
    output.console().print(next(report_tables.tables(report)))
    printed = capsys.readouterr().out
    assert "\n  pairs with an edge  0 -> 0" in printed
    assert "\x1b" not in printed


@pytest.mark.parametrize(
    ("before", "after", "ratio"),
    [(1200, 130, "9.2:1"), (0, 5, ""), (5, 0, ""), (5, 5, "1.0:1"), (10_000, 1, "10,000.0:1")],
)
def test_a_ratio_needs_two_numbers(before: int, after: int, ratio: str) -> None:
    assert output.ratio_text(before, after) == ratio
