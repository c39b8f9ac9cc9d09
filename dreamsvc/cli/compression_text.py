"""What a night made smaller and what that cost, as people read it: rows for the record of a dream."""

from collections.abc import Callable, Iterator

from dreamsvc.cli import output
from dreamsvc.cli.output import counted, percent_text, ratio_text
from dreamsvc.v1.dream_pb2 import (
    Compression,
    Criterion,
    Lift,
    MergeStage,
    Merging,
    Quality,
    QualityGrade,
    Redundancy,
    Refusal,
    Retention,
    Shortcuts,
)

# What differs in a pair can be a whole sentence.
_DIFFERENCE_LENGTH = 40

# A label and what stands beside it; a row whose label is indented belongs to the one above.
Row = tuple[str, str]


def compression_rows(report: Compression) -> Iterator[Row]:
    yield "memories", _change(report.nodes_before, report.nodes_after, "{:,}".format)
    yield "  vectors", _change(report.vector_bytes_before, report.vector_bytes_after, output.bytes_text)
    yield "  text", _change(report.text_bytes_before, report.text_bytes_after, output.bytes_text)
    yield "  pairs with an edge", _change(report.edges_before, report.edges_after, "{:,}".format)
    yield "eliminated", redundancy_text(report.redundancy)
    for stage in report.merging:
        yield f"merged, {output.word(MergeStage, stage.stage, 'MERGE_STAGE_')}", merging_text(stage)
    yield "  facets", f"{report.facets:,}"
    yield "schemas", f"{report.schemas:,}"
    yield "superseded", counted(report.superseded, "fact", "facts")
    yield "shortcuts", shortcuts_text(report.shortcuts)
    for index, refusal in enumerate(sorted(report.refusals, key=lambda refusal: -refusal.count)):
        yield "" if index else "not merged", refusal_text(refusal)
    if report.pinned or report.kept_apart:
        yield "left alone", f"{report.pinned:,} pinned, {report.kept_apart:,} kept apart on request"
    yield from retention_rows(report.retention)
    yield "lift", lift_text(report.lift)
    yield from (("note", notice) for notice in report.notices)


def _change(before: int, after: int, text: Callable[[int], str]) -> str:
    """E.g. "1,200 -> 130 (9.2:1)"; without a ratio where it grew."""
    ratio = ratio_text(before, after) if after <= before else ""
    return f"{text(before)} -> {text(after)}" + (f" ({ratio})" if ratio else "")


def redundancy_text(redundancy: Redundancy) -> str:
    text = f"{redundancy.eliminated:,}"
    if redundancy.eliminated:
        text += f", {redundancy.survivors:,} stand for them"
    found = [
        f"{counted(redundancy.pairs, 'near pair', 'near pairs')}",
        f"{redundancy.pairs_by_text:,} more by their texts" if redundancy.pairs_by_text else "",
        f"{redundancy.overflow:,} left for a later night" if redundancy.overflow else "",
    ]
    return f"{text} ({', '.join(part for part in found if part)})"


def merging_text(stage: Merging) -> str:
    """E.g. "1,148 -> 1,002: 60 containers of 206 memories, mean cohesion 0.93; 4 dropped by the gate"."""
    text = f"{stage.nodes_before:,} -> {stage.nodes_after:,}"
    if stage.containers:
        members = counted(stage.members, "memory", "memories")
        text += f": {counted(stage.containers, 'container', 'containers')} of {members}"
        text += f", mean cohesion {stage.mean_cohesion:.2f}"
    notes = [
        f"; {counted(stage.dropped, 'cluster', 'clusters')} dropped by the gate" if stage.dropped else "",
        f"; {stage.left_out:,} left out by the evidence" if stage.left_out else "",
    ]
    return text + "".join(notes)


