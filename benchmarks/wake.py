"""How fast a dream ends when somebody needs the memory, and how fast recalls are while one runs.

Real processes: `dreamsvc serve`, its dreamer, and this one as the client. At random moments of its dream, and in every
part of it that comes later, a space is woken by an Abort or by a Recall; after that the same questions are asked in
turn during a dream and without one, and while a snapshot is taken.
"""

import itertools
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
from dreamsvc.v1.dream_pb2 import SubPhase
from dreamsvc.v1.dream_service_pb2 import StreamStatusResponse

CONFIG = f"""{BY_REQUEST_ONLY}
[dream.quality]
probe_cues = 200
[dream.resources]
dreamer_idle_seconds = 3600
"""
BUDGET_S = 1800.0
EDGES_A_NODE = 8
DIMENSION = 256
EVENT_S = 120.0
CALL_S = 600.0
# Of the wakes, those that come before NREM, and right at its beginning, where memories are selected.
ENTERING_SHARE, SELECTING_SHARE = 0.1, 0.1
SELECTING_S = 0.01
DREAMING_S = 0.25
# So often the dream begins anew; in between the same one is woken and goes on from its checkpoint.
FRESH_EVERY = 8
PAUSE_S = 0.02
QUESTIONS_A_BLOCK = 20
WARM_UP = 50
SNAPSHOTS = 5
# Before the names of its sub-phases.
REM = "rem: "
# Before each block of questions a night goes on for up to so long.
DREAMING_TO_S = 10.0


class Place(NamedTuple):
    """A part of a night that is woken."""

    # Sub-phases, each heard of after the one before; it is woken in the last.
    path: tuple[SubPhase.ValueType, ...]
    # So many seconds after that at most.
    within_s: float
    wakes: int


# In the order of the night. A dream that is woken goes on with the step that it was in, so that it comes to its end
# although it is woken again and again: the probes ask before there are containers, with them, and at the end.
PLACES = (
    Place((dream_pb2.SUB_PHASE_SHORTCUTS,), 0.4, 12),
    Place((dream_pb2.SUB_PHASE_REDUNDANCY_ELIMINATION,), 4.0, 8),
    Place((dream_pb2.SUB_PHASE_PROBES,), 1.0, 8),
    Place((dream_pb2.SUB_PHASE_PROBES, dream_pb2.SUB_PHASE_REDUNDANCY_ELIMINATION), 4.0, 8),
    Place((dream_pb2.SUB_PHASE_CONSOLIDATION,), 5.0, 12),
    Place((dream_pb2.SUB_PHASE_CONSOLIDATION, dream_pb2.SUB_PHASE_PROBES), 0.5, 6),
    Place((dream_pb2.SUB_PHASE_SCHEMA_EXTRACTION,), 2.0, 12),
    Place((dream_pb2.SUB_PHASE_SCHEMA_EXTRACTION, dream_pb2.SUB_PHASE_PROBES), 2.0, 8),
    Place((dream_pb2.SUB_PHASE_LINKING,), 5.0, 12),
    Place((dream_pb2.SUB_PHASE_INDEX_CONSOLIDATION,), 2.0, 8),
    Place((dream_pb2.SUB_PHASE_INDEX_CONSOLIDATION, dream_pb2.SUB_PHASE_PROBES), 4.0, 8),
    Place((dream_pb2.SUB_PHASE_POSITIONS,), 6.0, 12),
    Place((dream_pb2.SUB_PHASE_BLIND_SPOTS,), 3.0, 12),
)


def word(sub_phase: SubPhase.ValueType) -> str:
    """E.g. "consolidation"; nothing for none."""
    return output.word(dream_pb2.SubPhase, sub_phase, "SUB_PHASE_")


class Size(NamedTuple):
    nodes: int
    # Aborts, and as many recalls that wake, at any moment near the beginning.
    wakes: int
    # Of the wakes in each of the places.
    share: float
    # Recalls during a dream, and as many without.
    recalls: int
    places: Sequence[Place] = PLACES
    # A wake that came too late or too early is made up for so often.
    tries: int = 5


