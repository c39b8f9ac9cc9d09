"""What nights did, as metrics: sums over all nights, and what the last one of a space came to (REQ-DREAM-021)."""

from typing import NamedTuple

from dreamsvc.v1.dream_pb2 import Dream

# Of what nights did, by the key in Counts.dreamed.
NIGHT_COUNTERS: dict[str, tuple[str, str]] = {
    "memories_replayed": ("nrem_memories_replayed", "Memories replayed, each counted once a night."),
    "edges_strengthened": ("nrem_edges_strengthened", "Edges whose weight grew."),
    "edges_weakened": ("nrem_edges_weakened", "Edges whose weight fell."),
    "edges_pruned": ("nrem_edges_pruned", "Edges that were pruned (soft)."),
    "clusters_consolidated": ("nrem_clusters_consolidated", "Clusters that became a container."),
    "nodes_merged": ("nrem_nodes_merged", "Memories that became facets of a container."),
    "redundancies_eliminated": ("nrem_redundancies_eliminated", "Copies that another memory stands for."),
    "schemas_extracted": ("nrem_schemas_extracted", "Schemas read off containers."),
    "shortcuts_created": ("nrem_shortcuts_created", "Direct edges for paths that are walked often."),
    "facts_superseded": ("nrem_facts_superseded", "Facts that a newer one supersedes."),
    "synthetic_queries": ("rem_synthetic_queries", "Queries that nobody asked."),
    "blind_spots_found": ("rem_blind_spots_found", "Verified blind spots."),
    "hypotheses_found": ("rem_hypotheses_found", "Finds that only structure speaks for."),
    "new_edges_created": ("rem_new_edges_created", "Edges of verified blind spots."),
    "links_created": ("rem_links_created", "Edges that evidence in texts and times speaks for."),
    "gate_refusals": ("night_gate_refusals", "Parts of nights held back since a probe found less with them."),
}


class NightGauge(NamedTuple):
    name: str
    help: str
    # None where the night did not measure it.
    value: float | None


def night_gauges(dream: Dream) -> list[NightGauge]:
    """What one night came to; always the same names in the same order."""
    report = dream.report
    explored, quality, kept = report.exploration, report.quality, report.compression.retention
    compression = (one.value for one in quality.criteria if one.name == "compression" and one.measured)
    walked, probed = explored.queries > 0, kept.measured
    share = report.share if report.share.seconds else None
    return [
        NightGauge("nrem_compression_ratio", "Memories for each node after the last night.", next(compression, None)),
        NightGauge(
            "rem_average_semantic_leap",
            "Mean cosine distance between the ends of what the last night found.",
            explored.average_semantic_leap if walked else None,
        ),
        NightGauge(
            "rem_exploration_coverage_ratio",
            "Share of placed memories that synthetic queries of the last night were made of.",
            explored.coverage if walked else None,
        ),
        NightGauge(
            "night_information_loss_ratio",
            "What of what was found before the last night is not found after it, by its own cues.",
            kept.information_loss if probed else None,
        ),
        NightGauge(
            "night_information_loss_high_ratio",
            "The upper end of its 95 % interval, which the gate looks at.",
            kept.loss_high if probed else None,
        ),
        NightGauge(
            "night_information_loss_limit_ratio",
            "dream.quality.max_information_loss in that night.",
            kept.max_information_loss if probed else None,
        ),
        NightGauge(
            "night_retention_before_ratio",
            "Share of cues that find their memory before the last night.",
            kept.before if probed else None,
        ),
        NightGauge(
            "night_retention_after_ratio",
            "Share of cues that find their memory after the last night.",
            kept.after if probed else None,
        ),
        NightGauge(
            "night_quality_improvement",
            "Change of recall@5 over the last night by its own probes (0.02 is two points).",
            quality.quality_improvement if quality.HasField("quality_improvement") else None,
        ),
        NightGauge(
            "night_quality_score", "Score of the last night, 0 to 1.", quality.overall_score if quality.grade else None
        ),
        NightGauge("night_busy_ratio", "Share of the time in which the last night worked.", report.busy_share),
        NightGauge(
            "night_device_share_mean_ratio",
            "Share of the GPU, or of all cores, that the last night took, measured from outside.",
            share.mean if share else None,
        ),
        NightGauge(
            "night_device_share_max_ratio",
            "The same in the second in which it took most.",
            share.max_second if share else None,
        ),
        NightGauge(
            "night_peak_memory_bytes",
            "Most memory of the last night's process.",
            share.max_memory_bytes if share else None,
        ),
    ]
