"""How long a server takes to start, and the memory that it then takes; each time a new process with an empty store.

Also with everything switched on: TLS of both sides, tokens, an issuer's keys, metrics, JSON logs, traces.
"""

import compileall
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from dreamsvc_client import Client
from rich.console import Console

import dreamsvc
from benchmarks import fully_on, harness
from benchmarks.serving import BY_REQUEST_ONLY, Server, ServerFailed, dreamsvc_command
from dreamsvc import clock

STARTS, QUICK_STARTS = 20, 2
EMBEDDER_S = 30.0
OPENING = "being opened"
# The embedder is opened beside the first calls: it does not delay them, and its memory counts.
EMBEDDERS = {"": "none", "_auto": "auto", "_all": "auto"}
ALL = "_all"


class Start(NamedTuple):
    """One start, in milliseconds since the process was made."""

    # The line that tells the port.
    listening_ms: float
    # The answer to the first GetStatus.
    answered_ms: float
    # The embedder is there too, or there will be none.
    ready_ms: float
    # MB of 10^6 bytes, when ready.
    rss_mb: float


def _start(suffix: str) -> Start:
    with tempfile.TemporaryDirectory(prefix="dreamsvc-bench-") as name:
        directory = Path(name)
        full = fully_on.prepare(directory, _free_port()) if suffix == ALL else None
        config = full.config if full else BY_REQUEST_ONLY
        command = dreamsvc_command(directory, embedder=EMBEDDERS[suffix], config=config)
        credentials = full.credentials if full else None
        with (
            Server(command, directory / "server.log") as server,
            Client(server.target, credentials=credentials) as client,
        ):
            client.status()
            answered_s = clock.precise_s()
            _await_embedder(client)
            ready_s, rss_mb = clock.precise_s(), server.resident_mb()
            server.stop()
        since_ms = [(moment - server.began_s) * 1000 for moment in (server.listening_s, answered_s, ready_s)]
        return Start(*since_ms, rss_mb)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_embedder(client: Client) -> None:
    deadline = clock.precise_s() + EMBEDDER_S
    while OPENING in (notice := client.status().embedder_notice):
        if clock.precise_s() > deadline:
            raise ServerFailed(f"after {EMBEDDER_S:g} s still: {notice}")
        clock.sleep_s(0.005)


def _figures(starts: list[Start]) -> Mapping[str, float]:
    answered = harness.percentiles([start.answered_ms for start in starts])
    listening = harness.percentiles([start.listening_ms for start in starts])
    ready = harness.percentiles([start.ready_ms for start in starts])
    return {
        "p50_ms": answered["p50_ms"],
        "p95_ms": answered["p95_ms"],
        "listening_p95_ms": listening["p95_ms"],
        "ready_p95_ms": ready["p95_ms"],
        "rss_mb": max(start.rss_mb for start in starts),
    }


def run(quick: bool, console: Console) -> harness.Measured:
    count = QUICK_STARTS if quick else STARTS
    starts: dict[str, list[Start]] = {suffix: [] for suffix in EMBEDDERS}
    # As every installer leaves it, also where the environment forbids Python to do it by itself.
    compileall.compile_dir(Path(dreamsvc.__file__).parent, quiet=1)
    # The first one finds nothing in the page cache.
    cold = _start("")
    with harness.bar(console) as progress:
        task = progress.add_task("starts", total=count)
        for _ in range(count):
            for suffix in EMBEDDERS:
                starts[suffix].append(_start(suffix))
            progress.advance(task)
    figures = {f"{key}{suffix}": value for suffix in EMBEDDERS for key, value in _figures(starts[suffix]).items()}
    detail = {
        "starts": count,
        "p50_ms, p95_ms": "from exec to the answer to the first GetStatus",
        "rss_mb": "MB of 10^6 bytes, the largest of all starts, once the embedder is there",
        "first_start_ms": round(cold.answered_ms, 1),
        "each": {suffix.strip("_") or "none": [start._asdict() for start in starts[suffix]] for suffix in EMBEDDERS},
    }
    return harness.Measured(figures, detail)


_MEASURED = ("p50_ms", "p95_ms", "listening_p95_ms", "ready_p95_ms", "rss_mb")
BENCHMARK = harness.Benchmark(
    figures=[key + suffix for suffix in EMBEDDERS for key in _MEASURED],
    targets={
        f"{key}{suffix}": (harness.Target(most),)
        for suffix in EMBEDDERS
        for key, most in (("p95_ms", 250), ("rss_mb", 100))
    },
    run=run,
)
