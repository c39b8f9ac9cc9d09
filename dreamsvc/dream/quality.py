"""How good a night was (REQ-DREAM-022): compression 30 %, exploration 30 %, preservation 40 % of the score.

A part that was not measured does not count for or against: the others are weighed without it, and it is named.
"""

from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.config_pb2 import DreamConfig
from dreamsvc.v1.dream_pb2 import Compression, Criterion, DreamReport, Exploration, Quality, QualityGrade, Retention

GRADES: tuple[tuple[float, QualityGrade.ValueType], ...] = (
    (0.9, dream_pb2.QUALITY_GRADE_EXCELLENT),
    (0.7, dream_pb2.QUALITY_GRADE_GOOD),
    (0.5, dream_pb2.QUALITY_GRADE_FAIR),
)
FULL_RATIO = 10.0
LEAST_PRESERVED = 0.85
FULL_FINDS, LEAST_EXPLORED = 5.0, 0.5


def assess(report: DreamReport, memories: int, config: DreamConfig) -> Quality:
    """memories: all that can be recalled, and copies that others stand for; over the nodes left it is the ratio."""
    compression, exploration = _compression(report, memories, config), _exploration(report, config)
    preservation = _preservation(report, config)
    criteria = (compression, exploration, preservation)
    measured = [one for one in criteria if one.measured]
    quality = Quality(
        criteria=criteria,
        compression_achieved=compression.reached,
        exploration_adequate=exploration.reached,
        information_preserved=preservation.reached,
        not_measured=sorted(one.name for one in criteria if not one.measured),
    )
    if measured:
        share = sum(one.share for one in measured)
        quality.overall_score = sum(one.share * one.score for one in measured) / share
        quality.grade = next(
            (grade for least, grade in GRADES if quality.overall_score >= least), dream_pb2.QUALITY_GRADE_POOR
        )
    change = improvement(report)
    if change is not None:
        quality.quality_improvement = change
    if compression.measured and not compression.reached:
        quality.recommendations.append(_towards(report.compression, compression.value, config))
    if preservation.measured and preservation.score < LEAST_PRESERVED:
        quality.recommendations.append(
            "merge less: raise dream.consolidation.topic_similarity or lower dream.quality.target_compression_ratio"
        )
    if report.compression.retention.refused:
        quality.recommendations.append(
            "nothing was merged, since the probe found more loss than dream.quality.max_information_loss allows; "
            "more bits a facet (dream.consolidation.facet_bits) lose less"
        )
    if exploration.measured and exploration.score < LEAST_EXPLORED:
        quality.recommendations.append(
            "explore more: raise dream.rem.synthetic_query_count or dream.rem.exploration_temperature"
        )
    return quality


def improvement(report: DreamReport) -> float | None:
    """What the night's own probes find more of after it than before, in recall@5; None where none was measured.

    What a probe speaks against is not kept, and changes nothing.
    """
    linking = report.exploration.linking
    probe, lifts = linking.probe, (report.exploration.lift, report.compression.lift)
    if probe.measured:
        gained = probe.single * (probe.single_after - probe.single_before)
        gained += probe.pairs * (probe.pairs_after - probe.pairs_before)
        return 0.0 if linking.refused else gained / max(1, probe.single + probe.pairs)
    if lifts[0].measured:
        return 0.0 if report.exploration.edges_refused else lifts[0].lift_points / 100
    return lifts[1].lift_points / 100 if lifts[1].measured else None


def _compression(report: DreamReport, memories: int, config: DreamConfig) -> Criterion:
    after = report.compression.nodes_after
    ratio = memories / after if after else 0.0
    merges = config.consolidation.enabled or config.consolidation.topics or config.redundancy.enabled
    measured = bool(merges and after)
    return Criterion(
        name="compression",
        measured=measured,
        value=ratio,
        required=config.quality.min_compression,
        full=FULL_RATIO,
        reached=measured and ratio >= config.quality.min_compression,
        score=min(ratio / FULL_RATIO, 1.0) if measured else 0.0,
        share=0.3,
    )


def _exploration(report: DreamReport, config: DreamConfig) -> Criterion:
    explored: Exploration = report.exploration
    measured = explored.queries > 0
    return Criterion(
        name="exploration",
        measured=measured,
        value=explored.verified,
        required=config.quality.min_blind_spots,
        full=FULL_FINDS,
        reached=measured and explored.verified >= config.quality.min_blind_spots,
        score=min(explored.verified / FULL_FINDS, 1.0),
        share=0.3,
    )


def _preservation(report: DreamReport, config: DreamConfig) -> Criterion:
    kept: Retention = report.compression.retention
    return Criterion(
        name="preservation",
        measured=kept.measured,
        value=1.0 - kept.information_loss if kept.measured else 0.0,
        required=1.0 - config.quality.max_information_loss,
        full=1.0,
        # Like the gate it looks at the upper end of the loss's interval.
        reached=kept.measured and kept.loss_high <= config.quality.max_information_loss,
        score=1.0 - kept.information_loss if kept.measured else 0.0,
        share=0.4,
    )


def _towards(compression: Compression, ratio: float, config: DreamConfig) -> str:
    """What would bring the ratio nearer to what is wanted."""
    if config.quality.target_compression_ratio < config.quality.min_compression:
        return f"raise dream.quality.target_compression_ratio, which is {config.quality.target_compression_ratio:g}"
    if not config.consolidation.topics:
        return "switch dream.consolidation.topics on: tight clusters alone rarely compress much"
    if any("budget" in notice for notice in compression.notices):
        return "give the dream more time: the merging did not come to its end"
    return f"{ratio:.1f} memories a node; lower dream.consolidation.topic_similarity to merge more"
