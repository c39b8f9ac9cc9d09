"""Many watchers of one dream: what each of them hears, when the last one hears it, and what each costs."""

import asyncio
from typing import NamedTuple

import grpc.aio
import numpy as np
from dreamsvc_client import Client

from benchmarks import harness
from benchmarks.serving import Server
from dreamsvc import clock
from dreamsvc.v1.dream_service_pb2 import StreamStatusRequest, StreamStatusResponse

METHOD = "/dreamsvc.v1.DreamService/StreamStatus"
DREAM_S = 20.0
PATIENCE_S = 120.0


class Watched(NamedTuple):
    figures: dict[str, float]
    detail: dict[str, object]


class Watcher:
    """One stream, on a connection of its own."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
        self.attached = asyncio.Event()
        # When each numbered event came.
        self.heard_s: dict[int, float] = {}
        self.gaps = 0

    async def watch(self) -> None:
        """Until the dream is over."""
        ask = self._channel.unary_stream(
            METHOD,
            request_serializer=StreamStatusRequest.SerializeToString,
            response_deserializer=StreamStatusResponse.FromString,
        )
        async for event in ask(StreamStatusRequest(space="default")):
            self.attached.set()
            kind = event.WhichOneof("event")
            if kind == "gap":
                self.gaps += 1
            elif kind not in ("present", "heartbeat"):
                self.heard_s[event.sequence] = clock.precise_s()
            if kind == "closing":
                return

    async def close(self) -> None:
        await self._channel.close()


def measure(server: Server, count: int) -> Watched:
    """Watches one dream of a space that is filled."""
    return asyncio.run(_measure(server, count))


async def _measure(server: Server, count: int) -> Watched:
    before_mb = server.resident_mb()
    watchers = [Watcher(server.target) for _ in range(count)]
    tasks = [asyncio.create_task(watcher.watch()) for watcher in watchers]
    try:
        await asyncio.wait_for(asyncio.gather(*(watcher.attached.wait() for watcher in watchers)), PATIENCE_S)
        held_mb = server.resident_mb()
        await asyncio.to_thread(_dream, server)
        await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE_S)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*(watcher.close() for watcher in watchers))
    after_mb = server.resident_mb()
    everything = sorted(set[int]().union(*(watcher.heard_s for watcher in watchers)))
    missed = sum(len(everything) - len(watcher.heard_s) for watcher in watchers)
    spread_ms = [
        1000 * (max(times) - min(times))
        for number in everything
        if (times := [watcher.heard_s[number] for watcher in watchers if number in watcher.heard_s])
    ]
    figures = {
        "watchers": float(count),
        "events": float(len(everything)),
        "events_missed": float(missed),
        "kb_per_watcher": 1000 * (held_mb - before_mb) / count,
        # From the first watcher that hears an event to the last one.
        "last_heard_ms": float(np.percentile(spread_ms, 95)) if spread_ms else 0.0,
    }
    detail: dict[str, object] = {
        "gaps": sum(watcher.gaps for watcher in watchers),
        "spread_ms": harness.percentiles(spread_ms),
        "server_mb": {"before": round(before_mb, 1), "with": round(held_mb, 1), "after": round(after_mb, 1)},
    }
    return Watched(figures, detail)


def _dream(server: Server) -> None:
    with Client(server.target, timeout_s=PATIENCE_S) as client:
        client.trigger(budget_s=DREAM_S, abort_on_query=False)
