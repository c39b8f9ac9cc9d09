"""A service under mixed load for as long as one likes: memory, file handles and latencies have to stay flat.

Several clients recall, change a fixed set of memories, forget and restore them, give feedback and export; nights go by
meanwhile, some woken and gone on with, some taken back. So what is kept does not grow, and whatever grows is a leak.
"""

import io
import random
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from dreamsvc_client import Client, DreamsvcCallError
from rich.console import Console

from benchmarks import harness
from benchmarks.made_memory import MadeMemory, Query
from benchmarks.serving import BY_REQUEST_ONLY, Server, serving
from benchmarks.soak_picture import draw
from dreamsvc import clock
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.memory_pb2 import Memory

CONFIG = f"""{BY_REQUEST_ONLY}
[dream.quality]
probe_cues = 100
[dream.resources]
checkpoint_seconds = 1
dreamer_idle_seconds = 3600
"""
NODES, EDGES, DIMENSION = 2000, 8000, 64
CLIENTS, PAUSE_S = 3, 0.05
# Memories that are changed; the first so many of all.
CHANGED = 200
NIGHT_S, CALL_S = 20.0, 120.0
SAMPLE_S = 1.0
# A shorter run makes no picture.
ENOUGH_S = 300
# Of the samples, those at the beginning that do not count: caches fill, kernels are compiled.
WARM_UP = 0.25


class Sample(NamedTuple):
    """One second."""

    at_s: float
    server_mb: float
    dreamer_mb: float
    handles: int
    threads: int
    recall_p95_ms: float
    write_p95_ms: float


class Load:
    """What the clients do, and how long each call took."""

    def __init__(self, target: str, seed: int) -> None:
        self._target = target
        self._seed = seed
        self._memory = MadeMemory(NODES, EDGES, DIMENSION)
        self._queries = self._memory.queries(500)
        self.over = threading.Event()
        self.calls = self.nights = self.wakes = self.reverts = 0
        self.errors: list[str] = []
        self.recalls_ms: list[float] = []
        self.writes_ms: list[float] = []
        self._lock = threading.Lock()

    def fill(self) -> None:
        with Client(self._target, timeout_s=CALL_S) as client:
            self._memory.import_into(client)

    def start(self) -> list[threading.Thread]:
        work = [*(lambda number=number: self._client(number) for number in range(CLIENTS)), self._nights]
        threads = [threading.Thread(target=self._guarded, args=(one,), daemon=True) for one in work]
        for thread in threads:
            thread.start()
        return threads

    def take(self) -> tuple[list[float], list[float]]:
        """Latencies since the last time."""
        with self._lock:
            taken = self.recalls_ms, self.writes_ms
            self.recalls_ms, self.writes_ms = [], []
        return taken

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self.errors.append(f"{type(error).__name__}: {error}")

    def _client(self, number: int) -> None:
        draw_ = random.Random(self._seed * 100 + number)
        with Client(self._target, timeout_s=CALL_S) as client:
            while not self.over.wait(draw_.expovariate(1 / PAUSE_S)):
                began = clock.precise_s()
                kind = draw_.choices(("recall", "write", "export"), (0.8, 0.195, 0.005))[0]
                try:
                    self._call(client, kind, draw_)
                except DreamsvcCallError as error:
                    self.errors.append(str(error))
                took_ms = (clock.precise_s() - began) * 1000
                with self._lock:
                    self.calls += 1
                    if kind == "recall":
                        self.recalls_ms.append(took_ms)
                    elif kind == "write":
                        self.writes_ms.append(took_ms)

    def _call(self, client: Client, kind: str, draw_: random.Random) -> None:
        if kind == "recall":
            query: Query = draw_.choice(self._queries)
            answer = client.recall(query.text, vector=query.vector)
            if draw_.random() < 0.2 and len(answer.hits) > 1:
                client.feedback(answer.recall_id, [hit.memory.id for hit in answer.hits[:2]])
        elif kind == "export":
            client.export_to(io.BytesIO())
        else:
            key = f"n{draw_.randrange(CHANGED)}"
            match draw_.randrange(3):
                case 0:
                    client.remember([Memory(key=key, text=f"changed {draw_.randrange(1000)} about {key}")])
                case 1:
                    client.forget([key])
                case _:
                    client.restore([key])

    def _nights(self) -> None:
        draw_ = random.Random(self._seed)
        with Client(self._target, timeout_s=CALL_S) as client:
            while not self.over.is_set():
                dream = client.trigger(budget_s=NIGHT_S, abort_on_query=False).dream
                if draw_.random() < 0.3:
                    self.over.wait(draw_.uniform(0, 5))
                    self.wakes += client.abort().was_dreaming
                    continue
                ended = self._until_over(client, dream.id)
                self.nights += 1
                if ended.state == Dream.STATE_SUCCEEDED and draw_.random() < 0.5:
                    try:
                        client.revert(ended.id)
                        self.reverts += 1
                    except DreamsvcCallError as error:
                        # What users changed since then stays.
                        if error.reason != "CHANGED_LATER":
                            raise

    def _until_over(self, client: Client, dream_id: str) -> Dream:
        dream = client.dream(dream_id)
        while dream.state in (Dream.STATE_RUNNING, Dream.STATE_FOLDING) and not self.over.is_set():
            self.over.wait(0.2)
            dream = client.dream(dream_id)
        if dream.state == Dream.STATE_FAILED:
            raise DreamsvcCallError("", f"dream {dream_id} failed: {dream.message}")
        return dream