class Moment(NamedTuple):
    """When a dream is woken: so long after its trigger, after NREM has begun, or at the end of a path of sub-phases."""

    entering: bool
    # 0 to 1 of the time that entering takes; else seconds.
    delay: float
    fresh: bool
    # Of each of these one is heard of first, after one of those before.
    path: tuple[frozenset[SubPhase.ValueType], ...] = ()


class Wake(NamedTuple):
    """One dream that was woken."""

    by: str
    # What the stream had last told when it was woken: the state, and of NREM and REM the sub-phase.
    state: str
    sub_phase: str
    # The call itself, and what the service measured from its arrival to AWAKE.
    call_ms: float
    inside_ms: float
    # From the call to the news of AWAKE on the stream.
    seen_ms: float


class Night:
    """One dream from its trigger on, followed on its stream."""

    def __init__(self, client: Client, *, wakeable: bool, fresh: bool = False, seed: int | None = None) -> None:
        self._news: queue.Queue[tuple[float, StreamStatusResponse | None]] = queue.Queue()
        self.began_s = clock.precise_s()
        self._client = client
        dream = client.trigger(budget_s=BUDGET_S, abort_on_query=wakeable, fresh=fresh, propose=True, seed=seed).dream
        self.id = dream.id
        self.triggered_ms = (clock.precise_s() - self.began_s) * 1000
        self._last = StreamStatusResponse()
        self._awake: tuple[float, float] | None = None
        self._in_nrem_s = 0.0
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
        if not self._until(lambda: self._in_nrem_s > 0):
            raise ServerFailed(f"dream {self.id} ended before it was in NREM: {self._last.dream.message}")
        return (self._in_nrem_s - self.began_s) * 1000

    def until_in(self, path: Sequence[frozenset[SubPhase.ValueType]]) -> bool:
        """Whether the dream told of one of each of these, in turn, and did not come to its end before."""
        return all(
            self._until(lambda wanted=sub_phases: self._last.dream.progress.sub_phase in wanted) for sub_phases in path
        )

    def state(self) -> str:
        """What the stream has told so far, e.g. "nrem"."""
        while not self._news.empty():
            self._next()
        return output.word(dream_pb2.SleepState, self._last.sleep_state, "SLEEP_STATE_") or "not told yet"

    def sub_phase(self) -> str:
        """What the stream has told so far, e.g. "consolidation" or "rem: positions"; nothing before NREM."""
        state = self.state()
        told = word(self._last.dream.progress.sub_phase)
        match state:
            case "nrem":
                return told or "memory selection"
            case "rem":
                return f"{REM}{told}"
            case _:
                return ""

    def until_awake(self) -> tuple[float, float]:
        """When the news of AWAKE came, and the latency that it told."""
        while self._awake is None:
            self._next()
        return self._awake

    def until_over(self) -> None:
        """A night that came to its end by itself is taken back, so that the next ones find the same memory."""
        self._until(lambda: False)
        if self._last.dream.state == dream_pb2.Dream.STATE_PROPOSED:
            self._client.reject(self.id)

    def _until(self, there: Callable[[], bool]) -> bool:
        """Whether it came to something, and not to its end before."""
        while not there():
            if self._last.WhichOneof("event") == "closing":
                return False
            self._next()
        return True

    def _next(self) -> None:
        try:
            self._heard_s, event = self._news.get(timeout=EVENT_S)
        except queue.Empty:
            raise ServerFailed(f"no news of dream {self.id} for {EVENT_S:g} s, the last were {self._last}") from None
        if event is None:
            if self._last.WhichOneof("event") == "closing":
                return
            raise ServerFailed(f"the stream of dream {self.id} ended, its last news were {self._last}")
        self._last = event
        if event.sleep_state == dream_pb2.SLEEP_STATE_NREM and not self._in_nrem_s:
            self._in_nrem_s = self._heard_s
        if event.dream.state == dream_pb2.Dream.STATE_FAILED:
            raise ServerFailed(f"dream {self.id} failed: {event.dream.message}")
        change = event.state_change
        if change.to == dream_pb2.SLEEP_STATE_AWAKE and event.HasField("state_change"):
            self._awake = self._heard_s, change.wake_latency_ms


