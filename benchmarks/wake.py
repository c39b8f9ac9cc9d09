"""How fast a dream ends when somebody needs the memory, and how fast recalls are while one runs.

Real processes: `dreamsvc serve`, its dreamer, and this one as the client. At random moments of its dream a space is
woken by an Abort or by a Recall; after that the same questions are asked in turn during a dream and without one.
"""

import queue
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from dreamsvc_client import Client, DreamsvcCallError
from rich.console import Console

from benchmarks import harness
from benchmarks.made_memory import MadeMemory, Query
from benchmarks.serving import BY_REQUEST_ONLY, Server, ServerFailed, serving
from dreamsvc import clock
from dreamsvc.cli import output
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_service_pb2 import StreamStatusResponse

CONFIG = f"""{BY_REQUEST_ONLY}
[dream.nrem]
pace = "fill"
[dream.resources]
dreamer_idle_seconds = 3600
"""
BUDGET_S = 1800.0
EDGES_A_NODE = 8
DIMENSION = 256
EVENT_S = 60.0
CALL_S = 600.0
# Of the wakes, those that come before NREM, and right at its beginning, where memories are selected.
ENTERING_SHARE, SELECTING_SHARE = 0.1, 0.1
SELECTING_S = 0.01
DREAMING_S = 0.25
# So often the dream begins anew; in between the same one is woken and goes on from its checkpoint.
FRESH_EVERY = 50
PAUSE_S = 0.02
QUESTIONS_A_BLOCK = 20
WARM_UP = 50


class Size(NamedTuple):
    nodes: int
    # Aborts, and as many recalls that wake.
    wakes: int
    # Recalls during a dream, and as many without.
    recalls: int


class Moment(NamedTuple):
    """When a dream is woken: so long after its trigger, or after NREM has begun."""

    entering: bool
    # 0 to 1 of the time that entering takes; else seconds.
    delay: float
    fresh: bool


class Wake(NamedTuple):
    """One dream that was woken."""

    by: str
    # What the stream had last told when it was woken.
    state: str
    # The call itself, and what the service measured from its arrival to AWAKE.
    call_ms: float
    inside_ms: float
    # From the call to the news of AWAKE on the stream.
    seen_ms: float


class Night:
    """One dream from its trigger on, followed on its stream."""

    def __init__(self, client: Client, *, wakeable: bool, fresh: bool = False) -> None:
        self._news: queue.Queue[tuple[float, StreamStatusResponse | None]] = queue.Queue()
        self.began_s = clock.precise_s()
        self.id = client.trigger(budget_s=BUDGET_S, abort_on_query=wakeable, fresh=fresh).dream.id
        self.triggered_ms = (clock.precise_s() - self.began_s) * 1000
        self._last = StreamStatusResponse()
        self._awake: tuple[float, float] | None = None
        threading.Thread(target=self._read, args=(client,), daemon=True).start()

    def _read(self, client: Client) -> None:
        try:
            for event in client.watch(dream_id=self.id):
                self._news.put((clock.precise_s(), event))
        except DreamsvcCallError:
            pass
        self._news.put((clock.precise_s(), None))

    def until_nrem(self) -> float:
        """Milliseconds from the trigger until the dream was in NREM."""
        while self._last.sleep_state != dream_pb2.SLEEP_STATE_NREM:
            self._next()
        return (self._heard_s - self.began_s) * 1000

    def state(self) -> str:
        """What the stream has told so far, e.g. "nrem"."""
        while not self._news.empty():
            self._next()
        return output.word(dream_pb2.SleepState, self._last.sleep_state, "SLEEP_STATE_") or "not told yet"

    def until_awake(self) -> tuple[float, float]:
        """When the news of AWAKE came, and the latency that it told."""
        while self._awake is None:
            self._next()
        return self._awake

    def until_over(self) -> None:
        while self._last.WhichOneof("event") != "closing":
            self._next()

    def _next(self) -> None:
        try:
            self._heard_s, event = self._news.get(timeout=EVENT_S)
        except queue.Empty:
            raise ServerFailed(f"no news of dream {self.id} for {EVENT_S:g} s, the last were {self._last}") from None
        if event is None:
            raise ServerFailed(f"the stream of dream {self.id} ended, its last news were {self._last}")
        self._last = event
        if event.dream.state == dream_pb2.Dream.STATE_FAILED:
            raise ServerFailed(f"dream {self.id} failed: {event.dream.message}")
        change = event.state_change
        if change.to == dream_pb2.SLEEP_STATE_AWAKE and event.HasField("state_change"):
            self._awake = self._heard_s, change.wake_latency_ms


