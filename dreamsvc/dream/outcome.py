"""What came of a night: it is folded into the memory, and what the store then holds goes into its report."""

import asyncio

from dreamsvc.dream import quality
from dreamsvc.dream.recovery import Recovery
from dreamsvc.memory import dreams, operations
from dreamsvc.memory.journal import Journal
from dreamsvc.memory.sqlite import ChangeId
from dreamsvc.memory.store import Store
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.config_pb2 import DreamConfig
from dreamsvc.v1.dream_pb2 import Dream, DreamReport


async def fold(store: Store, journal: Journal, change: ChangeId, dream: Dream, recovery: Recovery) -> None:
    """Applies a sealed dream to its end and puts what the store then holds into its report."""
    while await recovery.writing(lambda: asyncio.wrap_future(store.fold_next(change, dream.space))) is not None:
        pass
    show(dream, await asyncio.to_thread(journal.read_back, change))
    made = await asyncio.to_thread(journal.made, change)
    compression = dream.report.compression
    if dream.phase != dream_pb2.DREAM_PHASE_REM:
        compression.redundancy.eliminated, compression.facets = made.eliminated, made.facets
        compression.schemas, compression.superseded = made.schemas, made.superseded
    if made.shortcuts or compression.HasField("shortcuts"):
        compression.shortcuts.created = made.shortcuts
    if made.skipped:
        compression.notices.append(f"{made.skipped} memories and edges were left as users had changed them meanwhile")
    size = await asyncio.to_thread(journal.size, dream.space)
    compression.nodes_after, compression.vector_bytes_after = size.active, size.vector_bytes
    compression.text_bytes_after, compression.edges_after = size.text_bytes, size.linked
    if dream.report.HasField("exploration"):
        explored = await asyncio.to_thread(journal.explored, change)
        exploration = dream.report.exploration
        exploration.linking.links, exploration.linking.expanded = explored.links, explored.expanded
        exploration.novel_edges = explored.novel_edges
        exploration.verified, exploration.hypotheses = explored.verified, explored.hypotheses
    if made.eliminated or made.facets or dream.report.exploration.linking.links:
        await asyncio.wrap_future(await asyncio.to_thread(store.settle, dream.space))


def note_phases(dream: Dream) -> None:
    """Divides the time up to now between the phases, as the progress tells which one it is."""
    report = dream.report
    if dream.progress.phase != dream_pb2.DREAM_PHASE_REM:
        report.nrem_seconds = report.seconds
    report.rem_seconds = max(0.0, report.seconds - report.nrem_seconds)


async def note_size(journal: Journal, dream: Dream) -> None:
    """Puts how large the memory is before anything is applied into the report."""
    size = await asyncio.to_thread(journal.size, dream.space)
    compression = dream.report.compression
    compression.nodes_before, compression.vector_bytes_before = size.active, size.vector_bytes
    compression.text_bytes_before, compression.edges_before = size.text_bytes, size.linked


async def assess(journal: Journal, dream: Dream, config: DreamConfig) -> None:
    """Grades a night by what its report says."""
    size = await asyncio.to_thread(journal.size, dream.space)
    folded = await asyncio.to_thread(journal.folded_count, dream.space)
    memories = size.active - size.containers + size.facets + folded
    report = dream.report
    if dream.phase == dream_pb2.DREAM_PHASE_REM:
        # How large the memory is stands in every report; REM alone merges nothing, and is not to be graded by it.
        report = DreamReport()
        report.CopyFrom(dream.report)
        report.ClearField("compression")
    dream.report.quality.CopyFrom(quality.assess(report, memories, config))


def show(dream: Dream, done: operations.ReadBack) -> None:
    report = dream.report
    report.edges_strengthened, report.edges_weakened = done.strengthened, done.weakened
    report.edges_pruned, report.edges_skipped = done.pruned, done.skipped
    report.average_delta = done.average_delta


def begun_in_words(dream: Dream) -> str:
    """How a night began, for the log."""
    by = dream_pb2.TriggeredBy.Name(dream.triggered_by).removeprefix("TRIGGERED_BY_").lower()
    return f"begins or goes on, triggered by {by}"


def in_words(dream: Dream) -> str:
    """How a night ended, for the log, e.g. "succeeded after 12.3 s (converged)"."""
    reason = dream_pb2.EndReason.Name(dream.end_reason).removeprefix("END_REASON_").lower().replace("_", " ")
    said = f": {dream.message}" if dream.message else ""
    dry = "dry run " if dream.dry_run else ""
    return f"{dry}{dreams.state_word(dream)} after {dream.report.seconds:.1f} s ({reason}){said}"
