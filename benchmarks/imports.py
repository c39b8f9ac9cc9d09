"""How many items an import takes in a second, in both formats, and how fast recalls are answered meanwhile.

An item is an entity, an observation or a relation. In the own format an observation is a memory of its own and an edge
to it; every memory brings a vector.
"""

import statistics
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dreamsvc_client import Client, DreamsvcCallError
from rich.console import Console
from rich.progress import Progress

from benchmarks import harness
from benchmarks.made_memory import MadeMemory, Query
from benchmarks.serving import ServerFailed, serving
from dreamsvc import clock

DIMENSION = 256
CALL_S = 1200.0
PAUSE_S = 0.02
WARM_UP = 50


class Size(NamedTuple):
    entities: int
    observations: int
    relations: int
    # Memories that are there already and are asked for during the import.
    known: int
    recalls: int

    @property
    def items(self) -> int:
        return self.entities + self.observations + self.relations


class Files(NamedTuple):
    mcp: Path
    own: Path
    known: Path


def _known(size: Size) -> MadeMemory:
    return MadeMemory(size.known, 8 * size.known, DIMENSION, name="known")


def _write(size: Size, directory: Path) -> Files:
    files = Files(directory / "mcp.jsonl", directory / "own.jsonl", directory / "known.jsonl")
    MadeMemory(size.entities, size.relations, 0).write_mcp(files.mcp, size.observations)
    nodes, edges = size.entities + size.observations, size.relations + size.observations
    MadeMemory(nodes, edges, DIMENSION).write(files.own)
    _known(size).write(files.known)
    return files


class Imported(NamedTuple):
    seconds: float
    lines: int
    memories: int
    edges: int
    resident_mb: float

    def shown(self, size: Size) -> dict[str, float]:
        return {
            "seconds": round(self.seconds, 3),
            "items_per_s": round(size.items / self.seconds, 1),
            "lines_per_s": round(self.lines / self.seconds, 1),
            "memories": self.memories,
            "edges": self.edges,
            "server_resident_mb": round(self.resident_mb, 1),
        }


class Run:
    """Imports one file after the other, each into a server of its own, and shows how far they are."""

    def __init__(self, size: Size, files: Files, progress: Progress) -> None:
        self._size, self._files, self._progress = size, files, progress

    def plain(self, file: Path, title: str, *, dry_run: bool = False) -> Imported:
        """Into an empty store."""
        with serving() as server, Client(server.target, timeout_s=CALL_S) as client:
            imported = self._import(client, file, title, dry_run=dry_run)
            return imported._replace(resident_mb=server.resident_mb())

    def asked_meanwhile(self) -> tuple[Imported, list[float], list[float]]:
        """The own format into a space that is asked all the while; latencies before and during the import."""
        size = self._size
        queries = _known(size).queries(size.recalls)
        with serving() as server, Client(server.target, timeout_s=CALL_S) as client:
            # Into the same space: what is imported is found as soon as it is there.
            client.import_file(self._files.known, "asked")
            _ask(client, queries[:WARM_UP])
            idle_ms = _ask(client, queries)
            over = threading.Event()
            during_ms: list[float] = []
            failures: list[DreamsvcCallError] = []

            def keep_asking() -> None:
                try:
                    while not over.is_set():
                        during_ms.extend(_ask(client, queries, over))
                except DreamsvcCallError as error:
                    failures.append(error)

            asking = threading.Thread(target=keep_asking)
            asking.start()
            try:
                imported = self._import(client, self._files.own, "own format, asked meanwhile", space="asked")
            finally:
                over.set()
                asking.join()
            if failures:
                raise failures[0]
            return imported._replace(resident_mb=server.resident_mb()), idle_ms, during_ms

    def _import(
        self, client: Client, file: Path, title: str, *, space: str = "default", dry_run: bool = False
    ) -> Imported:
        task = self._progress.add_task(title, total=None)
        began = clock.precise_s()
        report = client.import_file(
            file,
            space,
            dry_run=dry_run,
            progress=lambda sent, total: self._progress.update(task, completed=sent, total=total),
        )
        seconds = clock.precise_s() - began
        if report.malformed:
            raise ServerFailed(f"{report.malformed} lines are malformed: {report.malformed_lines[:3]}")
        if report.memories_unchanged or report.edges_unchanged:
            raise ServerFailed(f"some of it was there before: {report}")
        return Imported(seconds, report.lines, report.memories_created, report.edges_created, 0.0)


def _ask(client: Client, queries: Sequence[Query], over: threading.Event | None = None) -> list[float]:
    """Latencies in milliseconds; ends early where `over` is set."""
    latencies: list[float] = []
    for query in queries:
        if over is not None and over.wait(PAUSE_S):
            break
        began = clock.precise_s()
        client.recall(query.text, vector=query.vector, space="asked")
        latencies.append((clock.precise_s() - began) * 1000)
    return latencies


def run(quick: bool, console: Console) -> harness.Measured:
    size = Size(1000, 600, 600, 200, 20) if quick else Size(100_000, 60_000, 60_000, 10_000, 300)
    with tempfile.TemporaryDirectory(prefix="dreamsvc-bench-") as name, harness.bar(console) as progress:
        files = _write(size, Path(name))
        imports = Run(size, files, progress)
        mcp = imports.plain(files.mcp, "MCP format")
        own = imports.plain(files.own, "own format")
        rehearsed = imports.plain(files.mcp, "MCP format, dry run", dry_run=True)
        asked, idle_ms, during_ms = imports.asked_meanwhile()
        file_mb = {"mcp": files.mcp.stat().st_size / 1e6, "own": files.own.stat().st_size / 1e6}
    if not during_ms:
        raise ServerFailed("no recall was answered during the import")
    idle, during = harness.percentiles(idle_ms), harness.percentiles(during_ms)
    figures = {
        "items_per_s": size.items / mcp.seconds,
        "seconds": mcp.seconds,
        "items_per_s_own": size.items / own.seconds,
        "seconds_own": own.seconds,
        "items_per_s_dry_run": size.items / rehearsed.seconds,
        "items_per_s_own_asked": size.items / asked.seconds,
        "recall_p95_ms": during["p95_ms"],
        "recall_idle_p95_ms": idle["p95_ms"],
    }
    detail: dict[str, Any] = {
        "items": size._asdict(),
        "dimension_own": DIMENSION,
        "file_mb": {key: round(value, 1) for key, value in file_mb.items()},
        "mcp": mcp.shown(size),
        "own": own.shown(size),
        "dry_run": rehearsed.shown(size),
        "own_asked": asked.shown(size),
        "recall_idle": idle,
        "recall_during_import": {**during, "mean_ms": round(statistics.fmean(during_ms), 3)},
    }
    return harness.Measured(figures, detail)


BENCHMARK = harness.Benchmark(
    figures=[
        "items_per_s",
        "seconds",
        "items_per_s_own",
        "seconds_own",
        "items_per_s_dry_run",
        "items_per_s_own_asked",
        "recall_p95_ms",
        "recall_idle_p95_ms",
    ],
    targets={},
    run=run,
)
