"""Where a second dreamer cannot be had beside the first, nights take turns and it is said (API-5)."""

import asyncio
from typing import Any

import pytest

from dreamsvc.clock import Clock
from dreamsvc.dream.lending import AGAIN_S, Lending
from dreamsvc.errors import DreamFailed
from dreamsvc.v1 import error_reason_pb2
from dreamsvc.v1.config_pb2 import ResourcesConfig

RESOURCES = ResourcesConfig()


class Turned(Clock):
    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


class Few:
    """Has so many processes, and no more."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.lent = 0
        self.tries = 0

    async def lease(self, config: ResourcesConfig) -> Any:
        self.tries += 1
        if self.lent >= self.most:
            raise DreamFailed(error_reason_pb2.ERROR_REASON_DREAM_RESOURCE, "there is no memory for it")
        self.lent += 1
        return object()

    def give_back(self, process: Any, config: ResourcesConfig) -> None:
        self.lent -= 1

    async def close(self) -> None:
        pass


def test_a_second_dream_waits_for_the_first_and_says_why() -> None:
    async def run() -> None:
        few, clock = Few(1), Turned()
        lending = Lending(few, clock)
        first = await lending.lease(RESOURCES)
        assert (lending.notice, lending.most(4)) == ("", 4)
        second = asyncio.create_task(lending.lease(RESOURCES))
        await asyncio.sleep(0.01)
        assert not second.done()
        assert lending.notice.endswith("there is no second dreamer: there is no memory for it")
        assert lending.most(4) == 1
        assert few.tries == 2, "it is not tried again and again"
        lending.give_back(first, RESOURCES)
        await asyncio.wait_for(second, 5)
        assert lending.most(4) == 1
        clock.now_s += AGAIN_S
        assert lending.most(4) == 4
        few.most = 2
        await lending.lease(RESOURCES)
        assert (lending.notice, lending.most(4)) == ("", 4)

    asyncio.run(run())


def test_where_there_is_none_at_all_a_dream_fails() -> None:
    async def run() -> None:
        lending = Lending(Few(0), Turned())
        with pytest.raises(DreamFailed, match="no memory"):
            await lending.lease(RESOURCES)
        assert lending.notice == ""

    asyncio.run(run())


def test_a_wake_ends_the_waiting() -> None:
    async def run() -> None:
        lending = Lending(Few(1), Turned())
        first = await lending.lease(RESOURCES)
        second = asyncio.create_task(lending.lease(RESOURCES))
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert second.cancelled()
        lending.give_back(first, RESOURCES)
        await lending.lease(RESOURCES)

    asyncio.run(run())
