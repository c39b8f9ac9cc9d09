"""What follows an error in a dream: each recovery strategy, with a real dreamer that is killed or stands still."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from dreamsvc.errors import StoreUnavailable
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import TriggerResponse
from tests.integration.served import SLOWLY, AsProcess, InThread, Tables, is_there, until
from tests.integration.test_waking import MERGING, topics

pytestmark = pytest.mark.integration


def strategy(name: str, **more: Any) -> Tables:
    return {"dream": {"fault": {"recovery_strategy": name, **more}}}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, template: Path) -> Dream:
    """The same dream, with nothing in its way."""
    store = tmp_path_factory.mktemp("undisturbed") / "memory.db"
    store.write_bytes(template.read_bytes())
    with AsProcess(store, SLOWLY) as service:
        answer: TriggerResponse = service.calls.trigger("default", seed=9, blocking=True)
        return answer.dream


@pytest.mark.parametrize("name", ["retry", "rollback"])
def test_a_dreamer_that_dies_is_replaced_and_the_dream_ends_as_if_nothing_had_been(
    name: str, equal_store: Callable[[str], Path], undisturbed: Dream
) -> None:
    with AsProcess(equal_store(name), SLOWLY, strategy(name)) as service:
        dream = service.in_mid_dream()
        pid = service.dreamer_pid()
        os.kill(pid, signal.SIGKILL)
        ended = service.calls.ended("default", dream.id)
        assert (ended.state, ended.end_reason) == (Dream.STATE_SUCCEEDED, dream_pb2.END_REASON_CONVERGED)
        assert ended.report.journal_digest == undisturbed.report.journal_digest
        (fault,) = ended.report.faults
        assert (fault.place, fault.recovery) == ("replay", name)
        assert "killed by signal 9" in fault.what
        assert service.dreamer_pid() != pid
        said = service.end()
    assert "Traceback" not in said
    # With its context.
    assert f'dream {dream.id} of space "default", replay: ' in said


def test_a_dreamer_that_stands_still_is_killed_and_the_dream_goes_on(
    equal_store: Callable[[str], Path], undisturbed: Dream
) -> None:
    with AsProcess(equal_store("still"), SLOWLY, strategy("retry", silence_seconds=1.0)) as service:
        dream = service.in_mid_dream(abort_on_query=False)
        pid = service.dreamer_pid()
        os.kill(pid, signal.SIGSTOP)
        # Nobody's question waits for it meanwhile.
        assert service.calls.recall("default").hits
        ended = service.calls.ended("default", dream.id)
        assert ended.state == Dream.STATE_SUCCEEDED, ended.message
        assert ended.report.journal_digest == undisturbed.report.journal_digest
        assert "said nothing for 1 s" in ended.report.faults[0].what
        until(lambda: not is_there(pid))


def test_the_strategy_abort_ends_the_dream_and_applies_nothing(equal_store: Callable[[str], Path]) -> None:
    with AsProcess(equal_store("abort"), SLOWLY, strategy("abort")) as service:
        before = service.calls.export("default")[1]
        dream = service.in_mid_dream()
        os.kill(service.dreamer_pid(), signal.SIGKILL)
        ended = service.calls.ended("default", dream.id)
        assert (ended.state, ended.end_reason) == (Dream.STATE_FAILED, dream_pb2.END_REASON_FAILED)
        assert "killed by signal 9" in ended.message
        assert not ended.report.faults
        assert service.calls.export("default")[1] == before
        assert service.calls.trigger("default", blocking=True).dream.state == Dream.STATE_SUCCEEDED


def test_when_the_retries_are_used_up_the_dream_ends_and_applies_nothing(equal_store: Callable[[str], Path]) -> None:
    with AsProcess(equal_store("used-up"), SLOWLY, strategy("retry", max_retries=1)) as service:
        before = service.calls.export("default")[1]
        dream = service.in_mid_dream()
        pid = service.dreamer_pid()
        os.kill(pid, signal.SIGKILL)
        until(lambda: service.calls.dream("default", dream.id).report.faults)
        another = until(lambda: found if (found := service.dreamer_pid()) != pid else None)
        os.kill(another, signal.SIGKILL)
        ended = service.calls.ended("default", dream.id)
        assert ended.state == Dream.STATE_FAILED
        assert len(ended.report.faults) == 1
        assert service.calls.export("default")[1] == before


def test_the_strategy_skip_leaves_out_the_step_that_failed_and_says_so(tmp_path: Path) -> None:
    with AsProcess(tmp_path / "memory.db", MERGING, strategy("skip")) as service:
        service.calls.remember("default", topics())
        dream = service.calls.trigger("default", budget_s=60).dream
        seen = False
        for event in service.calls.watch("default", dream.id):
            if not seen and event.dream.progress.sub_phase == dream_pb2.SUB_PHASE_CONSOLIDATION:
                seen = True
                os.kill(service.dreamer_pid(), signal.SIGKILL)
            ended = event.dream
        assert seen
        assert ended.state == Dream.STATE_SUCCEEDED, ended.message
        (fault,) = ended.report.faults
        assert (fault.place, fault.recovery) == ("consolidation", "skip")
        assert any("left out after an error" in notice for notice in ended.report.compression.notices)
        # The step is the one that would have made containers; what comes after it was done.
        assert not ended.report.compression.facets
        assert ended.report.compression.HasField("lift")


def test_a_damaged_snapshot_ends_the_dream_whatever_the_strategy(equal_store: Callable[[str], Path]) -> None:
    store = equal_store("damaged")
    with AsProcess(store, SLOWLY, strategy("rollback", max_retries=5)) as service:
        before = service.calls.export("default")[1]
        dream = service.in_mid_dream()
        weights = Path(f"{store}.snapshots") / f"dream-{dream.id}" / "weights.npy"
        body = bytearray(weights.read_bytes())
        body[-3] ^= 0x40
        aside = weights.with_suffix(".aside")
        aside.write_bytes(body)
        # The dreamer that runs has mapped the other file.
        aside.replace(weights)
        os.kill(service.dreamer_pid(), signal.SIGKILL)
        ended = service.calls.ended("default", dream.id)
        assert ended.state == Dream.STATE_FAILED
        assert "no whole snapshot" in ended.message
        assert len(ended.report.faults) == 1
        assert service.calls.export("default")[1] == before


# ── the disk ────────────────────────────────────────────────────────────────────


class Refusing:
    """Stands before a method of the journal or the store, and refuses some of its calls as a full disk does."""

    def __init__(self, method: Callable[..., Any], refusals: int) -> None:
        self._method = method
        self.left = refusals

    def __call__(self, *arguments: Any, **named: Any) -> Future[Any]:
        if self.left == 0:
            return self._method(*arguments, **named)
        self.left -= 1
        refused: Future[Any] = Future()
        refused.set_exception(StoreUnavailable("the store cannot take this: disk full"))
        return refused


@pytest.fixture(scope="module")
def retrying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InThread]:
    with InThread(tmp_path_factory.mktemp("retrying") / "memory.db", SLOWLY, strategy("retry")) as service:
        yield service


@pytest.mark.parametrize(("owner", "method"), [("journal", "stage_dream"), ("store", "fold_next")])
def test_what_the_disk_does_not_take_is_written_again(
    retrying: InThread, owner: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, space = retrying.calls, f"disk-{owner}"
    calls.remember(space)
    one = getattr(retrying.app, owner)
    refusing = Refusing(getattr(one, method), 2)
    monkeypatch.setattr(one, method, refusing)
    dream = calls.trigger(space, seed=3, blocking=True).dream
    assert dream.state == Dream.STATE_SUCCEEDED, dream.message
    assert refusing.left == 0
    assert [(fault.place, fault.recovery) for fault in dream.report.faults] == [("writing", "retry")] * 2
    assert calls.weights(space)


def test_a_disk_that_stays_full_fails_the_dream_and_the_next_one_is_whole(
    retrying: InThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, space = retrying.calls, "full-disk"
    calls.remember(space)
    before = calls.export(space)[1]
    with monkeypatch.context() as patch:
        patch.setattr(retrying.app.journal, "stage_dream", Refusing(retrying.app.journal.stage_dream, 1000))
        dream = calls.trigger(space, seed=3).dream
        ended = calls.ended(space, dream.id)
        assert ended.state == Dream.STATE_FAILED
        assert "disk full" in ended.message
        assert len(ended.report.faults) == 3
        assert calls.export(space)[1] == before
    assert calls.trigger(space, seed=3, blocking=True).dream.state == Dream.STATE_SUCCEEDED
