"""What a REM phase linked and found, as people read it: rows for the record of a dream."""

from collections.abc import Iterator

from dreamsvc.cli.compression_text import Row, lift_text
from dreamsvc.cli.output import counted, percent_text
from dreamsvc.v1.dream_pb2 import Exploration, Fit, Linking, NullModel, PseudoQueries, Tuning


def exploration_rows(report: Exploration) -> Iterator[Row]:
    if report.HasField("linking"):
        yield from linking_rows(report.linking)
    if report.HasField("fit"):
        yield "positions", fit_text(report.fit)
    if report.queries:
        yield "walks", f"{counted(report.queries, 'synthetic query', 'synthetic queries')}"
        yield "looked at", candidates_text(report)
        hypotheses = counted(report.hypotheses, "hypothesis", "hypotheses")
        yield "blind spots", f"{report.verified:,} verified, {hypotheses}"
        yield "novel edges", f"{report.novel_edges:,}" + (", refused by the pair probe" if report.edges_refused else "")
        yield "null model", null_text(report.null_model)
        yield "  lift", lift_text(report.lift)
    yield from (("note", notice) for notice in report.notices)


def linking_rows(linking: Linking) -> Iterator[Row]:
    found = [
        f"{counted(linking.mentions, 'mention', 'mentions')}",
        f"{linking.shared_entities:,} by names that few share",
        f"{linking.adjacent:,} next to each other in time",
    ]
    read = counted(linking.memories_read, "new or changed memory", "new or changed memories")
    yield "links", f"{linking.links:,} between {read}"
    yield "  of", ", ".join(found)
    yield "  index", f"{linking.expanded:,} memories are also found by what they are linked to"
    # A probe asks about cut out sentences, and about edges that no dream made.
    unproven = linking.links and not linking.probe.measured
    why = ": too few texts of several sentences, and edges of your own; the links are kept unproven" if unproven else ""
    told = "; refused, nothing of it is kept" if linking.refused else why
    yield "  probe", probe_text(linking.probe) + told


def probe_text(probe: PseudoQueries) -> str:
    """E.g. "recall@5 of 220 sentences 96.0 % -> 96.4 %, of 220 pairs 51.0 % -> 78.2 %"."""
    if not probe.measured:
        return "not measured"
    single = f"{percent_text(probe.single_before)} -> {percent_text(probe.single_after)}"
    text = f"recall@5 of {counted(probe.single, 'sentence', 'sentences')} {single}"
    if probe.pairs:
        pairs = f"{percent_text(probe.pairs_before)} -> {percent_text(probe.pairs_after)}"
        text += f", of {counted(probe.pairs, 'pair', 'pairs')} {pairs}"
    return text


def fit_text(fit: Fit) -> str:
    """E.g. "1,200 memories in 5 dimensions, 40 of them new; mean average precision 0.61 (by chance 0.02)"."""
    placed = f"{counted(fit.memories, 'memory', 'memories')} in {fit.dimension} dimensions, {fit.fitted:,} of them new"
    precision = f"mean average precision {fit.mean_average_precision:.2f} (by chance {fit.chance:.2f})"
    return f"{placed}; {precision}"


def candidates_text(report: Exploration) -> str:
    """E.g. "2,000 pairs; dismissed: 1,400 no evidence, 500 near"."""
    dismissed = sorted(report.dismissed.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{number:,} {reason.replace('_', ' ')}" for reason, number in dismissed if number)
    return counted(report.candidates, "pair", "pairs") + (f"; dismissed: {listed}" if listed else "")


def null_text(null: NullModel) -> str:
    """E.g. "overlap 0.42, with shuffled edges 0.03; 31 found against 2"."""
    if not null.measured:
        return "not measured"
    overlap = f"overlap {null.overlap:.2f}, with shuffled edges {null.overlap_shuffled:.2f}"
    return f"{overlap}; {null.found:,} found against {null.found_shuffled:,}"


def tuning_rows(tuning: Tuning) -> Iterator[Row]:
    yield "activation", f"{percent_text(tuning.activation)}, aims at {percent_text(tuning.target_activation)}"
    now = f"sparsity {tuning.sparsity:.3g}, randomness {tuning.randomness:.2g}, clustering {tuning.clustering:.2g}"
    yield "  now", f"{now} after {counted(tuning.adjustments, 'change', 'changes')}"
    if tuning.decisions:
        last = tuning.decisions[-1]
        yield "  last", f"{last.parameter} {last.before:.3g} -> {last.after:.3g}: {last.why}"