def shortcuts_text(shortcuts: Shortcuts) -> str:
    """E.g. "12 made of 340 paths in 8,000 walks; rejected: 300 low confidence, 28 exists"."""
    text = f"{shortcuts.created:,} made of {shortcuts.paths:,} paths in {shortcuts.walks:,} walks"
    rejected = sorted(shortcuts.rejected.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{number:,} {reason.replace('_', ' ')}" for reason, number in rejected if number)
    return text + (f"; rejected: {listed}" if listed else "")


def refusal_text(refusal: Refusal) -> str:
    """E.g. "number: 41 pairs, e.g. “5 km” against “7 km” (cosine 0.97)"."""
    text = f"{refusal.kind.replace('_', ' ')}: {counted(refusal.count, 'pair', 'pairs')}"
    if not refusal.examples:
        return text
    example = refusal.examples[0]
    # One side says nothing where the other only says more.
    left, right = (
        f"“{output.shortened(side, _DIFFERENCE_LENGTH)}”" if side else "nothing"
        for side in (example.left, example.right)
    )
    return f"{text}, e.g. {left} against {right} (cosine {example.cosine:.2f})"


def retention_rows(retention: Retention) -> Iterator[Row]:
    if not retention.measured:
        yield "retention", "not measured" + ("; merging was refused" if retention.refused else "")
        return
    found = f"{percent_text(retention.before)} -> {percent_text(retention.after)}"
    yield "retention", f"{found} of {retention.cues:,} cues found within {retention.token_budget:,} tokens"
    interval = f"{percent_text(retention.loss_low)} to {percent_text(retention.loss_high)}"
    loss = f"{percent_text(retention.information_loss)} (95 % interval {interval})"
    yield "  loss", f"{loss}, {_verdict(retention)}"
    if retention.retries or retention.clusters_dropped:
        times = counted(retention.retries, "time", "times")
        dropped = counted(retention.clusters_dropped, "cluster", "clusters")
        yield "  gate", f"refused {times}, {dropped} dropped"


def _verdict(retention: Retention) -> str:
    limit = percent_text(retention.max_information_loss)
    if retention.refused:
        return f"the limit is {limit}: merging was refused, nothing of it is kept"
    # The gate looks at the upper end.
    return f"{'within' if retention.loss_high <= retention.max_information_loss else 'above'} the limit of {limit}"


def lift_text(lift: Lift) -> str:
    """E.g. "54.0 % -> 56.1 % recall@5 over 250 hidden pairs: +2.1 points (95 % interval -0.4 to +4.6)"."""
    if not lift.measured:
        pairs = counted(lift.pairs, "trusted pair is", "trusted pairs are")
        return "not measured" + (f": {pairs} too few" if lift.pairs else "")
    found = f"{percent_text(lift.before)} -> {percent_text(lift.after)} recall@5"
    interval = f"95 % interval {lift.lift_low:+.1f} to {lift.lift_high:+.1f}"
    pairs = counted(lift.pairs, "hidden pair", "hidden pairs")
    return f"{found} over {pairs}: {lift.lift_points:+.1f} points ({interval})"


def quality_rows(quality: Quality) -> Iterator[Row]:
    grade = output.word(QualityGrade, quality.grade, "QUALITY_GRADE_")
    yield "score", f"{quality.overall_score:.2f}" + (f", {grade}" if grade else "")
    # Beside each the part of the score that it belongs to; what could not be measured was neither reached nor missed.
    aims = [
        ("compression achieved", quality.compression_achieved, "compression"),
        ("information preserved", quality.information_preserved, "preservation"),
        ("exploration adequate", quality.exploration_adequate, "exploration"),
    ]
    yield "reached", ", ".join(name for name, is_so, _ in aims if is_so) or "nothing"
    missed = [name for name, is_so, part in aims if not is_so and part not in quality.not_measured]
    if missed:
        yield "not reached", ", ".join(missed)
    if quality.not_measured:
        yield "not measured", ", ".join(part.replace("_", " ") for part in quality.not_measured)
    yield from (("  " + one.name, criterion_text(one)) for one in quality.criteria)
    if quality.HasField("quality_improvement"):
        yield "recall@5", f"{quality.quality_improvement * 100:+.1f} points, by the night's own probes"
    yield from (("advice", recommendation) for recommendation in quality.recommendations)


def criterion_text(one: Criterion) -> str:
    """E.g. "9.2 memories a node, needs 5, full at 10: 0.92 of 1, 30 % of the score"."""
    match one.name:
        case "compression":
            value, required, full = f"{one.value:.1f} memories a node", f"{one.required:g}", f"{one.full:g}"
        case "exploration":
            value, required, full = counted(int(one.value), "find", "finds"), f"{one.required:g}", f"{one.full:g}"
        case _:
            shown = (percent_text(number) for number in (one.value, one.required, one.full))
            value, required, full = shown
    share = f"{one.share * 100:.0f} % of the score"
    return (
        f"{value}, needs {required}, full at {full}: {one.score:.2f}, {share}"
        if one.measured
        else f"not measured, {share}"
    )
