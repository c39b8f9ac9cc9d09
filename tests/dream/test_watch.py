"""Numbered events: whoever watches, however slow, misses nothing without being told."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from dreamsvc.clock import Clock, Micros
from dreamsvc.dream.state import AWAKE, NREM, WAKING
from dreamsvc.dream.watch import KEPT, PROGRESS_EVERY_S, Events
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import Closing, StateChange, StreamStatusResponse

DREAM = Dream(id="d1")
PRESENT = StreamStatusResponse(sleep_state=AWAKE)


class Turned(Clock):
    """Stands still unless a test turns it."""

    def __init__(self, us: int = 1_000_000) -> None:
        self.us = us

    def now_us(self) -> Micros:
        return Micros(self.us)

    def monotonic(self) -> float:
        return self.us / 1e6


def change(events: Events, dream: Dream = DREAM) -> None:
    events.state_changed(NREM, dream, StateChange(to=NREM))


async def taken(stream: AsyncIterator[StreamStatusResponse], count: int) -> list[StreamStatusResponse]:
    return [await anext(stream) for _ in range(count)]


def numbers(found: list[StreamStatusResponse]) -> list[int]:
    return [event.sequence for event in found]


def follow(
    events: Events, after: int = 0, dream_id: str = "", heartbeat_s: float = 5
) -> AsyncIterator[StreamStatusResponse]:
    copy = StreamStatusResponse()
    copy.CopyFrom(PRESENT)
    return events.follow(copy, after, dream_id, lambda: heartbeat_s)


def test_numbers_grow_also_where_the_clock_stands_or_goes_back_and_across_a_restart() -> None:
    async def run() -> None:
        clock = Turned()
        events = Events(clock)
        stream = follow(events)
        await anext(stream)
        for us in (1_000_000, 1_000_000, 500_000, 2_000_000):
            clock.us = us
            change(events)
        found = numbers(await taken(stream, 4))
        assert found == list(range(found[0], found[0] + 4))
        clock.us = 3_000_000
        again = Events(clock)
        later = follow(again)
        assert (await anext(later)).sequence > found[-1]

    asyncio.run(run())


def test_a_number_from_a_run_whose_clock_was_ahead_holds_nothing_back() -> None:
    async def run() -> None:
        clock = Turned(5_000_000)
        before = Events(clock)
        change(before)
        seen = await anext(follow(before))
        clock.us = 1_000_000
        again = Events(clock)
        stream = follow(again, after=seen.sequence)
        assert (await anext(stream)).HasField("present")
        change(again)
        again.ended(AWAKE, DREAM)
        assert [event.WhichOneof("event") async for event in stream] == ["state_change", "closing"]

    asyncio.run(run())


def test_after_a_number_comes_exactly_the_rest() -> None:
    async def run() -> None:
        events = Events(Turned())
        stream = follow(events)
        await anext(stream)
        for _ in range(20):
            change(events)
        events.ended(AWAKE, DREAM)
        whole = [event async for event in stream]
        assert len(whole) == 21
        for i, event in enumerate(whole[:-1]):
            rest = [later async for later in follow(events, after=event.sequence)]
            assert rest == whole[i + 1 :]
        assert list(events.past(DREAM, AWAKE, whole[4].sequence)) == whole[5:]
        only = list(events.past(DREAM, AWAKE, 0))
        assert [event.WhichOneof("event") for event in only] == ["closing"]

    asyncio.run(run())


def test_who_comes_first_gets_the_present_state_and_nothing_from_before() -> None:
    async def run() -> None:
        events = Events(Turned())
        change(events)
        stream = follow(events)
        first = await anext(stream)
        assert first.HasField("present")
        change(events)
        assert (await anext(stream)).sequence > first.sequence

    asyncio.run(run())


def test_who_is_too_slow_gets_one_gap_that_names_what_is_gone() -> None:
    async def run() -> None:
        clock = Turned()
        events = Events(clock)
        stream = follow(events)
        await anext(stream)
        change(events)
        seen = (await anext(stream)).sequence
        sent: list[int] = []
        for _ in range(KEPT + 10):
            clock.us += 7
            change(events)
            sent.append(seen + 1 + len(sent))
        found = await taken(stream, KEPT + 1)
        assert found[0].HasField("gap")
        assert (found[0].gap.from_sequence, found[0].gap.to_sequence) == (seen + 1, sent[10] - 1)
        assert numbers(found[1:]) == sent[10:]

    asyncio.run(run())


def test_who_missed_nothing_gets_no_gap_although_the_ring_is_full() -> None:
    async def run() -> None:
        clock = Turned()
        events = Events(clock)
        stream = follow(events)
        await anext(stream)
        seen = 0
        for _ in range(KEPT * 2):
            clock.us += 7
            change(events)
            event = await anext(stream)
            assert not event.HasField("gap")
            seen = event.sequence
        # The last one that the ring has lost is the last one that this watcher has seen.
        resumed = follow(events, after=seen - KEPT)
        assert not (await anext(resumed)).HasField("gap")
        resumed = follow(events, after=seen - KEPT - 1)
        assert (await anext(resumed)).HasField("gap")

    asyncio.run(run())


def test_a_number_from_before_a_restart_gives_a_gap_and_then_what_follows() -> None:
    async def run() -> None:
        clock = Turned(5_000_000)
        events = Events(clock)
        stream = follow(events, after=4_000_000)
        change(events)
        first, second = await taken(stream, 2)
        assert first.gap.from_sequence == 4_000_001
        assert first.gap.to_sequence == second.sequence - 1

    asyncio.run(run())


def test_how_long_silence_lasts_is_asked_before_each_wait() -> None:
    async def run() -> None:
        waits = [0.01, 0.02, 0.01]
        stream = Events(Turned()).follow(StreamStatusResponse(), 0, "", lambda: waits.pop(0))
        await taken(stream, 4)
        assert waits == []

    asyncio.run(run())


def test_silence_is_broken_by_heartbeats() -> None:
    async def run() -> None:
        events = Events(Turned())
        stream = follow(events, heartbeat_s=0.01)
        found = await taken(stream, 4)
        assert [event.WhichOneof("event") for event in found] == ["present", *["heartbeat"] * 3]
        change(events)
        assert (await anext(stream)).HasField("state_change")

    asyncio.run(run())


def test_progress_is_conflated_and_changes_of_state_are_not() -> None:
    async def run() -> None:
        clock = Turned()
        events = Events(clock)
        stream = follow(events)
        await anext(stream)
        for _ in range(1000):
            clock.us += 1000
            events.progressed(NREM, DREAM)
        change(events)
        events.ended(AWAKE, DREAM)
        found = [event async for event in stream]
        told = [event.WhichOneof("event") for event in found]
        assert told.count("progress_made") <= 1 / PROGRESS_EVERY_S + 1
        assert told[-2:] == ["state_change", "closing"]

    asyncio.run(run())


def test_an_event_shows_the_dream_as_it_was_then() -> None:
    async def run() -> None:
        events = Events(Turned())
        stream = follow(events)
        await anext(stream)
        dream = Dream(id="d1", state=Dream.STATE_RUNNING)
        change(events, dream)
        dream.state = Dream.STATE_FAILED
        assert (await anext(stream)).dream.state == Dream.STATE_RUNNING

    asyncio.run(run())


def test_who_follows_one_dream_hears_nothing_of_another() -> None:
    async def run() -> None:
        events = Events(Turned())
        stream = follow(events, dream_id="d2")
        await anext(stream)
        events.ended(AWAKE, DREAM)
        change(events, Dream(id="d2"))
        events.ended(AWAKE, Dream(id="d2"))
        found = [event async for event in stream]
        assert [event.dream.id for event in found] == ["d2", "d2"]

    asyncio.run(run())


@pytest.mark.parametrize("watchers", [200])
def test_all_watchers_get_the_end(watchers: int) -> None:
    async def run() -> None:
        events = Events(Turned())

        async def watch() -> list[StreamStatusResponse]:
            return [event async for event in follow(events)]

        tasks = [asyncio.create_task(watch()) for _ in range(watchers)]
        await asyncio.sleep(0)
        for _ in range(5):
            change(events)
            await asyncio.sleep(0)
        events.state_changed(AWAKE, DREAM, StateChange(to=WAKING))
        events.ended(AWAKE, DREAM)
        found = await asyncio.gather(*tasks)
        assert all(one[-1].closing.reason == Closing.REASON_DREAM_ENDED for one in found)
        assert all(len(one) == 8 for one in found)

    asyncio.run(run())


def test_a_shutdown_ends_every_stream_after_what_it_still_had_to_tell() -> None:
    async def run() -> None:
        events = Events(Turned())
        streams = [follow(events) for _ in range(3)]
        for stream in streams:
            await anext(stream)
        change(events)
        events.shut_down()
        for stream in streams:
            told = [event async for event in stream]
            assert [event.WhichOneof("event") for event in told] == ["state_change", "closing"]
            assert told[-1].closing.reason == Closing.REASON_SHUTTING_DOWN
        late = [event async for event in follow(events)]
        assert [event.WhichOneof("event") for event in late] == ["present", "closing"]

    asyncio.run(run())


def test_a_watcher_who_goes_away_leaves_nothing() -> None:
    async def run() -> None:
        events = Events(Turned())

        async def watch() -> None:
            async for _ in follow(events):
                pass

        task = asyncio.create_task(watch())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        change(events)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())