class Space:
    """A made-up memory in a server, and all that is measured on it."""

    def __init__(self, server: Server, client: Client, size: Size, advance: Callable[[], None]) -> None:
        self._server, self._client, self._size, self._advance = server, client, size, advance
        self._rng = np.random.default_rng(size.nodes)
        self._memory = MadeMemory(size.nodes, EDGES_A_NODE * size.nodes, DIMENSION)
        self._queries = self._memory.queries(max(size.recalls, WARM_UP))
        self._entering_ms: list[float] = []
        self._trigger_ms: list[float] = []
        self._not_dreaming = 0

    def fill(self) -> None:
        with tempfile.TemporaryDirectory(prefix="dreamsvc-bench-") as directory:
            file = Path(directory) / "memory.jsonl"
            self._memory.write(file)
            report = self._client.import_file(file)
        if (report.memories_created, report.edges_created) != (self._memory.nodes, self._memory.edges):
            raise ServerFailed(f"not all of it was imported: {report}")

    def measure(self) -> dict[str, Any]:
        first = Night(self._client, wakeable=False)
        dreamer_start_ms = first.until_nrem()
        self._end(first)
        wakes = list(self._wakes())
        idle_ms, dreaming_ms = self._recalls()
        told = self._client.status().wake_latency
        return {
            "nodes": self._memory.nodes,
            "edges": self._memory.edges,
            "dimension": DIMENSION,
            "abort": _summary([wake for wake in wakes if wake.by == "abort"]),
            "recall": _summary([wake for wake in wakes if wake.by == "recall"]),
            "not_dreaming": self._not_dreaming,
            "killed": told.killed,
            "told_by_status": {"count": told.count, "p95_ms": round(told.p95_ms, 3), "max_ms": round(told.max_ms, 3)},
            "recall_idle": harness.percentiles(idle_ms),
            "recall_dreaming": harness.percentiles(dreaming_ms),
            "trigger": harness.percentiles(self._trigger_ms),
            "trigger_to_nrem": harness.percentiles(self._entering_ms),
            "trigger_to_nrem_with_start_of_dreamer_ms": round(dreamer_start_ms, 1),
            "server_resident_mb": round(self._server.resident_mb(), 1),
        }

    # Wakes

    def _wakes(self) -> Iterator[Wake]:
        wakers = [self._by_abort, self._by_recall] * self._size.wakes
        for number, waker in enumerate(self._rng.permutation(np.array(wakers, object)).tolist()):
            moment = self._moment(fresh=number % FRESH_EVERY == 0)
            # One that came when nothing dreamed, e.g. before the dream had begun, does not count and is made up for.
            while (wake := self._woken(moment, waker)) is None:
                self._not_dreaming += 1
            yield wake
            self._advance()

    def _moment(self, *, fresh: bool) -> Moment:
        drawn, delay = self._rng.uniform(size=2).tolist()
        if drawn < ENTERING_SHARE:
            # Half of those begin anew, which takes a snapshot.
            return Moment(True, delay, fresh or drawn < ENTERING_SHARE / 2)
        if drawn < ENTERING_SHARE + SELECTING_SHARE:
            return Moment(False, delay * SELECTING_S, fresh)
        return Moment(False, delay * DREAMING_S, fresh)

    def _woken(self, moment: Moment, waker: Callable[[Night], Wake | None]) -> Wake | None:
        night = Night(self._client, wakeable=waker == self._by_recall, fresh=moment.fresh)
        self._trigger_ms.append(night.triggered_ms)
        if moment.entering:
            left_ms = max(0.0, float(np.median(self._entering_ms or [50.0])) - night.triggered_ms)
            clock.sleep_s(moment.delay * left_ms / 1000)
        else:
            self._entering_ms.append(night.until_nrem())
            clock.sleep_s(moment.delay)
        wake = waker(night)
        if wake is None:
            self._client.abort()
        night.until_over()
        return wake

    def _by_abort(self, night: Night) -> Wake | None:
        state, began = night.state(), clock.precise_s()
        answer = self._client.abort()
        call_ms = (clock.precise_s() - began) * 1000
        if not answer.was_dreaming:
            return None
        awake_s, _ = night.until_awake()
        return Wake("abort", state, call_ms, answer.wake_latency_ms, (awake_s - began) * 1000)

    def _by_recall(self, night: Night) -> Wake | None:
        state, began = night.state(), clock.precise_s()
        answer = self._ask(self._queries[int(self._rng.integers(len(self._queries)))])
        call_ms = (clock.precise_s() - began) * 1000
        if not answer:
            return None
        awake_s, inside_ms = night.until_awake()
        return Wake("recall", state, call_ms, inside_ms, (awake_s - began) * 1000)

    # Recalls during a dream and without one

    def _recalls(self) -> tuple[list[float], list[float]]:
        self._timed(self._queries[:WARM_UP])
        idle_ms: list[float] = []
        dreaming_ms: list[float] = []
        for start in range(0, self._size.recalls, QUESTIONS_A_BLOCK):
            block = self._queries[start : min(start + QUESTIONS_A_BLOCK, self._size.recalls)]
            idle_ms += self._timed(block)
            night = Night(self._client, wakeable=False)
            night.until_nrem()
            dreaming_ms += self._timed(block)
            self._end(night)
            self._advance()
        return idle_ms, dreaming_ms

    def _timed(self, queries: Sequence[Query]) -> list[float]:
        """Latencies as the client sees them, with random pauses in between."""
        latencies: list[float] = []
        for query in queries:
            clock.sleep_s(self._rng.uniform(0, PAUSE_S))
            began = clock.precise_s()
            self._ask(query)
            latencies.append((clock.precise_s() - began) * 1000)
        return latencies

    def _ask(self, query: Query) -> str:
        return self._client.recall(query.text, vector=query.vector).woke_dream

    def _end(self, night: Night) -> None:
        self._client.abort()
        night.until_over()


