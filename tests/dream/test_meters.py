"""What the system tells of processes and the machine."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from dreamsvc.dream.meters import ProcessMeter, ThisMachine


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[bytes]]:
    """A process that keeps a core busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield process
    process.kill()
    process.wait()


def used_s(meter: ProcessMeter) -> float:
    usage = meter.read()
    assert usage is not None
    return usage.cpu_s


def test_a_process_that_is_held_uses_nothing_and_goes_on_where_it_was(busy: subprocess.Popen[bytes]) -> None:
    meter = ProcessMeter(busy.pid)
    while used_s(meter) < 0.05:
        time.sleep(0.01)
    assert meter.hold()
    time.sleep(0.05)
    before = used_s(meter)
    time.sleep(0.3)
    assert used_s(meter) == before
    meter.go_on()
    while used_s(meter) <= before:
        time.sleep(0.01)
    usage, age_s = meter.read(), meter.age_s()
    assert usage is not None
    assert usage.memory_bytes > 0
    assert age_s is not None
    assert age_s > 0.3


def test_a_process_that_has_ended_is_unknown_and_not_idle(busy: subprocess.Popen[bytes]) -> None:
    meter = ProcessMeter(busy.pid)
    busy.kill()
    busy.wait()
    assert meter.read() is None
    assert not meter.hold()
    meter.go_on()
    assert ProcessMeter(busy.pid).read() is None


def test_the_machine_tells_what_it_is_and_what_it_does() -> None:
    machine = ThisMachine()
    assert machine.cores > 0
    assert (machine.memory_bytes() or 0) > 100_000_000
    before = machine.cpu_busy_s()
    assert before is not None
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    after = machine.cpu_busy_s()
    assert after is not None
    # Of one core on average.
    assert after - before >= 0.1 / (os.cpu_count() or 1)
