"""`dreamsvc status` and `stats`."""

import argparse
import sys

from dreamsvc_client import Client

from dreamsvc.cli import output, watching
from dreamsvc.cli.call import calling
from dreamsvc.cli.command import EXIT_INTERRUPTED, EXIT_OK, Command, add_call_arguments
from dreamsvc.cli.dream import EXIT_CODES
from dreamsvc.cli.output import counted
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Dream, SleepState
from dreamsvc.v1.dream_service_pb2 import GetStatusResponse, WakeLatency
from dreamsvc.v1.memory_service_pb2 import GetStatsResponse

_AWAKE = (dream_pb2.SLEEP_STATE_UNSPECIFIED, dream_pb2.SLEEP_STATE_AWAKE)
_ON_HOLD = "dreams and purges leave this space alone (dream.hold_spaces)"


def _status_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--watch", action="store_true", help="show the dream that runs, or the next one, until it ends")
    add_call_arguments(parser)


def _status(client: Client, args: argparse.Namespace) -> int:
    if args.watch:
        try:
            return watching.follow(client, args.space, "", as_json=args.json)
        except KeyboardInterrupt:
            print(watching.STOPPED_WATCHING, file=sys.stderr)
            return EXIT_INTERRUPTED
    status = client.status(args.space)
    if args.json:
        output.print_json(status)
    else:
        waiting = client.dreams(args.space, page_size=1, states=[Dream.STATE_PROPOSED]).dreams
        _print_status(status, client.stats(args.space), waiting[0] if waiting else None)
    return EXIT_OK


def _print_status(status: GetStatusResponse, stats: GetStatsResponse, proposal: Dream | None) -> None:
    state = output.word(SleepState, status.sleep_state, "SLEEP_STATE_")
    cooldown = status.cooldown_remaining.ToTimedelta().total_seconds()
    notice = f" ({status.embedder_notice})" if status.embedder_notice else ""
    output.print_pairs(
        [
            ("state", f"{state}, space {status.space}, dreamsvc {status.version}"),
            ("dreams", _dream_text(status.active_dream) if status.HasField("active_dream") else ""),
            ("levels", _levels_text(status)),
            ("why not dreaming", status.why_not_dreaming),
            ("a trigger", "starts a dream" if status.dream_available else "starts no dream now"),
            (
                "by itself from",
                output.time_text(status.next_eligible_time) if status.next_eligible_time.seconds else "",
            ),
            ("cooldown", output.seconds_text(cooldown) if cooldown else ""),
            ("one by one", status.parallel_notice),
            ("suspended", _dream_text(status.suspended_dream) if status.HasField("suspended_dream") else ""),
            ("proposal", _proposal_text(proposal) if proposal else ""),
            ("last dream", _dream_text(status.last_dream) if status.HasField("last_dream") else "none"),
            ("memories", _memories_text(stats)),
            ("on hold", _ON_HOLD if stats.on_hold else ""),
            ("activity", f"{status.activity:.3g} calls/s, idle for {output.seconds_text(status.idle_seconds)}"),
            ("pressure", f"{status.memory_pressure:.2f} of what one night is meant for"),
            ("embedder", f"{status.embedder}{notice}"),
            ("configuration", status.config_notice),
            ("device", status.device),
            ("wakes", _wakes_text(status.wake_latency)),
            ("up since", output.time_text(status.start_time)),
        ]
    )


def _levels_text(status: GetStatusResponse) -> str:
    """E.g. "dopamine 0.30, serotonin 0.40, acetylcholine 0.20"; empty while awake, when all are at the baseline."""
    if not status.HasField("neuromodulators") or status.sleep_state in _AWAKE:
        return ""
    levels = status.neuromodulators
    return f"dopamine {levels.dopamine:.2f}, serotonin {levels.serotonin:.2f}, acetylcholine {levels.acetylcholine:.2f}"