class Space:
    """A made-up memory in a server, and all that is measured on it."""

    def __init__(
        self, server: Server, client: Client, size: Size, advance: Callable[[], None], seed: int | None = None
    ) -> None:
        """seed: of every night; each has its own without."""
        self._server, self._client, self._size, self._advance = server, client, size, advance
        self._rng = np.random.default_rng(size.nodes)
        self._memory = MadeMemory(size.nodes, EDGES_A_NODE * size.nodes, DIMENSION)
        self._queries = self._memory.queries(max(size.recalls, WARM_UP))
        self._entering_ms: list[float] = []
        self._trigger_ms: list[float] = []
        self._seed = seed
        self._not_dreaming = 0

    def fill(self) -> None:
        self._memory.import_into(self._client)

    def measure(self) -> dict[str, Any]:
        first = Night(self._client, wakeable=False)
        dreamer_start_ms = first.until_nrem()
        self._end(first)
        wakes = list(self._wakes())
        idle_ms, dreaming_ms = self._recalls()
        snapshot_ms, recalls_ms = self._snapshots()
        told = self._client.status().wake_latency
        return {
            "nodes": self._memory.nodes,
            "edges": self._memory.edges,
            "dimension": DIMENSION,
            "abort": _summary([wake for wake in wakes if wake.by == "abort"]),
            "recall": _summary([wake for wake in wakes if wake.by == "recall"]),
            "by_sub_phase": _by_sub_phase(wakes),
            "not_dreaming": self._not_dreaming,
            "killed": told.killed,
            "told_by_status": {"count": told.count, "p95_ms": round(told.p95_ms, 3), "max_ms": round(told.max_ms, 3)},
            "recall_idle": harness.percentiles(idle_ms),
            "recall_dreaming": harness.percentiles(dreaming_ms),
            "fresh_trigger_to_nrem": harness.percentiles(snapshot_ms),
            "recall_meanwhile": harness.percentiles(recalls_ms),
            "trigger": harness.percentiles(self._trigger_ms),
            "trigger_to_nrem": harness.percentiles(self._entering_ms),
            "trigger_to_nrem_with_start_of_dreamer_ms": round(dreamer_start_ms, 1),
            "server_resident_mb": round(self._server.resident_mb(), 1),
        }

    # Wakes

    def _wakes(self) -> Iterator[Wake]:
        moments = [self._moment(fresh=number % FRESH_EVERY == 0) for number in range(2 * self._size.wakes)]
        moments += [self._in(place) for place in self._size.places for _ in range(_count(place, self._size))]
        wakers = itertools.cycle([self.by_abort, self.by_recall])
        for moment, waker in zip(moments, wakers, strict=False):
            # One that came when nothing dreamed, e.g. before the dream had begun, does not count and is made up for.
            for _ in range(self._size.tries):
                if (wake := self.woken(moment, waker)) is not None:
                    yield wake
                    break
                self._not_dreaming += 1
            self._advance()

    def _moment(self, *, fresh: bool) -> Moment:
        drawn, delay = self._rng.uniform(size=2).tolist()
        if drawn < ENTERING_SHARE:
            # Half of those begin anew, which takes a snapshot.
            return Moment(True, delay, fresh or drawn < ENTERING_SHARE / 2)
        if drawn < ENTERING_SHARE + SELECTING_SHARE:
            return Moment(False, delay * SELECTING_S, fresh)
        return Moment(False, delay * DREAMING_S, fresh)

    def _in(self, place: Place) -> Moment:
        path = tuple(frozenset({sub_phase}) for sub_phase in place.path)
        return Moment(False, self._rng.uniform(0, place.within_s), False, path)

    def woken(self, moment: Moment, waker: Callable[[Night], Wake | None]) -> Wake | None:
        """A dream that goes on until a moment and is woken then; None where it was over before."""
        wakeable = waker == self.by_recall
        night = Night(self._client, wakeable=wakeable, fresh=moment.fresh, seed=self._seed)
        self._trigger_ms.append(night.triggered_ms)
        wake = waker(night) if self._is_there(night, moment) else None
        if wake is None:
            self._client.abort()
        night.until_over()
        return wake

    def _is_there(self, night: Night, moment: Moment) -> bool:
        """Waits until a night is where it is to be woken; False where it ended before."""
        if moment.entering:
            left_ms = max(0.0, float(np.median(self._entering_ms or [50.0])) - night.triggered_ms)
            clock.sleep_s(moment.delay * left_ms / 1000)
            return True
        self._entering_ms.append(night.until_nrem())
        if not night.until_in(moment.path):
            return False
        clock.sleep_s(moment.delay)
        return True

    def by_abort(self, night: Night) -> Wake | None:
        state, sub_phase, began = night.state(), night.sub_phase(), clock.precise_s()
        answer = self._client.abort()
        call_ms = (clock.precise_s() - began) * 1000
        if not answer.was_dreaming:
            return None
        awake_s, _ = night.until_awake()
        return Wake("abort", state, sub_phase, call_ms, answer.wake_latency_ms, (awake_s - began) * 1000)

    def by_recall(self, night: Night) -> Wake | None:
        state, sub_phase, began = night.state(), night.sub_phase(), clock.precise_s()
        answer = self._ask(self._queries[int(self._rng.integers(len(self._queries)))])
        call_ms = (clock.precise_s() - began) * 1000
        if not answer:
            return None
        awake_s, inside_ms = night.until_awake()
        return Wake("recall", state, sub_phase, call_ms, inside_ms, (awake_s - began) * 1000)

    # Recalls during a dream and without one

    def _recalls(self) -> tuple[list[float], list[float]]:
        self._timed(self._queries[:WARM_UP])
        idle_ms: list[float] = []
        dreaming_ms: list[float] = []
        for start in range(0, self._size.recalls, QUESTIONS_A_BLOCK):
            block = self._queries[start : min(start + QUESTIONS_A_BLOCK, self._size.recalls)]
            idle_ms += self._timed(block)
            night = Night(self._client, wakeable=False, fresh=start == 0)
            night.until_nrem()
            # In the whole of a night, which goes on between the blocks too.
            clock.sleep_s(self._rng.uniform(0, DREAMING_TO_S))
            dreaming_ms += self._timed(block)
            self._end(night)
            self._advance()
        return idle_ms, dreaming_ms

    def _snapshots(self) -> tuple[list[float], list[float]]:
        """How long new nights take to begin, and recalls meanwhile."""
        began_ms: list[float] = []
        asked_ms: list[float] = []
        for _ in range(SNAPSHOTS):
            night = Night(self._client, wakeable=False, fresh=True)
            while night.state() in ("not told yet", "entering nrem"):
                asked_ms += self._timed(self._queries[:1])
            began_ms.append(night.until_nrem())
            self._end(night)
        return began_ms, asked_ms

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


def _count(place: Place, size: Size) -> int:
    """Wakes in a place."""
    return max(1, round(place.wakes * size.share))


def _by_sub_phase(wakes: Sequence[Wake]) -> dict[str, Any]:
    """Of both, as the service measured them from their arrival to AWAKE, where the stream had told of NREM."""
    names = sorted({wake.sub_phase for wake in wakes if wake.sub_phase})
    return {name: harness.percentiles([wake.inside_ms for wake in wakes if wake.sub_phase == name]) for name in names}


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
        rounds = (
            2 * size.wakes + sum(_count(place, size) for place in size.places) + -(-size.recalls // QUESTIONS_A_BLOCK)
        )
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
    # A small memory is through with a part of its night before it is heard of.
    few = PLACES[::6]
    small, large = (
        (Size(500, 2, 0.05, 20, few, 1), Size(1000, 4, 0.05, 20, few, 1))
        if quick
        else (Size(10_000, 60, 0.5, 200), Size(100_000, 60, 0.5, 200))
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
