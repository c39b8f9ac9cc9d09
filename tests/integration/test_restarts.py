"""Processes that end, in good order and without: what was told stays true, and a dream goes on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import Closing, StreamStatusResponse
from tests.integration.served import PATIENCE_S, SLOWLY, AsProcess, Calls, is_there, until

pytestmark = pytest.mark.integration


def resumed(calls: Calls) -> Dream:
    answer = calls.trigger("default", seed=9, blocking=True)
    assert answer.resumed
    return answer.dream


def test_a_dream_survives_the_death_of_the_service_and_a_shutdown_and_ends_as_if_nothing_had_been(
    equal_store: Callable[[str], Path],
) -> None:
    with AsProcess(equal_store("through"), SLOWLY) as service:
        through = service.calls.trigger("default", seed=9, blocking=True).dream
        weights = service.calls.weights("default")
        service.end()
    store = equal_store("killed")
    with AsProcess(store, SLOWLY) as service:
        dream = service.in_mid_dream()
        dreamer = service.dreamer_pid()
        service.end(signal.SIGKILL)
    # Nobody is left over, and the lock is free.
    until(lambda: not is_there(dreamer), within_s=5)
    with AsProcess(store, SLOWLY) as service:
        status = service.calls.status("default")
        assert status.suspended_dream.id == dream.id
        assert "the service ended" in status.suspended_dream.message
        assert 0 < status.suspended_dream.report.nodes_replayed < 200
        service.calls.trigger("default", seed=9)
        stream = service.calls.watch("default")
        events = [next(stream)]
        service.calls.until_state("default", dream_pb2.SLEEP_STATE_NREM)
        time.sleep(0.1)
        service.process.send_signal(signal.SIGTERM)
        events += stream
        said = service.end()
        assert service.process.returncode == 0, said
        assert "Traceback" not in said
        assert "never retrieved" not in said
        assert "never awaited" not in said
    assert closing_reasons(events) <= {Closing.REASON_DREAM_ENDED, Closing.REASON_SHUTTING_DOWN}
    assert events[-1].HasField("closing")
    with AsProcess(store, SLOWLY) as service:
        suspended = service.calls.status("default").suspended_dream
        assert (suspended.id, suspended.state) == (dream.id, Dream.STATE_SUSPENDED)
        assert suspended.report.last_wake_reason == dream_pb2.WAKE_REASON_SHUTDOWN
        assert suspended.report.wake_latency_ms > 0
        ended = resumed(service.calls)
        assert ended.id == dream.id
        assert ended.report.journal_digest == through.report.journal_digest
        assert ended.report.rounds == through.report.rounds
        assert service.calls.weights("default") == weights
        assert not [path.name for path in Path(f"{store}.snapshots").iterdir() if path.name.startswith("dream-")]
        service.end()
    # Another process sees it, and finds the store in order.
    doctor = subprocess.run(
        [sys.executable, "-m", "dreamsvc", "doctor", "--store", str(store)], capture_output=True, text=True, check=False
    )
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr


def test_a_dreamer_that_stands_still_does_not_outlive_the_service(equal_store: Callable[[str], Path]) -> None:
    with AsProcess(equal_store("still"), SLOWLY) as service:
        service.in_mid_dream()
        dreamer = service.dreamer_pid()
        os.kill(dreamer, signal.SIGSTOP)
        service.end(signal.SIGKILL)
    until(lambda: not is_there(dreamer), within_s=5)


def closing_reasons(events: list[StreamStatusResponse]) -> set[int]:
    return {event.closing.reason for event in events if event.HasField("closing")}


def test_a_watcher_of_an_idle_space_hears_of_the_shutdown(equal_store: Callable[[str], Path]) -> None:
    with AsProcess(equal_store("idle")) as service:
        stream = service.calls.watch("default")
        next(stream)
        service.process.send_signal(signal.SIGTERM)
        *_, last = stream
        assert last.closing.reason == Closing.REASON_SHUTTING_DOWN
        began = time.monotonic()
        assert service.process.wait(PATIENCE_S) == 0
        assert time.monotonic() - began < 3


def test_a_second_service_on_the_same_store_is_refused_with_the_holders_pid(equal_store: Callable[[str], Path]) -> None:
    store = equal_store("held")
    with AsProcess(store) as service:
        second = subprocess.run(
            [sys.executable, "-m", "dreamsvc", "serve", "--store", str(store), "--port", "0"],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert second.returncode == 1
        assert f"process {service.process.pid}" in second.stderr
        assert "Traceback" not in second.stderr
        # The port is taken as well, by somebody else.
        third = subprocess.run(
            [sys.executable, "-m", "dreamsvc", "serve", "--store", f"{store}2", "--port", service.calls.address[10:]],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert third.returncode == 1
        assert "--port" in third.stderr
        assert "Traceback" not in third.stderr
        assert service.calls.recall("default").hits


def test_a_damaged_or_vanished_snapshot_costs_the_interrupted_dream_and_nothing_else(
    equal_store: Callable[[str], Path],
) -> None:
    store = equal_store("damaged")
    with AsProcess(store, SLOWLY) as service:
        dream = service.in_mid_dream()
        service.calls.abort("default")
        snapshot = Path(f"{store}.snapshots") / f"dream-{dream.id}"
        weights = snapshot / "weights.npy"
        os.truncate(weights, 100)
        answer = service.calls.trigger("default", seed=9, budget_s=0.3, blocking=True)
        assert (answer.resumed, answer.dream.state) == (False, Dream.STATE_SUCCEEDED)
        given_up = service.calls.dream("default", dream.id)
        assert given_up.state == Dream.STATE_DISCARDED
        assert given_up.message == "given up, nothing of it was applied: its snapshot is damaged"
        assert not snapshot.exists()
