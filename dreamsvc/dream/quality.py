"""How good a night was (REQ-DREAM-022): compression 30 %, exploration 30 %, preservation 40 % of the score.

A part that was not measured does not count for or against: the others are weighed without it, and it is named.
"""

from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.config_pb2 import DreamConfig
from dreamsvc.v1.dream_pb2 import DreamReport, Quality, QualityGrade

SHARES = {"compression": 0.3, "exploration": 0.3, "preservation": 0.4}
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
    quality = Quality()
    compression = report.compression
    scores: dict[str, float] = {}
    merges = config.consolidation.enabled or config.consolidation.topics or config.redundancy.enabled
    ratio = memories / compression.nodes_after if compression.nodes_after else 0.0
    if merges and compression.nodes_after:
        scores["compression"] = min(ratio / FULL_RATIO, 1.0)
        quality.compression_achieved = ratio >= config.quality.min_compression
        if ratio < config.quality.min_compression:
            quality.recommendations.append(_towards(compression, ratio, config))
    retention = compression.retention
    if retention.measured:
        scores["preservation"] = 1.0 - retention.information_loss
        quality.information_preserved = retention.loss_high <= config.quality.max_information_loss
        if scores["preservation"] < LEAST_PRESERVED:
            quality.recommendations.append(
                "merge less: raise dream.consolidation.topic_similarity or lower dream.quality.target_compression_ratio"
            )
        if retention.refused:
            quality.recommendations.append(
                "nothing was merged, since the probe found more loss than dream.quality.max_information_loss allows; "
                "more bits a facet (dream.consolidation.facet_bits) lose less"
            )
    if report.exploration.queries:
        found = report.exploration.verified
        scores["exploration"] = min(found / FULL_FINDS, 1.0)
        quality.exploration_adequate = found >= config.quality.min_blind_spots
        if scores["exploration"] < LEAST_EXPLORED:
            quality.recommendations.append(
                "explore more: raise dream.rem.synthetic_query_count or dream.rem.exploration_temperature"
            )
    quality.not_measured.extend(sorted(SHARES.keys() - scores.keys()))
    weight = sum(SHARES[name] for name in scores)
    if weight:
        quality.overall_score = sum(SHARES[name] * score for name, score in scores.items()) / weight
        quality.grade = next(
            (grade for least, grade in GRADES if quality.overall_score >= least), dream_pb2.QUALITY_GRADE_POOR
        )
    return quality


def _towards(compression: dream_pb2.Compression, ratio: float, config: DreamConfig) -> str:
    """What would bring the ratio nearer to what is wanted."""
    if config.quality.target_compression_ratio < config.quality.min_compression:
        return f"raise dream.quality.target_compression_ratio, which is {config.quality.target_compression_ratio:g}"
    if not config.consolidation.topics:
        return "switch dream.consolidation.topics on: tight clusters alone rarely compress much"
    if any("budget" in notice for notice in compression.notices):
        return "give the dream more time: the merging did not come to its end"
    return f"{ratio:.1f} memories a node; lower dream.consolidation.topic_similarity to merge more"
