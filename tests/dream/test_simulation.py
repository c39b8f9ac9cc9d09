"""Days of the service by seed on virtual time, short stories of what they found, and that they can find something."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest

from benchmarks import simulation
from benchmarks.proof.scripted_dreamer import Temper
from benchmarks.proof.simulated_calls import filled
from benchmarks.proof.simulated_world import World
from dreamsvc.clock import from_timestamp
from dreamsvc.config import defaults
from dreamsvc.dream import night, trigger
from dreamsvc.memory.journal import Journal
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.config_pb2 import Config
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import (
    AbortRequest,
    AbortResponse,
    ApproveDreamRequest,
    GetStatusRequest,
    GetStatusResponse,
    ListDreamsRequest,
    TriggerRequest,
)
from dreamsvc.v1.memory_pb2 import Memory
from dreamsvc.v1.memory_service_pb2 import RememberRequest

SPACE = "default"
MOST_SEEDS = 24


class Story(World):
    """A world in which nothing goes wrong but what is told."""

    def __init__(self, *tempers: Temper) -> None:
        super().__init__(0)
        self.good, self._tick_s = True, 1.0
        self.clock.end_s = self.clock.now_s + 86_400
        self._tempers = list(tempers)
        self.settings = quick()

    def temper(self) -> Temper:
        return self._tempers.pop(0) if self._tempers else Temper()

    def tell(self, *runs: "Callable[[Story], Awaitable[None]]") -> None:
        """Lives through runs of the service one after the other."""
        with self.simulated():
            for run in runs:
                self.one_run(self._told(run))
        assert self.wrongs() == []

    async def _told(self, run: "Callable[[Story], Awaitable[None]]") -> None:
        await self.begin_run(self.settings).start()
        await run(self)
        await self.service.stop()

    async def remember(self, *keys: str) -> None:
        memories = [Memory(key=key, text=f"of {key}", vector=[1.0, float(len(key)), 0.5]) for key in keys]
        self.rules.called(SPACE)
        await self.service.memory.remember(filled(RememberRequest(space=SPACE, memories=memories)))
        self.rules.changed(SPACE)

    async def trigger(self, **fields: object) -> Dream:
        request = filled(TriggerRequest(space=SPACE, **fields))  # type: ignore[arg-type]
        return (await self.service.dreams.trigger(request)).dream

    async def abort(self) -> AbortResponse:
        return await self.service.dreams.abort(filled(AbortRequest(space=SPACE)))

    async def status(self) -> GetStatusResponse:
        return await self.service.dreams.get_status(filled(GetStatusRequest(space=SPACE)))

    async def dreams(self) -> list[Dream]:
        """The newest first."""
        return list((await self.service.dreams.list_dreams(filled(ListDreamsRequest(space=SPACE)))).dreams)


def quick(**trigger_fields: object) -> Config:
    """Idle after six seconds, with a short cooldown, and no second try."""
    config = defaults()
    config.dream.trigger.idle_duration_minutes = 0.1
    config.dream.trigger.cooldown_minutes = 1
    config.dream.trigger.min_cycle_gap_minutes = 0
    config.dream.fault.recovery_strategy = "abort"
    for name, value in trigger_fields.items():
        setattr(config.dream.trigger, name, value)
    return config


# ── seeds ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(1, 6))
def test_nothing_goes_wrong_in_some_days_with_everything_that_can(seed: int) -> None:
    outcome = World(seed).run()
    assert outcome.wrong == [], simulation.told(outcome)
    assert outcome.count["nights"]


def test_the_same_seed_gives_the_same_to_the_last_event_in_another_process_too() -> None:
    here = World(7).run()
    assert World(7).run().trace == here.trace
    told = "from benchmarks.proof.simulated_world import World; print(World(7).run().trace)"
    there = subprocess.run(
        [sys.executable, "-c", told],
        env=os.environ | {"PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.strip() == here.trace
    assert World(8).run().trace != here.trace


def found_within(seeds: int = MOST_SEEDS) -> str:
    """What the first seeds find; '' where they find nothing."""
    return next((outcome.wrong[0] for outcome in map(World.run, map(World, range(seeds))) if outcome.wrong), "")


def test_a_dreamer_that_is_killed_too_late_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(night, "KILL_AT", 1.5)
    assert "more than its budget" in found_within()


def test_a_cooldown_that_is_not_kept_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigger, "rested_at", lambda situation, config: float("-inf"))
    assert "too early" in found_within()


def test_parts_of_a_journal_that_are_not_kept_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Journal.stage_dream
    monkeypatch.setattr(
        Journal, "stage_dream", lambda self, change, parts, *rest: stage(self, change, parts[:1], *rest)
    )
    assert found_within()


# ── stories ─────────────────────────────────────────────────────────────────────


def test_a_wake_waits_for_no_funeral_of_a_dreamer_that_broke_off() -> None:
    story = Story(Temper("dies", after=2, pause_s=5.0, funeral_s=0.9))

    async def run(_: World) -> None:
        await story.remember("m1", "m2")
        await story.trigger()
        await asyncio.sleep(5.8)
        woken = await story.abort()
        assert woken.was_dreaming
        assert woken.wake_latency_ms < 1
        assert woken.dream.state == Dream.STATE_SUSPENDED

    story.tell(run)


def test_a_dreamer_that_hears_nothing_is_given_up() -> None:
    story = Story(Temper("deaf"))
    story.settings.dream.resources.dreamer_start_seconds = 20

    async def run(_: World) -> None:
        await story.remember("m1", "m2")
        dream = await story.trigger(blocking=True)
        assert dream.state == Dream.STATE_FAILED
        assert "not ready to dream within 20 s" in dream.message

    story.tell(run)


def test_a_dreamer_whose_connection_broke_is_not_lent_again() -> None:
    story = Story(Temper("breaks", after=1))

    async def run(_: World) -> None:
        await story.remember("m1", "m2")
        assert (await story.trigger(blocking=True)).state == Dream.STATE_FAILED
        assert (await story.trigger(blocking=True)).state == Dream.STATE_SUCCEEDED

    story.tell(run)


def test_a_dreamer_that_fails_for_no_reason_or_gives_up_unasked_has_failed_for_one() -> None:
    story = Story(Temper("fails silently", after=1), Temper("gives up", after=1))

    async def run(_: World) -> None:
        await story.remember("m1", "m2")
        for why in ("does not say why", "nobody had told it to"):
            dream = await story.trigger(blocking=True)
            assert dream.state == Dream.STATE_FAILED
            assert dream.end_reason == dream_pb2.END_REASON_FAILED
            assert why in dream.message

    story.tell(run)


def test_what_is_remembered_while_a_space_dreams_is_dreamt_of_next() -> None:
    story = Story(Temper(pause_s=2.0))

    async def run(_: World) -> None:
        await story.remember("m1", "m2")
        await asyncio.sleep(10)
        assert (await story.status()).active_dream.id
        await story.remember("m3")
        await asyncio.sleep(600)
        last, first = await story.dreams()
        assert (first.report.nodes, last.report.nodes >= 3) == (2, True)
        # And then there is nothing new.
        assert "nothing was remembered" in (await story.status()).why_not_dreaming

    story.tell(run)


def test_what_is_remembered_at_the_very_end_of_a_night_is_not_forgotten_by_the_next() -> None:
    for moment in range(10):
        story = Story()

        async def run(_: World, moment: int = moment, story: Story = story) -> None:
            await story.remember("m1", "m2")
            await story.trigger()
            story.thread_delay_s = lambda: 0.2  # type: ignore[method-assign]
            night = story.service.scheduler.running(SPACE)
            assert night is not None
            # Before it is over, which there is an event for.
            while night.dream.state != Dream.STATE_SUCCEEDED:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await asyncio.sleep(moment * 0.1)
            await story.remember("m3")
            await asyncio.sleep(600)
            assert (await story.dreams())[0].report.nodes >= 3

        story.tell(run)


def test_a_dream_that_failed_is_dreamt_again_and_not_at_once() -> None:
    story = Story(Temper("fails", after=1))

    async def run(_: World) -> None:
        await story.remember("m1", "m2")
        await asyncio.sleep(60)
        (failed,) = await story.dreams()
        assert failed.state == Dream.STATE_FAILED
        status = await story.status()
        assert status.cooldown_remaining.seconds > 500
        await asyncio.sleep(trigger.AFTER_FAILURE_S)
        again, _ = await story.dreams()
        assert again.state == Dream.STATE_SUCCEEDED
        assert from_timestamp(again.start_time) >= from_timestamp(status.next_eligible_time)

    story.tell(run)


def test_a_proposal_that_was_applied_is_not_dreamt_again() -> None:
    story = Story()

    async def run(_: World) -> None:
        await story.remember("m1", "m2")
        dream = await story.trigger(blocking=True, propose=True)
        assert dream.state == Dream.STATE_PROPOSED
        await story.service.dreams.approve_dream(filled(ApproveDreamRequest(space=SPACE, dream_id=dream.id)))
        await asyncio.sleep(3600)
        assert [one.id for one in await story.dreams()] == [dream.id]

    story.tell(run)


def test_events_are_numbered_on_over_a_restart_although_the_clock_was_put_back() -> None:
    story = Story()

    async def first(_: World) -> None:
        await story.remember("m1", "m2")
        await story.trigger(blocking=True)
        story.clock.put_wall(-7200)

    async def second(_: World) -> None:
        await story.trigger(blocking=True)

    # The world looks at every number.
    story.tell(first, second)


def test_a_status_is_of_one_moment_however_long_it_takes() -> None:
    story = Story()

    async def run(_: World) -> None:
        called_s = story.clock.now_s
        await story.remember("m1", "m2")
        story.thread_delay_s = lambda: 0.5  # type: ignore[method-assign]
        status = await story.status()
        left_s = (from_timestamp(status.next_eligible_time) - story.clock.now_us()) / 1e6
        assert left_s + story.clock.now_s - called_s == pytest.approx(6)

    story.tell(run)


def test_whoever_has_gone_leaves_no_error_behind() -> None:
    story = Story(Temper(pause_s=2.0))

    async def run(_: World) -> None:
        await story.remember("m1", "m2")
        await story.trigger()
        refused = asyncio.create_task(story.trigger(request_id="known nowhere"))
        await asyncio.sleep(0)
        refused.cancel()
        await asyncio.sleep(60)

    story.tell(run)
