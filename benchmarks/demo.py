"""`make demo`: a real memory is imported, dreams, is woken by a query, dreams on until it is a tenth of its size and
knows what belongs together, keeps what it learned over a restart, and is taken back to what it was.

    python benchmarks/demo.py [--out build/demo.json] [--budget 120]

Runs `dreamsvc serve` in a directory of its own and talks to it over gRPC only. Ends with 1 and says what went wrong
if anything that it shows does not hold.
"""

import argparse
import hashlib
import json
import queue
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

from dreamsvc_client import Client, DreamsvcCallError
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from benchmarks import demo_finds, stdlib_memory
from dreamsvc import clock
from dreamsvc.cli import diff_text, output, report_tables, watching
from dreamsvc.v1.dream_pb2 import SLEEP_STATE_AWAKE, WAKE_REASON_USER_QUERY, Dream, DreamReport
from dreamsvc.v1.dream_service_pb2 import DreamEdit, StreamStatusResponse
from dreamsvc.v1.memory_service_pb2 import GetStatsResponse, RecallResponse

QUESTIONS = (
    "how do I split a path into directory and file name",
    "read rows from a CSV file as dictionaries",
    "run a shell command and get its output",
    "wait for several coroutines at the same time",
)
SEED = 20
START_S = 30.0
EMBED_S = 20.0
# Where in the dream the query comes that wakes it.
WAKE_AT = 0.1
PAUSE_BETWEEN_RECALLS_S = 0.2

EDITS_SHOWN = 3
# Defaults, but for three things: this dream comes when it is called, uses most of a core, and gives up on edges rather
# above the weakest evidence in the file, so that half a minute shows what a night does.
CONFIG = """\
[dream.trigger]
automatic = false

[dream.nrem]
weight_floor = 0.09

[dream.resources]
max_gpu_usage = 0.8
"""

console = Console(highlight=False, emoji=False)


class DemoFailed(Exception):
    """Something that the demo shows did not hold."""


def check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DemoFailed(otherwise)


def heading(text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]")


class Changed(NamedTuple):
    """An edge that the dream changed, by the keys of its ends."""

    source: str
    target: str
    type: str
    before: float
    after: float


