"""What is switched off while it runs, over a real channel."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dreamsvc import config
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Dream
from tests.integration.served import BASE, InThread, Tables, a_memory, merged, refused, until

pytestmark = pytest.mark.integration


@pytest.fixture
def service(equal_store: Callable[[str], Path]) -> Iterator[InThread]:
    with InThread(equal_store("switched")) as running:
        yield running


def switch(service: InThread, changes: Tables) -> None:
    store = {"store": {"path": str(service.app.store.path)}}
    wanted = config.parse(merged(merged(BASE, store), changes))

    async def exchange() -> None:
        service.app.in_force.exchange(wanted)

    service.run(exchange())


OFF: Tables = {"dream": {"enabled": False}}
HELD: Tables = {"dream": {"hold_spaces": ["default"]}}


@pytest.mark.parametrize(("changes", "reason"), [(OFF, "DISABLED"), (HELD, "ON_HOLD")])
def test_a_dream_that_runs_is_woken_and_goes_on_when_it_may_again(
    service: InThread, changes: Tables, reason: str
) -> None:
    calls = service.calls
    dream = calls.trigger("default").dream
    calls.until_state("default", dream_pb2.SLEEP_STATE_NREM)
    until(lambda: calls.dream("default", dream.id).report.replays or None)
    switch(service, changes)
    woken = calls.ended("default", dream.id)
    assert woken.state == Dream.STATE_SUSPENDED
    assert woken.report.last_wake_reason == dream_pb2.WAKE_REASON_SWITCHED_OFF
    assert refused(lambda: calls.trigger("default")).reason == reason
    switch(service, {})
    again = calls.trigger("default").dream
    assert again.id == dream.id
    assert calls.abort("default", discard=True).was_dreaming


def test_without_parallel_dreams_a_second_space_waits(service: InThread) -> None:
    calls = service.calls
    calls.remember("other", a_memory(30))
    switch(service, {"features": {"parallel_dreams_enabled": False}})
    calls.trigger("default")
    refusal = refused(lambda: calls.trigger("other"))
    assert refusal.reason == "DREAM_IN_PROGRESS"
    assert "features.parallel_dreams_enabled" in refusal.message
    assert calls.status("other").why_not_dreaming
    switch(service, {})
    assert calls.trigger("other").dream.id
    for space in ("default", "other"):
        calls.abort(space, discard=True)