def _memories_text(stats: GetStatsResponse) -> str:
    """E.g. "1,330; 130 containers hold 1,100 of them as facets"."""
    text = f"{stats.memories:,}"
    if not stats.containers:
        return text
    containers = "1 container holds" if stats.containers == 1 else f"{stats.containers:,} containers hold"
    return f"{text}; {containers} {stats.facets:,} of them as facets"


def _proposal_text(dream: Dream) -> str:
    since = f" since {output.time_text(dream.end_time)}" if dream.HasField("end_time") else ""
    return f"waits to be approved{since}; `{watching.command('diff', dream)}` shows what it would do"


def _dream_text(dream: Dream) -> str:
    text = f"{dream.id}, {watching.state_word(dream)}"
    if dream.state in (Dream.STATE_RUNNING, Dream.STATE_FOLDING, Dream.STATE_SUSPENDED):
        return f"{text}: {watching.progress_text(dream)}"
    if dream.state == Dream.STATE_PROPOSED:
        return f"{text}: nothing of it is applied yet"
    report = dream.report
    changed = report.edges_strengthened + report.edges_weakened + report.edges_pruned
    size = report.compression
    merged = f", memories {size.nodes_before:,} -> {size.nodes_after:,}" if report.HasField("compression") else ""
    explored = report.exploration
    links = counted(explored.linking.links, "link", "links")
    spots = counted(explored.verified, "blind spot", "blind spots")
    found = f", {links}, {spots}" if explored.queries else ""
    return f"{text}: {report.nodes_replayed:,} replayed, {changed:,} edges changed{merged}{found}" + (
        f" ({dream.message})" if dream.message else ""
    )


def _wakes_text(wakes: WakeLatency) -> str:
    if not wakes.count:
        return "none since the start"
    killed = f", {wakes.killed} killed" if wakes.killed else ""
    return (
        f"{wakes.count}: p50 {wakes.p50_ms:.1f}, p95 {wakes.p95_ms:.1f}, p99 {wakes.p99_ms:.1f}, "
        f"max {wakes.max_ms:.1f} ms{killed}"
    )


def _stats(client: Client, args: argparse.Namespace) -> int:
    stats = client.stats(args.space)
    if args.json:
        output.print_json(stats)
        return EXIT_OK
    vectors = f"{stats.vectors:,} of {stats.dimension} dimensions" if stats.dimension else "none"
    kept = f", and {output.bytes_text(stats.kept_vector_bytes)} of originals kept" if stats.kept_vector_bytes else ""
    output.print_pairs(
        [
            ("space", f"{stats.space} (of {', '.join(stats.spaces) or 'none'})"),
            ("on hold", _ON_HOLD if stats.on_hold else ""),
            ("memories", f"{stats.memories:,}, and {stats.memories_forgotten:,} forgotten"),
            ("  containers", f"{stats.containers:,}, with {stats.facets:,} facets" if stats.containers else ""),
            ("  stand for all", f"{stats.memories - stats.facets + stats.containers:,}" if stats.facets else ""),
            ("  folded", f"{stats.folded:,}, hidden behind others" if stats.folded else ""),
            ("  pinned", f"{stats.pinned:,}" if stats.pinned else ""),
            ("edges", f"{stats.edges:,}, and {stats.edges_pruned:,} pruned"),
            ("vectors", vectors + (f", {stats.to_embed:,} to come" if stats.to_embed else "")),
            ("embedder", stats.embedder),
            ("text", output.bytes_text(stats.text_bytes)),
            ("vector bytes", output.bytes_text(stats.vector_bytes) + kept),
            ("database", output.bytes_text(stats.database_bytes)),
            ("dreams", f"{stats.dreams:,}"),
        ]
    )
    return EXIT_OK


COMMANDS = {
    "status": Command(
        description="What the service does now and, where it does not dream, why.",
        examples="""
            status
            status --watch
            status --json
        """,
        add_arguments=_status_arguments,
        run=calling(_status),
        exit_codes=EXIT_CODES,
    ),
    "stats": Command(
        description="What a space holds.",
        examples="""
            stats
            stats --space notes --json
        """,
        add_arguments=add_call_arguments,
        run=calling(_stats),
    ),
}
