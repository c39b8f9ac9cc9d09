"""Shows a dream while it runs: a live display, lines for a file, or JSON for a program."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from dreamsvc_client import Client
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dreamsvc import errors
from dreamsvc.cli import output, report_tables
from dreamsvc.cli.command import EXIT_DREAM_BROKEN_OFF, EXIT_FAILED, EXIT_NOTHING_TO_DREAM, EXIT_OK
from dreamsvc.v1.dream_pb2 import Dream, DreamPhase, DreamReport, EndReason, Share, SleepState, SubPhase, WakeReason
from dreamsvc.v1.dream_service_pb2 import Closing, StateChange, StreamStatusResponse

STOPPED_WATCHING = (
    "stopped watching; the dream goes on. `dreamsvc status --watch` shows it again, `dreamsvc abort` ends it."
)


class View(Protocol):
    """Somewhere to show events."""

    def show(self, event: StreamStatusResponse) -> None: ...


def follow(client: Client, space: str, dream_id: str, *, as_json: bool) -> int:
    """Watches until the dream ends, prints its report, and returns the exit code that fits its end."""
    dream: Dream | None = None
    shut_down = False
    with _view(as_json) as view:
        for event in client.watch(space, dream_id):
            view.show(event)
            # Heartbeats and the last words of a service that goes down tell of no dream.
            dream = event.dream if event.HasField("dream") else dream
            shut_down = event.closing.reason == Closing.REASON_SHUTTING_DOWN
    if shut_down:
        print("dreamsvc: the service shut down; after its start the next trigger goes on", file=sys.stderr)
    if dream is None:
        return EXIT_FAILED
    if not as_json:
        print_dream(dream)
    return EXIT_DREAM_BROKEN_OFF if shut_down else exit_code(dream)


def exit_code(dream: Dream) -> int:
    """0 while it runs, when it succeeded, and when it waits to be approved."""
    match dream.state:
        case Dream.STATE_RUNNING | Dream.STATE_FOLDING | Dream.STATE_SUCCEEDED | Dream.STATE_PROPOSED:
            return EXIT_OK
        case Dream.STATE_SUSPENDED | Dream.STATE_FAILED | Dream.STATE_DISCARDED:
            return EXIT_DREAM_BROKEN_OFF
        case Dream.STATE_SKIPPED:
            return EXIT_NOTHING_TO_DREAM
        case _:
            return EXIT_FAILED


def state_word(dream: Dream) -> str:
    return output.word(Dream.State, dream.state, "STATE_")


def progress_text(dream: Dream) -> str:
    """E.g. "nrem, hebbian replay, round 2, 120/640, 18 %, 4 s left"."""
    progress = dream.progress
    counted = f"{progress.done:,}/{progress.total:,}" if progress.total else f"{progress.done:,} done"
    parts = [
        output.word(DreamPhase, progress.phase or dream.phase, "DREAM_PHASE_"),
        output.word(SubPhase, progress.sub_phase, "SUB_PHASE_"),
        f"round {progress.round}" if progress.round else "",
        counted if progress.done or progress.total else "",
        f"{progress.fraction * 100:.0f} %",
        f"{output.seconds_text(progress.eta_seconds)} left" if progress.HasField("eta_seconds") else "",
        f"paused: {output.plain(progress.paused)}" if progress.paused else "",
    ]
    return ", ".join(part for part in parts if part)


def print_dream(dream: Dream) -> None:
    """The whole record of a night."""
    end = output.word(EndReason, dream.end_reason, "END_REASON_")
    output.print_pairs(
        [
            ("dream", dream.id),
            ("state", state_word(dream) + (f" ({end})" if end else "") + (", dry run" if dream.dry_run else "")),
            ("message", dream.message),
            ("reason", errors.reason_name(dream.error_reason) if dream.error_reason else ""),
            ("phase", output.word(DreamPhase, dream.phase, "DREAM_PHASE_")),
            ("seed", str(dream.seed)),
            ("budget", output.seconds_text(dream.budget_seconds)),
            ("started", output.time_text(dream.start_time) if dream.HasField("start_time") else ""),
            ("ended", output.time_text(dream.end_time) if dream.HasField("end_time") else ""),
        ]
    )
    if dream.HasField("report"):
        print()
        output.console().print(report_table(dream.report))
        for table in report_tables.tables(dream.report):
            print()
            output.console().print(table)
    if dream.state == Dream.STATE_PROPOSED:
        print()
        print(proposal_text(dream))


def proposal_text(dream: Dream) -> str:
    """What can be done about a dream that waits, on four lines."""
    ways = {"diff": "shows what it would do", "approve": "applies it", "reject": "gives it up"}
    return "\n".join(
        ["nothing of it is applied yet:", *(f"  {command(name, dream)}  # {does}" for name, does in ways.items())]
    )


def command(name: str, dream: Dream) -> str:
    """The command to type for a dream."""
    return f"dreamsvc {name} {dream.id}" + (f" --space {dream.space}" if dream.space not in ("", "default") else "")


def report_table(report: DreamReport) -> Table:
    made = output.table("report", ">")
    rows = [
        ("memories", f"{report.nodes:,}"),
        ("  due / replayed", f"{report.nodes_eligible:,} / {report.nodes_replayed:,}"),
        ("  replays", f"{report.replays:,}"),
        ("edges", f"{report.edges:,}"),
        ("  strengthened", f"{report.edges_strengthened:,}"),
        ("  weakened", f"{report.edges_weakened:,}"),
        ("  pruned", f"{report.edges_pruned:,}"),
        ("  kept as the user set them", f"{report.edges_skipped:,}"),
        ("  mean change of weight", f"{report.average_delta:+.5f}"),
        ("rounds / steps", f"{report.rounds:,} / {report.src_steps:,}"),
        ("active share", f"{report.active_share:.3f}"),
        ("wakes", f"{report.wakes:,}" + (f", the last in {report.wake_latency_ms:.1f} ms" if report.wakes else "")),
        ("time", output.seconds_text(report.seconds)),
        ("  device busy", f"{output.seconds_text(report.busy_seconds)} ({report.busy_share * 100:.0f} %)"),
        *_share_rows(report.share),
        ("device", output.plain(report.device)),
        ("operations", f"{report.operations:,}"),
        ("journal", report.journal_digest[:16]),
    ]
    for label, value in rows:
        made.add_row(label, value)
    return made


def _share_rows(share: Share) -> list[tuple[str, str]]:
    """What of the machine a dream took, where that was measured."""
    if not share.seconds:
        return []
    device = "the GPU" if share.device == "gpu" else "all cores"
    taken = f"{share.mean:.1%} on average, {share.max_second:.1%} in a second at most, of {share.limit:.0%}"
    counts = f"{share.throttles:,} / {share.holds:,} / {share.pauses:,}"
    paused = f", for {output.seconds_text(share.paused_seconds)}" if share.pauses else ""
    return [
        (f"  of {device}", taken),
        ("  slowed / held / paused", counts + paused),
        ("  memory at most", output.bytes_text(share.max_memory_bytes)),
    ]


def change_text(change: StateChange) -> str:
    """E.g. "waking -> awake (user query, 3.1 ms)"."""
    words = [output.word(SleepState, state, "SLEEP_STATE_") for state in (getattr(change, "from"), change.to)]
    notes = [
        output.word(WakeReason, change.wake_reason, "WAKE_REASON_"),
        f"{change.wake_latency_ms:.1f} ms" if change.wake_latency_ms else "",
    ]
    noted = ", ".join(note for note in notes if note)
    return " -> ".join(words) + (f" ({noted})" if noted else "")


@contextmanager
def _view(as_json: bool) -> Generator[View]:
    if as_json:
        yield _JsonView()
    elif sys.stdout.isatty():
        screen = output.console()
        with Live(console=screen, refresh_per_second=10, transient=True) as live:
            yield _LiveView(live)
    else:
        yield _LineView()


class _JsonView:
    """One event a line, all of them."""

    def show(self, event: StreamStatusResponse) -> None:
        output.print_json(event)


class _LineView:
    """One line for each change of state and for each tenth of the way."""

    def __init__(self) -> None:
        self._shown: tuple[object, ...] = ()

    def show(self, event: StreamStatusResponse) -> None:
        if event.HasField("state_change"):
            self._print(event, change_text(event.state_change))
        elif event.HasField("gap"):
            self._print(event, f"events {event.gap.from_sequence} to {event.gap.to_sequence} were dropped")
        elif event.dream.state in (Dream.STATE_RUNNING, Dream.STATE_FOLDING):
            progress = event.dream.progress
            seen = (event.dream.id, event.dream.state, progress.sub_phase, int(progress.fraction * 10))
            if seen != self._shown:
                self._shown = seen
                self._print(event, f"{state_word(event.dream)}: {progress_text(event.dream)}")
        elif event.HasField("present") and not event.HasField("closing"):
            self._print(event, _present_text(event))

    def _print(self, event: StreamStatusResponse, text: str) -> None:
        print(f"{output.time_text(event.time)[11:19]}  {text}", flush=True)


class _LiveView:
    """A bar and the counts so far, redrawn in place; changes of state stay above it."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, event: StreamStatusResponse) -> None:
        if event.HasField("state_change"):
            self._live.console.print(Text(change_text(event.state_change), style="dim"))
        if event.dream.state not in (Dream.STATE_RUNNING, Dream.STATE_FOLDING):
            if event.HasField("dream") or event.HasField("present"):
                self._live.update(Text(_present_text(event)))
            return
        report = event.dream.report
        counts = (
            f"edges: {report.edges_strengthened:,} strengthened, {report.edges_weakened:,} weakened, "
            f"{report.edges_pruned:,} pruned; memories replayed: {report.nodes_replayed:,}"
        )
        self._live.update(
            Group(
                Text(f"{state_word(event.dream)} · {progress_text(event.dream)}"),
                ProgressBar(total=1.0, completed=event.dream.progress.fraction),
                Text(counts if event.dream.HasField("report") else "", style="dim"),
            )
        )


def _present_text(event: StreamStatusResponse) -> str:
    state = output.word(SleepState, event.sleep_state, "SLEEP_STATE_")
    if event.HasField("dream"):
        return f"{state}; the dream {event.dream.id} is {state_word(event.dream)}"
    return f"{state}; waiting for the next dream"
