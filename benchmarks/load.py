"""Many at once: calls of 1, 64 and 1,000 clients beside a bare grpc.aio server, 1,000 watchers of one dream, and ten
minutes of recalls and writes while nights go by.

Each client and each watcher has a connection of its own. The floor answers with the same bytes and does nothing else;
both are asked by the same code in turn.
"""

import asyncio
import contextlib
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import grpc.aio
from dreamsvc_client import Client
from rich.console import Console

from benchmarks import harness, load_watchers
from benchmarks.made_memory import MadeMemory
from benchmarks.serve import METHOD, REQUEST
from benchmarks.serving import BY_REQUEST_ONLY, Server, serving
from benchmarks.soak import Load
from dreamsvc import clock
from dreamsvc.v1.dream_service_pb2 import GetStatusRequest, GetStatusResponse
from dreamsvc.v1.memory_service_pb2 import RecallRequest, RecallResponse

RECALL = "/dreamsvc.v1.MemoryService/Recall"
NODES, EDGES, DIMENSION = 2000, 8000, 64
CALL_S = 120.0
CONFIG = f"""{BY_REQUEST_ONLY}
[dream.quality]
probe_cues = 100
"""


class Size(NamedTuple):
    clients: tuple[int, ...]
    # To each server in each round, by all clients together.
    calls: int
    rounds: int
    watchers: int
    mixed_s: float


class Clients:
    """So many clients of one server, each with a connection of its own."""

    def __init__(self, server: Server, count: int) -> None:
        self.server = server
        options = [("grpc.use_local_subchannel_pool", 1)]
        self.channels = [grpc.aio.insecure_channel(server.target, options=options) for _ in range(count)]
        self.calls_per_s: list[float] = []
        self.latencies_ms: list[float] = []

    async def connected(self) -> None:
        await asyncio.gather(*(channel.channel_ready() for channel in self.channels))

    async def close(self) -> None:
        await asyncio.gather(*(channel.close() for channel in self.channels))

    def asking(self, method: str, request: Any, response: Any) -> list[Callable[[Any], Awaitable[Any]]]:
        return [
            channel.unary_unary(
                method, request_serializer=request.SerializeToString, response_deserializer=response.FromString
            )
            for channel in self.channels
        ]

    async def ask(self, calls: int) -> None:
        """So many calls of GetStatus, each client one after the other."""
        left = iter(range(calls))

        async def work(ask: Callable[[Any], Awaitable[Any]]) -> None:
            for _ in left:
                began = clock.precise_s()
                await ask(REQUEST)
                self.latencies_ms.append((clock.precise_s() - began) * 1000)

        began = clock.precise_s()
        await asyncio.gather(*map(work, self.asking(METHOD, GetStatusRequest, GetStatusResponse)))
        self.calls_per_s.append(calls / (clock.precise_s() - began))


def run(quick: bool, console: Console) -> harness.Measured:
    size = Size((1, 8), 200, 1, 20, 3.0) if quick else Size((1, 64, 1000), 10_000, 5, 1000, 600.0)
    figures: dict[str, float] = {}
    detail: dict[str, Any] = {}
    with serving(config=CONFIG) as ours, harness.bar(console) as progress:
        _fill(ours)
        task = progress.add_task("calls", total=len(size.clients) * size.rounds)
        with tempfile.TemporaryDirectory(prefix="dreamsvc-bench-") as directory, Client(ours.target) as client:
            answer = client.status().SerializeToString()
            command = ["-m", "benchmarks.floor_server", METHOD, answer.hex()]
            with Server(command, Path(directory) / "floor.log") as floor:
                for count in size.clients:
                    found = asyncio.run(_beside(ours, floor, count, size, lambda: progress.advance(task)))
                    detail[f"{count} clients"] = found
                    figures |= _named(found, 64 if quick and count == size.clients[-1] else count)
                floor.stop()
        task = progress.add_task("recalls at once", total=1)
        figures["ok_pct_1000"], detail["recalls at once"] = asyncio.run(_at_once(ours, 20 if quick else 1000))
        progress.advance(task)
        task = progress.add_task("watchers", total=1)
        watched = load_watchers.measure(ours, size.watchers)
        figures |= watched.figures
        detail["watchers"] = watched.detail
        progress.advance(task)
    figures |= _mixed(size.mixed_s, progress=progress, detail=detail)
    return harness.Measured(figures, detail)


def _fill(server: Server) -> None:
    with Client(server.target, timeout_s=CALL_S) as client:
        MadeMemory(NODES, EDGES, DIMENSION).import_into(client)


