"""What our service adds to a call: GetStatus against a bare grpc.aio server that answers with the same bytes.

Both are processes of their own and are asked by the same code in turn, so that whatever else the machine does meets
both. The floor parses nothing, looks at nothing and answers with what it was started with.
"""

import asyncio
import contextlib
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import grpc.aio
from dreamsvc_client import Client
from rich.console import Console

from benchmarks import harness
from benchmarks.serving import Server, serving
from dreamsvc import clock
from dreamsvc.v1.dream_service_pb2 import GetStatusRequest, GetStatusResponse
from dreamsvc.v1.memory_pb2 import Memory

METHOD = "/dreamsvc.v1.DreamService/GetStatus"
REQUEST = GetStatusRequest(space="default")
IN_FLIGHT = 64
type Ask = Callable[[GetStatusRequest], Awaitable[GetStatusResponse]]


class Size(NamedTuple):
    rounds: int
    # In each round, to each server: calls one after the other, and calls with 64 in flight.
    single: int
    parallel: int


class Asked:
    """One of the two servers, and what was seen of it."""

    def __init__(self, server: Server, channel: grpc.aio.Channel) -> None:
        self._server = server
        self._ask: Ask = channel.unary_unary(
            METHOD,
            request_serializer=GetStatusRequest.SerializeToString,
            response_deserializer=GetStatusResponse.FromString,
        )
        self.latencies_ms: list[float] = []
        self.calls_per_s: list[float] = []
        self.cpu_us: list[float] = []

    async def one_in_flight(self, calls: int) -> None:
        for _ in range(calls):
            began = clock.precise_s()
            await self._ask(REQUEST)
            self.latencies_ms.append((clock.precise_s() - began) * 1000)

    async def many_in_flight(self, calls: int) -> None:
        left = iter(range(calls))

        async def work() -> None:
            for _ in left:
                await self._ask(REQUEST)

        used_s, began = self._server.cpu_s(), clock.precise_s()
        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
        self.calls_per_s.append(calls / (clock.precise_s() - began))
        self.cpu_us.append((self._server.cpu_s() - used_s) / calls * 1e6)

    def warmed_up(self) -> None:
        for seen in (self.latencies_ms, self.calls_per_s, self.cpu_us):
            seen.clear()

    def figures(self) -> Mapping[str, float]:
        found = harness.percentiles(self.latencies_ms)
        return {
            "p50_ms": found["p50_ms"],
            "p99_ms": found["p99_ms"],
            "calls_per_s": statistics.median(self.calls_per_s),
            "cpu_us": statistics.median(self.cpu_us),
        }


async def _measure(servers: list[Server], size: Size, advance: Callable[[], None]) -> list[Asked]:
    async with contextlib.AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(grpc.aio.insecure_channel(server.target)) for server in servers]
        both = [Asked(server, channel) for server, channel in zip(servers, channels, strict=True)]
        for asked in both:
            await asked.one_in_flight(size.single)
            await asked.many_in_flight(size.parallel)
            asked.warmed_up()
        for number in range(size.rounds):
            for asked in both if number % 2 else both[::-1]:
                await asked.one_in_flight(size.single)
                await asked.many_in_flight(size.parallel)
            advance()
        return both


def run(quick: bool, console: Console) -> harness.Measured:
    size = Size(2, 50, 200) if quick else Size(20, 500, 5000)
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(serving())
        with Client(ours.target) as client:
            client.remember([Memory(key="one", text="a space exists once something is in it")])
            answer = client.status().SerializeToString()
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="dreamsvc-bench-"))
        command = ["-m", "benchmarks.floor_server", METHOD, answer.hex()]
        floor = stack.enter_context(Server(command, Path(directory) / "floor.log"))
        progress = stack.enter_context(harness.bar(console))
        task = progress.add_task("rounds", total=size.rounds)
        asked = asyncio.run(_measure([ours, floor], size, lambda: progress.advance(task)))
        floor.stop()
    status, bare = (one.figures() for one in asked)
    figures = {
        "status_ratio_to_floor": status["p50_ms"] / bare["p50_ms"],
        "status_p99_ratio_to_floor": status["p99_ms"] / bare["p99_ms"],
        "throughput_ratio_to_floor": status["calls_per_s"] / bare["calls_per_s"],
        "cpu_ratio_to_floor": status["cpu_us"] / bare["cpu_us"],
        **{f"status_{key}": value for key, value in status.items()},
        **{f"floor_{key}": value for key, value in bare.items()},
    }
    detail = {
        "answer_bytes": len(answer),
        "in_flight": {"latency": 1, "throughput_and_cpu": IN_FLIGHT},
        "grpcio": grpc.__version__,
        "status": harness.percentiles(asked[0].latencies_ms),
        "floor": harness.percentiles(asked[1].latencies_ms),
        "cpu": "of all threads of the server, for a call, with 64 in flight",
    }
    return harness.Measured(figures, detail)


_MEASURED = ("p50_ms", "p99_ms", "calls_per_s", "cpu_us")
BENCHMARK = harness.Benchmark(
    figures=[
        "status_ratio_to_floor",
        "status_p99_ratio_to_floor",
        "throughput_ratio_to_floor",
        "cpu_ratio_to_floor",
        *(f"{whose}_{what}" for whose in ("status", "floor") for what in _MEASURED),
    ],
    # Our own part of the processor time is to stay below half of the floor's.
    targets={"cpu_ratio_to_floor": (harness.Target(1.5, must=False),)},
    run=run,
)