def _summary(wakes: Sequence[Wake]) -> dict[str, Any]:
    states = sorted({wake.state for wake in wakes})
    return {
        "call": harness.percentiles([wake.call_ms for wake in wakes]),
        "inside": harness.percentiles([wake.inside_ms for wake in wakes]),
        "seen_on_stream": harness.percentiles([wake.seen_ms for wake in wakes]),
        "inside_by_state": {
            state: harness.percentiles([wake.inside_ms for wake in wakes if wake.state == state]) for state in states
        },
    }


def _figures(found: dict[str, Any], suffix: str) -> dict[str, float]:
    abort, idle, dreaming = found["abort"]["call"], found["recall_idle"], found["recall_dreaming"]
    figures = {
        "abort_p50_ms": abort["p50_ms"],
        "abort_p95_ms": abort["p95_ms"],
        "abort_p99_ms": abort["p99_ms"],
        "abort_max_ms": abort["max_ms"],
        "recall_wake_p95_ms": found["recall"]["inside"]["p95_ms"],
        "recall_idle_p95_ms": idle["p95_ms"],
        "recall_dreaming_p95_ms": dreaming["p95_ms"],
        "recall_p95_ratio": dreaming["p95_ms"] / idle["p95_ms"],
        "killed": found["killed"],
    }
    return {key + suffix: value for key, value in figures.items()}


@contextmanager
def _shown(console: Console, size: Size) -> Iterator[Callable[[], None]]:
    with harness.bar(console) as progress:
        rounds = 2 * size.wakes + -(-size.recalls // QUESTIONS_A_BLOCK)
        task = progress.add_task(f"{size.nodes:,} nodes", total=rounds)
        yield lambda: progress.advance(task)


def _at(size: Size, console: Console) -> dict[str, Any]:
    with (
        serving(config=CONFIG) as server,
        Client(server.target, timeout_s=CALL_S) as client,
        _shown(console, size) as advance,
    ):
        space = Space(server, client, size, advance)
        space.fill()
        return space.measure()


def run(quick: bool, console: Console) -> harness.Measured:
    small, large = (
        (Size(500, 10, 40), Size(1000, 20, 40)) if quick else (Size(10_000, 300, 400), Size(100_000, 300, 400))
    )
    at_small, at_large = _at(small, console), _at(large, console)
    detail = {f"{size.nodes} nodes": found for size, found in ((small, at_small), (large, at_large))}
    return harness.Measured(_figures(at_large, "") | _figures(at_small, "_10k"), detail)


_KEYS = (
    "abort_p50_ms",
    "abort_p95_ms",
    "abort_p99_ms",
    "abort_max_ms",
    "recall_wake_p95_ms",
    "recall_idle_p95_ms",
    "recall_dreaming_p95_ms",
    "recall_p95_ratio",
    "killed",
)
_TARGETS = {
    "abort_p95_ms": (harness.Target(100), harness.Target(25, must=False)),
    "recall_wake_p95_ms": (harness.Target(100), harness.Target(25, must=False)),
    "recall_p95_ratio": (harness.Target(1.5),),
}
BENCHMARK = harness.Benchmark(
    figures=[key + suffix for suffix in ("", "_10k") for key in _KEYS],
    targets={key + suffix: targets for suffix in ("", "_10k") for key, targets in _TARGETS.items()},
    run=run,
)
