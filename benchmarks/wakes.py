"""Wakes by the thousand, in every part of a night, and whether a night that is woken so often dreams the same.

A memory of 100,000. A night goes through, then another of the same seed over the same memory is woken again and again,
by an Abort and by a Recall in turn, goes on from its checkpoints, and ends: both journals must be equal.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from dreamsvc_client import Client
from rich.console import Console

from benchmarks import harness
from benchmarks.serving import serving
from benchmarks.wake import (
    CALL_S,
    CONFIG,
    DREAMING_S,
    PLACES,
    REM,
    SELECTING_S,
    Moment,
    Night,
    Place,
    Size,
    Space,
    Wake,
    word,
)
from dreamsvc import clock
from dreamsvc.v1.dream_pb2 import SubPhase

SEED = 4
# A night is woken so often, at most.
WAKES_A_NIGHT = 5000
# A night of the large memory that is over before it was woken so often leaves the rest to another, so many times.
SPARE_NIGHTS = 2
# Recalls are noted down behind user writes, and part of what the next night reads.
NOTED_S = 3.0
# Of its wakes: before NREM, where memories are selected, in the replay. All others are spread over what comes later.
ENTERING_SHARE, SELECTING_SHARE, REPLAY_SHARE = 0.1, 0.1, 0.2
# Replay that is woken goes on where it was, and would soon be over.
REPLAYING_S = 0.02
# Of the wakes in a later place, those that wait until it is told where the night goes on; the others come also while it
# comes back to there.
TOLD_SHARE = 0.25
ANYWHERE = frozenset(step for place in PLACES for step in place.path)
# A dreamer that never rests is the hardest to wake: every wake comes while it works.
RESTLESS = f"{CONFIG}max_gpu_usage = 1.0\n"
SMALL, LARGE = 300, 100_000
# Below that it is the small memory that is woken.
ENOUGH = 200


def run(count: int, console: Console) -> harness.Measured:
    size = Size(LARGE if count >= ENOUGH else SMALL, 0, 1.0, 50)
    nights = -(-count // WAKES_A_NIGHT)
    spare = SPARE_NIGHTS if size.nodes == LARGE else 0
    rng = np.random.default_rng(count)
    wakes: list[Wake] = []
    with (
        serving(config=RESTLESS) as server,
        Client(server.target, timeout_s=CALL_S) as client,
        harness.bar(console) as progress,
    ):
        task = progress.add_task("wakes", total=count)
        space = Space(server, client, size, lambda: progress.advance(task), SEED)
        space.fill()
        digests: list[tuple[str, str]] = []
        for _ in range(nights + spare):
            if len(wakes) >= count:
                break
            share = min(count - len(wakes), -(-count // nights))
            clock.sleep_s(NOTED_S)
            undisturbed = _through(client)
            for wake in _woken(space, client, rng, share, size.tries):
                wakes.append(wake)
                progress.advance(task)
            digests.append((undisturbed, _through(client) if _is_suspended(client) else _last_digest(client)))
        killed = client.status().wake_latency.killed
    return _measured(size, wakes, digests, killed)


def _through(client: Client) -> str:
    """Goes on to the end of the night, and gives the digest of its journal."""
    Night(client, wakeable=False, seed=SEED).until_over()
    return _last_digest(client)


def _is_suspended(client: Client) -> bool:
    return client.status().HasField("suspended_dream")


def _last_digest(client: Client) -> str:
    return client.dreams(page_size=1).dreams[0].report.journal_digest


def _woken(space: Space, client: Client, rng: np.random.Generator, count: int, tries: int) -> Iterator[Wake]:
    """So many wakes of one night, in its order, so that it comes to its end although it is woken again and again.

    Fewer where it comes to its end by itself.
    """
    wakers = itertools.cycle([space.by_abort, space.by_recall])

    def woken(moment: Moment) -> Wake | None:
        waker = next(wakers)
        for _ in range(tries):
            wake = space.woken(moment, waker)
            # One that came when nothing dreamed does not count and is made up for.
            if wake is not None or not _is_suspended(client):
                return wake
        return None

    before = _before_and_in_replay(rng, count)
    for moment in before:
        if (wake := woken(moment)) is None:
            return
        yield wake
    left = count - len(before)
    for number, place in enumerate(PLACES):
        beyond = _beyond(number)
        names = {word(sub_phase) for sub_phase in beyond}
        for moment in _in(rng, place, beyond, math.ceil(left / (len(PLACES) - number))):
            if (wake := woken(moment)) is None:
                return
            yield wake
            left -= 1
            # It has left the place, and does not come back: the others have more of the wakes.
            if wake.sub_phase.removeprefix(REM) in names:
                break


def _before_and_in_replay(rng: np.random.Generator, count: int) -> list[Moment]:
    moments = [
        *(Moment(True, rng.random(), False) for _ in range(round(count * ENTERING_SHARE))),
        *(Moment(False, rng.random() * SELECTING_S, False) for _ in range(round(count * SELECTING_SHARE))),
        *(Moment(False, rng.random() * REPLAYING_S, False) for _ in range(round(count * REPLAY_SHARE))),
    ]
    # Before NREM at any time, not only before the first batch.
    rng.shuffle(moments)
    return moments


def _beyond(number: int) -> frozenset[SubPhase.ValueType]:
    """What is told of only in later places than one; probes are in many."""
    until, later = (
        {step for place in part for step in place.path} for part in (PLACES[: number + 1], PLACES[number + 1 :])
    )
    return frozenset(later - until)


def _in(rng: np.random.Generator, place: Place, beyond: frozenset[SubPhase.ValueType], count: int) -> Iterator[Moment]:
    """The first comes to the place; the next ones go on with the step that it was in, from its beginning."""
    # A night that tells of what is beyond will not come to the place any more.
    yield Moment(False, rng.uniform(0, place.within_s), False, tuple(beyond | {step} for step in place.path))
    for _ in range(count - 1):
        path = (ANYWHERE,) if rng.random() < TOLD_SHARE else ()
        yield Moment(False, rng.random() * DREAMING_S, False, path)


def _measured(size: Size, wakes: Sequence[Wake], digests: Sequence[tuple[str, str]], killed: int) -> harness.Measured:
    latencies = harness.percentiles([_latency_ms(wake) for wake in wakes])
    parts = sorted({wake.sub_phase or wake.state for wake in wakes})
    figures = {
        "wakes": len(wakes),
        **{key: latencies[key] for key in ("p50_ms", "p95_ms", "p99_ms", "max_ms")},
        "digests": len(digests),
        "digest_mismatches": sum(through != woken for through, woken in digests),
        "killed": killed,
    }
    detail: dict[str, Any] = {
        "nodes": size.nodes,
        "by": {by: harness.percentiles([_latency_ms(w) for w in wakes if w.by == by]) for by in ("abort", "recall")},
        "by_part": {
            part: harness.percentiles([_latency_ms(w) for w in wakes if (w.sub_phase or w.state) == part])
            for part in parts
        },
        "journal_digests": [through for through, _ in digests],
    }
    return harness.Measured(figures, detail)


def _latency_ms(wake: Wake) -> float:
    """Of an Abort as its caller sees it; of a Recall, which does not wait for it, as the service measured it."""
    return wake.call_ms if wake.by == "abort" else wake.inside_ms


BENCHMARK = harness.Benchmark(
    figures=["wakes", "p50_ms", "p95_ms", "p99_ms", "max_ms", "digests", "digest_mismatches", "killed"],
    targets={
        "wakes": (harness.Target(least=10_000, must=False),),
        "p95_ms": (harness.Target(100),),
        "p99_ms": (harness.Target(150),),
        "digest_mismatches": (harness.Target(0),),
    },
    run=harness.Counted(run, "wakes", full=10_000, quick=6),
)