async def _beside(
    ours: Server, floor: Server, count: int, size: Size, advance: Callable[[], None]
) -> dict[str, dict[str, float]]:
    async with contextlib.AsyncExitStack() as stack:
        both = [Clients(server, count) for server in (ours, floor)]
        for clients in both:
            stack.push_async_callback(clients.close)
            await clients.connected()
            await clients.ask(max(count, size.calls // 10))
            clients.latencies_ms.clear()
            clients.calls_per_s.clear()
        for number in range(size.rounds):
            for clients in both if number % 2 else both[::-1]:
                await clients.ask(size.calls)
            advance()
        return {
            name: {
                "calls_per_s": round(statistics.median(clients.calls_per_s), 1),
                **harness.percentiles(clients.latencies_ms),
            }
            for name, clients in zip(("ours", "floor"), both, strict=True)
        }


def _named(found: dict[str, dict[str, float]], count: int) -> dict[str, float]:
    ours, floor = found["ours"], found["floor"]
    return {
        f"unary_ratio_to_floor_{count}": ours["calls_per_s"] / floor["calls_per_s"],
        f"calls_per_s_{count}": ours["calls_per_s"],
        f"p99_ms_{count}": ours["p99_ms"],
    }


async def _at_once(server: Server, count: int) -> tuple[float, dict[str, Any]]:
    """Percent of recalls that succeed when so many clients send one in the same moment; three times."""
    memory = MadeMemory(NODES, EDGES, DIMENSION)
    queries = memory.queries(100)
    clients = Clients(server, count)
    latencies_ms: list[float] = []
    failed: list[str] = []

    async def recall(number: int, ask: Callable[[Any], Awaitable[Any]]) -> None:
        query = queries[number % len(queries)]
        began = clock.precise_s()
        try:
            answer = await ask(RecallRequest(text=query.text, vector=query.vector, limit=5))
            if not answer.hits:
                failed.append("a recall found nothing")
        except grpc.aio.AioRpcError as error:
            failed.append(f"{error.code().name}: {error.details()}")
        latencies_ms.append((clock.precise_s() - began) * 1000)

    try:
        await clients.connected()
        asking = clients.asking(RECALL, RecallRequest, RecallResponse)
        for _ in range(3):
            await asyncio.gather(*(recall(number, ask) for number, ask in enumerate(asking)))
    finally:
        await clients.close()
    total = 3 * count
    return 100 * (total - len(failed)) / total, {**harness.percentiles(latencies_ms), "failed": failed[:10]}


def _mixed(seconds: float, *, progress: Any, detail: dict[str, Any]) -> dict[str, float]:
    """Recalls, writes and nights together."""
    with serving(config=CONFIG) as server:
        task = progress.add_task("seconds of mixed load", total=seconds)
        load = Load(server.target, seed=1)
        load.fill()
        threads = load.start()
        began = clock.precise_s()
        while (now := clock.precise_s() - began) < seconds:
            clock.sleep_s(min(1.0, seconds))
            progress.update(task, completed=now)
        load.over.set()
        with Client(server.target, timeout_s=CALL_S) as client:
            client.abort()
        for thread in threads:
            thread.join(CALL_S)
    recalls, writes = load.take()
    detail["mixed"] = {
        "recall": harness.percentiles(recalls),
        "write": harness.percentiles(writes),
        "nights": load.nights,
        "wakes": load.wakes,
        "reverts": load.reverts,
        "errors": load.errors[:20],
    }
    return {"mixed_s": seconds, "mixed_calls": load.calls, "mixed_errors": len(load.errors)}


_COUNTS = (1, 64, 1000)
BENCHMARK = harness.Benchmark(
    figures=[
        *(f"{what}_{count}" for count in _COUNTS for what in ("unary_ratio_to_floor", "calls_per_s", "p99_ms")),
        *("ok_pct_1000", "watchers", "events", "events_missed", "kb_per_watcher", "last_heard_ms"),
        *("mixed_s", "mixed_calls", "mixed_errors"),
    ],
    # A short run has fewer clients.
    optional=[f"{what}_1000" for what in ("unary_ratio_to_floor", "calls_per_s", "p99_ms")],
    targets={
        "calls_per_s_64": (harness.Target(least=50),),
        "unary_ratio_to_floor_64": (harness.Target(least=0.66, must=False),),
        "ok_pct_1000": (harness.Target(least=95), harness.Target(least=100, must=False)),
        "events_missed": (harness.Target(0),),
        "mixed_errors": (harness.Target(0),),
    },
    run=run,
)
