"""What a dream would touch and take, told before it dreams: upper bounds, and where the seconds come from."""

from dreamsvc.v1.config_pb2 import DreamConfig
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import EstimateDreamResponse

# Rates of a 2-core machine without a GPU, of busy time: `make bench NAME=compress`.
SECONDS_A_NODE = 6e-4
SECONDS_A_REPLAY = 1e-3
FIXED_SECONDS = 2.0
SECONDS_A_NODE_IN_REM, SECONDS_A_QUERY = 4e-4, 2e-2
# Of a memory: links to its neighbours in time at most, and what the index learns of it.
ADJACENT_LINKS, EXPANSION_BYTES = 2, 500
# Novel edges where no number is configured.
LEAST_NOVEL, NOVEL_SHARE = 50, 0.02
# Bytes of a row of the snapshot beside its vector and text, of a row of the journal, and of the dreamer itself.
NODE_BYTES, EDGE_BYTES, ROW_BYTES = 120, 40, 24
TEXT_BYTES = 200
DREAMER_BYTES = 400_000_000


def estimate(nodes: int, edges: int, dimension: int, last: Dream | None, config: DreamConfig) -> EstimateDreamResponse:
    """last: the dream of the space that ended last, whose rate is taken where it merged."""
    merges = config.redundancy.enabled or config.consolidation.enabled or config.consolidation.topics
    replays = min(nodes, config.nrem.max_replay_count)
    share = max(config.resources.max_gpu_usage, 0.01)
    busy = FIXED_SECONDS + replays * SECONDS_A_REPLAY + (nodes * SECONDS_A_NODE if merges else 0.0)
    links = round(nodes * (config.linking.links_per_memory + ADJACENT_LINKS)) if config.linking.enabled else 0
    if config.linking.enabled or config.rem.explore:
        busy += nodes * SECONDS_A_NODE_IN_REM + config.rem.synthetic_query_count * SECONDS_A_QUERY
    basis = "rates of a 2-core machine"
    if last is not None and last.report.nodes and last.report.compression.nodes_before:
        busy = last.report.busy_seconds * nodes / last.report.nodes
        basis = "the last dream"
    # A facet's code, and its row.
    code = dimension * config.consolidation.facet_bits // 8 + ROW_BYTES
    touched = nodes if merges or config.linking.enabled or config.rem.explore else replays
    # A fact supersedes one at most, a memory lies in one container, of which there is one schema.
    compresses = merges or config.schema.enabled or config.shortcuts.enabled
    made = nodes * (1 + config.schema.enabled) if compresses else 0
    made += config.shortcuts.max_shortcuts_per_cycle * config.shortcuts.enabled
    novel = config.rem.max_new_edges or max(LEAST_NOVEL, round(nodes * NOVEL_SHARE))
    made += links + novel * config.rem.explore
    moved = edges if merges else 0
    budget = min(config.nrem.duration_minutes + config.rem.duration_minutes, config.trigger.max_dream_minutes) * 60
    derived = nodes * EXPANSION_BYTES if config.linking.enabled else 0
    return EstimateDreamResponse(
        nodes=nodes,
        nodes_touched=touched,
        edges=edges,
        edges_touched=edges + made + moved,
        snapshot_bytes=nodes * (NODE_BYTES + 2 * dimension + TEXT_BYTES) + edges * EDGE_BYTES,
        journal_bytes=(edges + made) * ROW_BYTES + (nodes * code if merges else replays * ROW_BYTES) + derived,
        memory_bytes=DREAMER_BYTES + nodes * (4 * dimension * 2 + NODE_BYTES) + edges * EDGE_BYTES * 4,
        seconds=min(busy / share, budget),
        basis=basis,
        budget_seconds=budget,
    )