def run(seconds: int, console: Console) -> harness.Measured:
    samples: list[Sample] = []
    with serving(config=CONFIG) as server, harness.bar(console) as progress:
        task = progress.add_task("seconds", total=seconds)
        load = Load(server.target, seed=seconds)
        load.fill()
        threads = load.start()
        began = clock.precise_s()
        while (now := clock.precise_s() - began) < seconds:
            clock.sleep_s(SAMPLE_S)
            samples.append(_sample(server, load, now))
            progress.update(task, completed=now)
        load.over.set()
        with Client(server.target, timeout_s=CALL_S) as client:
            client.abort()
            told = client.status().wake_latency
        for thread in threads:
            thread.join(CALL_S)
    if seconds >= ENOUGH_S:
        draw(samples, harness.RESULTS / "soak.png")
    return _measured(seconds, samples, load, told)


def _sample(server: Server, load: Load, at_s: float) -> Sample:
    recalls, writes = load.take()
    dreamer = next(iter(server.children()), None)
    return Sample(
        at_s,
        server.resident_mb(),
        server.resident_mb(dreamer) if dreamer else float("nan"),
        server.handles(),
        server.threads(),
        float(np.percentile(recalls, 95)) if recalls else float("nan"),
        float(np.percentile(writes, 95)) if writes else float("nan"),
    )


def _measured(seconds: int, samples: Sequence[Sample], load: Load, told: Any) -> harness.Measured:
    columns = {name: np.array([getattr(sample, name) for sample in samples]) for name in Sample._fields}
    counted = slice(int(len(samples) * WARM_UP), None)
    hours = columns["at_s"][counted] / 3600
    figures: dict[str, float] = {"minutes": seconds / 60, "calls": load.calls, "errors": len(load.errors)}
    figures |= {"nights": load.nights, "wakes": load.wakes, "reverts": load.reverts}
    for name, key in (("server_mb", "server_mb_per_hour"), ("dreamer_mb", "dreamer_mb_per_hour")):
        figures[key] = _slope(hours, columns[name][counted])
    figures["handles_per_hour"] = _slope(hours, columns["handles"][counted].astype(float))
    for name in ("recall_p95_ms", "write_p95_ms"):
        values = columns[name][counted]
        first, last = np.array_split(values[np.isfinite(values)], 2)
        figures[name.replace("_ms", "_ratio")] = float(np.median(last) / np.median(first))
    detail = {
        "errors": load.errors[:20],
        "server_mb": _ends(columns["server_mb"]),
        "dreamer_mb": _ends(columns["dreamer_mb"]),
        "handles": _ends(columns["handles"]),
        "threads": _ends(columns["threads"]),
        "recall_p95_ms": _ends(columns["recall_p95_ms"]),
        "write_p95_ms": _ends(columns["write_p95_ms"]),
        "wake_latency": {"count": told.count, "p95_ms": round(told.p95_ms, 2), "killed": told.killed},
    }
    return harness.Measured(figures, detail)


def _slope(hours: Any, values: Any) -> float:
    """By Theil and Sen: the median of the slopes between pairs, which single peaks do not move."""
    known = np.isfinite(values)
    hours, values = hours[known], values[known]
    if len(values) < 3:
        return 0.0
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, len(values), (2, 20_000))
    apart = np.abs(hours[one] - hours[other]) > (hours[-1] - hours[0]) / 4
    return float(np.median((values[one] - values[other])[apart] / (hours[one] - hours[other])[apart]))


def _ends(values: Any) -> dict[str, float]:
    """Medians of the first and the last tenth, and the largest."""
    known = values[np.isfinite(values)]
    if not len(known):
        return {}
    tenth = max(1, len(known) // 10)
    first, last = float(np.median(known[:tenth])), float(np.median(known[-tenth:]))
    return {"first": round(first, 1), "last": round(last, 1), "largest": round(float(known.max()), 1)}


BENCHMARK = harness.Benchmark(
    figures=[
        *("minutes", "calls", "errors", "nights", "wakes", "reverts"),
        *("server_mb_per_hour", "dreamer_mb_per_hour", "handles_per_hour", "recall_p95_ratio", "write_p95_ratio"),
    ],
    targets={
        "errors": (harness.Target(0),),
        "server_mb_per_hour": (harness.Target(10),),
        "dreamer_mb_per_hour": (harness.Target(20),),
        "handles_per_hour": (harness.Target(1),),
        "recall_p95_ratio": (harness.Target(1.2),),
        "write_p95_ratio": (harness.Target(1.3),),
    },
    run=harness.Counted(run, "seconds", full=3600, quick=6),
)