class Server:
    """`dreamsvc serve` as a process of its own."""

    def __init__(self, directory: Path) -> None:
        self._log = directory / "server.log"
        config = directory / "dreamsvc.toml"
        config.write_text(CONFIG, encoding="utf-8")
        store = directory / "memory.db"
        began = clock.precise_s()
        command = ["serve", "--config", str(config), "--store", str(store), "--port", "0"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dreamsvc", *command], stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.target = self._address()
        self.start_ms = (clock.precise_s() - began) * 1000

    def _address(self) -> str:
        lines: queue.Queue[str] = queue.Queue()
        assert self._process.stdout is not None
        threading.Thread(target=_read_lines, args=(self._process.stdout, lines), daemon=True).start()
        deadline = clock.precise_s() + START_S
        while (left := deadline - clock.precise_s()) > 0:
            try:
                line = lines.get(timeout=left)
            except queue.Empty:
                break
            if line.startswith("dreamsvc listening on "):
                return line.split()[-1]
            if not line:
                break
        self.kill()
        raise DemoFailed(f"the server did not start:\n{self.log_tail()}")

    def stop(self) -> None:
        """Ends it as an operating system does, and checks that it ends well."""
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            raise DemoFailed("the server did not end on SIGTERM") from None
        check(code == 0, f"the server ended with {code}")

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def log_tail(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-2000:] or "(its log is empty)"


def _read_lines(stream: TextIO, lines: "queue.Queue[str]") -> None:
    """Every line, then an empty one at the end; keeps reading so that the server never waits for us."""
    for line in stream:
        lines.put(line)
    lines.put("")


@contextmanager
def serving(directory: Path) -> Generator[tuple[Server, Client]]:
    """A running server that is gone afterwards, whatever happens."""
    server = Server(directory)
    try:
        with Client(server.target) as client:
            yield server, client
        server.stop()
    except (DemoFailed, DreamsvcCallError) as error:
        raise DemoFailed(f"{error}\nThe server's log ends with:\n{server.log_tail()}") from error
    finally:
        server.kill()


class Watch:
    """Reads a dream's events in a thread of its own, and shows the newest one."""

    def __init__(self, client: Client, dream_id: str, live: Live) -> None:
        self.newest = StreamStatusResponse()
        self.ended = threading.Event()
        self.events: list[StreamStatusResponse] = []
        self._failure: DreamsvcCallError | None = None
        self._live = live
        self._shown = 0
        self._thread = threading.Thread(target=self._read, args=(client, dream_id), daemon=True)
        self._thread.start()

    def _read(self, client: Client, dream_id: str) -> None:
        try:
            for event in client.watch(dream_id=dream_id):
                self.events.append(event)
                if event.HasField("dream"):
                    self.newest = event
        except DreamsvcCallError as error:
            self._failure = error
        finally:
            self.ended.set()

    def show(self) -> None:
        for event in self.events[self._shown :]:
            self._shown += 1
            if event.HasField("state_change"):
                self._live.console.print(Text("  " + watching.change_text(event.state_change), style="dim"))
        dream = self.newest.dream
        bar = ProgressBar(total=1.0, completed=dream.progress.fraction, width=40)
        line = f"  {watching.state_word(dream)}: {watching.progress_text(dream)}"
        self._live.update(Group(Text(line), bar) if not self.ended.is_set() else Text(line), refresh=True)

    def until(self, done: Callable[[], bool], limit_s: float) -> None:
        """Shows the dream until something is the case, or it ended."""
        deadline = clock.precise_s() + limit_s
        while not done() and not self.ended.is_set():
            self.show()
            check(clock.precise_s() < deadline, f"the dream did not get on within {limit_s:.0f} s: {self.newest}")
            self.ended.wait(0.05)
        self.show()

    def finish(self, limit_s: float) -> Dream:
        self.until(self.ended.is_set, limit_s)
        if self._failure is not None:
            raise self._failure
        return self.newest.dream


def demo(out: Path, budget_s: float, limit: int) -> None:
    began = clock.precise_s()
    with tempfile.TemporaryDirectory(prefix="dreamsvc-demo-") as name:
        directory = Path(name)
        heading("1  The memory of an agent that read the docs of Python's standard library")
        file = directory / "memory.jsonl"
        built = stdlib_memory.write(file, clock.Clock().now_us(), limit)
        weights = file_weights(file)
        console.print(f"  {built.memories} memories of {built.modules} modules, {built.edges} edges")
        with serving(directory) as (server, client):
            console.print(f"  the server listens at {server.target} after {server.start_ms:.0f} ms")
            import_memory(client, file)
            content_before = content_digest(client, directory / "before.jsonl")
            heading("2  Questions, before the dream")
            before = ask(client, None)
            heading("3  A dream that a query may wake")
            dream_id, wake_ms, waking_recall_ms = dream_until_woken(client, budget_s)
            heading("4  It goes on; this part is not woken, and queries are answered all the while")
            dream, latencies_ms = dream_on(client, dream_id, budget_s)
            heading("5  The same questions, after the dream")
            ask(client, before)
            heading("6  What the night did, read back from the store")
            stats = client.stats()
            show_report(dream.report, stats, wake_ms, waking_recall_ms, latencies_ms)
            changed = find_changed_edge(client, dream_id, weights)
            heading("7  What it merged, for a person to read: `dreamsvc diff`")
            show_diff(client, dream_id)
            heading("8  What it found that nobody had told it, and the picture: `dreamsvc draw`")
            finds = demo_finds.show(client, dream_id, dream.report, console)
            demo_finds.draw(server.target, dream_id, out.with_name("dream.svg"), console)
        with serving(directory) as (_, client):
            heading("9  The server was ended and started again")
            show_kept(client, changed)
            heading("10  The night is taken back: `dreamsvc revert`")
            take_back(client, dream_id, content_before, directory / "after.jsonl")
    report = dream.report
    compression = report.compression
    figures = {
        "nodes": stats.memories,
        "edges": stats.edges,
        "nodes_due": report.nodes_eligible,
        "nodes_replayed": report.nodes_replayed,
        "edges_strengthened": report.edges_strengthened,
        "edges_weakened": report.edges_weakened,
        "edges_pruned": report.edges_pruned,
        "wake_latency_ms": round(wake_ms, 3),
        "waking_recall_ms": round(waking_recall_ms, 3),
        "recall_during_dream_ms": [round(value, 3) for value in latencies_ms],
        "state": Dream.State.Name(dream.state).removeprefix("STATE_"),
        "seconds": round(report.seconds, 3),
        "device": report.device,
        "wakes": report.wakes,
        "rounds": report.rounds,
        "average_delta": report.average_delta,
        "journal_digest": report.journal_digest,
        "nodes_before": compression.nodes_before,
        "nodes_after": compression.nodes_after,
        "vector_bytes_before": compression.vector_bytes_before,
        "vector_bytes_after": compression.vector_bytes_after,
        "containers": stats.containers,
        "facets": stats.facets,
        "eliminated": compression.redundancy.eliminated,
        "shortcuts": compression.shortcuts.created,
        "schemas": compression.schemas,
        "not_merged": {refusal.kind: refusal.count for refusal in compression.refusals},
        "information_loss": compression.retention.information_loss,
        "information_loss_95": [compression.retention.loss_low, compression.retention.loss_high],
        "links": report.exploration.linking.links,
        "finds": finds,
        "positions_map": report.exploration.fit.mean_average_precision,
        "mean_activation": report.mean_activation,
        "quality_score": report.quality.overall_score,
        "reverted_to_equal_content": True,
        "embedder": stats.embedder,
        "server_start_ms": round(server.start_ms, 1),
        "demo_seconds": round(clock.precise_s() - began, 1),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    console.print(f"\n{out} has the figures; all of it took {figures['demo_seconds']} s")


def file_weights(file: Path) -> dict[tuple[str, str, str], float]:
    """Weights as they were imported, by source, target and type."""
    with file.open(encoding="utf-8") as lines:
        edges = [edge for edge in map(json.loads, lines) if edge["type"] == "edge"]
    return {(edge["source"], edge["target"], edge["edge_type"]): edge["weight"] for edge in edges}


def import_memory(client: Client, file: Path) -> None:
    with Progress(TextColumn("  importing"), BarColumn(), DownloadColumn(), console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        report = client.import_file(file, progress=lambda sent, total: bar.update(task, completed=sent, total=total))
    check(not report.malformed, f"{report.malformed} lines were malformed: {report.malformed_lines[:3]}")
    rate = report.lines / max(report.seconds, 1e-9)
    console.print(
        f"  imported {report.memories_created} memories and {report.edges_created} edges "
        f"in {report.seconds:.2f} s ({rate:,.0f} lines/s)"
    )
    status = client.status()
    if status.embedder == "none" and not status.embedder_notice.endswith("being opened"):
        console.print(f"  no embedder, answers are found by words and edges: {status.embedder_notice}", markup=False)
        return
    stats = client.stats()
    total = stats.vectors + stats.to_embed
    deadline = clock.precise_s() + EMBED_S
    with Progress(
        TextColumn("  embedding"), BarColumn(), TextColumn("{task.fields[left]} left"), console=console, transient=True
    ) as bar:
        task = bar.add_task("", total=total, left=stats.to_embed)
        while stats.to_embed and clock.precise_s() < deadline:
            clock.sleep_s(0.1)
            stats = client.stats()
            bar.update(task, completed=total - stats.to_embed, left=stats.to_embed)
    check(stats.vectors > 0, f"in {EMBED_S:.0f} s no memory got a vector, although the server has an embedder")
    left = f", {stats.to_embed} still to come" if stats.to_embed else ""
    console.print(f"  embedder: {stats.embedder}, {stats.vectors} vectors of {stats.dimension} dimensions{left}")


def ask(client: Client, before: list[RecallResponse] | None) -> list[RecallResponse]:
    """Asks all questions and shows the best answers, with the scores they had before."""
    answers = [client.recall(question, limit=3) for question in QUESTIONS]
    table = output.table("  question", "answer", ">score", *([">before"] if before else []))
    for number, (question, answer) in enumerate(zip(QUESTIONS, answers, strict=True)):
        check(len(answer.hits) > 0, f"nothing was found for: {question}")
        for rank, hit in enumerate(answer.hits):
            row = [f"  {question}" if rank == 0 else "", hit.memory.title, f"{hit.score:.3f}"]
            if before:
                old = {known.memory.id: known.score for known in before[number].hits}
                row.append(f"{old[hit.memory.id]:.3f}" if hit.memory.id in old else "new")
            table.add_row(*row)
    console.print(table)
    if answers[0].notice:
        console.print(f"  note: {answers[0].notice}", markup=False)
    return answers


def dream_until_woken(client: Client, budget_s: float) -> tuple[str, float, float]:
    """The dream's id, the latency of the wake as the server measured it, and of the recall as we did."""
    answer = client.trigger(budget_s=budget_s, abort_on_query=True, seed=SEED)
    dream_id = answer.dream.id
    check(answer.dream.state == Dream.STATE_RUNNING, f"the dream did not start: {answer.dream}")
    with Live(console=console, auto_refresh=False, transient=True) as live:
        watch = Watch(client, dream_id, live)
        watch.until(lambda: watch.newest.dream.progress.fraction >= WAKE_AT, START_S + budget_s)
        check(not watch.ended.is_set(), f"the dream ended before a query could wake it: {watch.newest}")
        recall_began = clock.precise_s()
        recalled = client.recall(QUESTIONS[0], limit=3)
        recall_ms = (clock.precise_s() - recall_began) * 1000
        watch.finish(START_S)
    check(recalled.woke_dream == dream_id, f"the recall did not say that it woke {dream_id}")
    latencies = [event.state_change.wake_latency_ms for event in watch.events if woke(event)]
    check(len(latencies) == 1 and latencies[0] > 0, f"the stream told no latency of the wake, but {latencies}")
    suspended = client.dream(dream_id)
    check(suspended.state == Dream.STATE_SUSPENDED, f"the woken dream is {watching.state_word(suspended)}")
    console.print(f"  the query was answered after {recall_ms:.1f} ms; awake after {latencies[0]:.1f} ms")
    return dream_id, latencies[0], recall_ms


def woke(event: StreamStatusResponse) -> bool:
    """True for the change to AWAKE that a query brought about."""
    change = event.state_change
    return change.to == SLEEP_STATE_AWAKE and change.wake_reason == WAKE_REASON_USER_QUERY


def dream_on(client: Client, dream_id: str, budget_s: float) -> tuple[Dream, list[float]]:
    """The ended dream, and latencies of recalls while it ran."""
    answer = client.trigger(blocking=False, abort_on_query=False)
    check(answer.resumed and answer.dream.id == dream_id, f"it did not go on with {dream_id}: {answer}")
    latencies_ms: list[float] = []
    with Live(console=console, auto_refresh=False, transient=True) as live:
        watch = Watch(client, dream_id, live)
        watch.until(lambda: bool(watch.events), START_S)
        while not watch.ended.is_set() and watch.newest.dream.state == Dream.STATE_RUNNING:
            began = clock.precise_s()
            recalled = client.recall(QUESTIONS[len(latencies_ms) % len(QUESTIONS)])
            latencies_ms.append((clock.precise_s() - began) * 1000)
            check(not recalled.woke_dream, "a recall woke the dream although it was told not to")
            watch.show()
            watch.ended.wait(PAUSE_BETWEEN_RECALLS_S)
        watch.finish(START_S + budget_s)
    dream = client.dream(dream_id)
    check(dream.state == Dream.STATE_SUCCEEDED, f"the dream ended as {watching.state_word(dream)}: {dream.message}")
    check(len(latencies_ms) >= 5, f"only {len(latencies_ms)} recalls fell into the dream")
    middle = statistics.median(latencies_ms)
    console.print(
        f"  {len(latencies_ms)} queries meanwhile: median {middle:.1f} ms, slowest {max(latencies_ms):.1f} ms; "
        f"the dream {watching.state_word(dream)}"
    )
    return dream, latencies_ms


def show_report(
    report: DreamReport,
    stats: GetStatsResponse,
    wake_ms: float,
    waking_recall_ms: float,
    latencies_ms: list[float],
) -> None:
    check(report.nodes_replayed > 0, "the dream replayed no memory")
    check(report.edges_strengthened > 0, "the dream strengthened no edge")
    check(report.edges_weakened > 0, "the dream weakened no edge")
    check(report.edges_pruned > 0, "the dream pruned no edge")
    check(report.exploration.linking.links > 0, "the dream linked nothing")
    check(report.wakes == 1, f"the report tells of {report.wakes} wakes, not of one")
    check(
        stats.edges_pruned == report.edges_pruned, f"{stats.edges_pruned} edges are pruned, not {report.edges_pruned}"
    )
    compression = report.compression
    active = stats.memories - stats.facets + stats.containers
    check(compression.nodes_after == active, f"the report tells of {compression.nodes_after} nodes, the store {active}")
    if stats.vectors:
        check(2 * compression.nodes_after < compression.nodes_before, "the memory did not become half as large")
        check(compression.retention.measured, "the night did not measure what it lost")
        most = compression.retention.max_information_loss
        check(compression.retention.loss_high <= most, f"it may lose more than {most:.0%}: {compression.retention}")
    table: Table = watching.report_table(report)
    table.add_row("edges left / pruned in the store", f"{stats.edges} / {stats.edges_pruned}")
    table.add_row("the query that woke it, answered in", f"{waking_recall_ms:.1f} ms")
    table.add_row("awake after", f"{wake_ms:.1f} ms")
    table.add_row("queries during the dream, median", f"{statistics.median(latencies_ms):.1f} ms")
    console.print(table)
    for part in report_tables.tables(report):
        console.print(part)


def find_changed_edge(client: Client, dream_id: str, weights: dict[tuple[str, str, str], float]) -> Changed:
    """The edge with the largest change among those of some well-known memories."""
    found: list[Changed] = []
    sources = sorted({source for source, _, _ in weights})
    # A memory has few edges; a few hundred of them spread over the library are enough.
    for key in sources[:: max(1, len(sources) // 200)]:
        answer = client.get(key, with_edges=True)
        for edge in answer.edges:
            if edge.changed_by_dream != dream_id or edge.HasField("delete_time"):
                continue
            ends = [client.get(end).memory.key for end in (edge.source, edge.target)]
            before = weights.get((ends[0], ends[1], edge.type))
            # Others the dream has made.
            if before is not None:
                found.append(Changed(ends[0], ends[1], edge.type, before, edge.weight))
        if len(found) >= 50:
            break
    check(bool(found), f"no edge says that the dream {dream_id} changed it")
    changed = max(found, key=lambda edge: abs(edge.after - edge.before))
    check(changed.after != changed.before, f"the edge {changed} says that it was changed, and was not")
    return changed


def show_diff(client: Client, dream_id: str) -> None:
    """The first edits of the night, and how many there are."""
    merged = 0
    for edit in client.diff(dream_id):
        if edit.kind not in (DreamEdit.KIND_MERGED, DreamEdit.KIND_ELIMINATED):
            continue
        merged += 1
        if merged <= EDITS_SHOWN:
            for line in diff_text.edit_lines(edit, diff_text.Detail(edits=None, memories=4, ids=False)):
                console.print(f"  {line}", markup=False, overflow="ellipsis", no_wrap=True)
    check(merged > 0 or not client.stats().vectors, "the diff tells of nothing that was merged")
    console.print(f"  … and {max(0, merged - EDITS_SHOWN)} more")


def content_digest(client: Client, file: Path) -> str:
    """SHA-256 of all that a memory holds, but for who asked for it when: recalls are counted all the while."""
    client.export_to(file)
    digest = hashlib.sha256()
    with file.open(encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            kept = {name: value for name, value in line.items() if name not in ("access_time", "access_count")}
            digest.update(json.dumps(kept, sort_keys=True).encode())
    return digest.hexdigest()


def take_back(client: Client, dream_id: str, before: str, file: Path) -> None:
    answer = client.revert(dream_id)
    check(answer.dream.state == Dream.STATE_REVERTED, f"the night is {watching.state_word(answer.dream)}")
    after = content_digest(client, file)
    check(after == before, f"the memory is another one than before the night: {before} and {after}")
    console.print(
        f"  {answer.memories_restored:,} memories and {answer.edges_restored:,} edges are as before, "
        f"{answer.memories_removed:,} memories and {answer.edges_removed:,} edges that it had made are gone"
    )
    console.print(f"  SHA-256 of the memory before the night and now: {before[:16]}… = {after[:16]}…")


def show_kept(client: Client, changed: Changed) -> None:
    target = client.get(changed.target).memory.id
    edges = client.get(changed.source, with_edges=True).edges
    kept = [edge.weight for edge in edges if (edge.target in (target, changed.target)) and edge.type == changed.type]
    check(kept == [changed.after], f"after the restart the edge {changed} weighs {kept}")
    name = f"{changed.source.removeprefix('py:')} -> {changed.target.removeprefix('py:')}"
    console.print(f"  {name} ({changed.type}): imported with {changed.before:.4f}, still {kept[0]:.4f}")


def main() -> int:
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description="Imports, dreams, wakes, dreams on, and reports.")
    parser.add_argument("--out", type=Path, default=root / "build" / "demo.json")
    parser.add_argument("--budget", type=float, default=120.0, help="most seconds of the dream (default: 120)")
    parser.add_argument("--limit", type=int, default=stdlib_memory.LIMIT, help="most memories")
    args = parser.parse_args()
    try:
        demo(args.out, args.budget, args.limit)
    except (DemoFailed, demo_finds.NothingFound) as failure:
        print(f"\nthe demo failed: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
