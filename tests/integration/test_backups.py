"""The restore drill: a backup of a service that writes and dreams, and the way back to it."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dreamsvc.memory import manifest
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import RevertRequest
from dreamsvc.v1.memory_pb2 import Edge, Memory
from dreamsvc.v1.memory_service_pb2 import ForgetRequest, RememberRequest
from tests.integration.served import PATIENCE_S, AsProcess, Calls, until

pytestmark = pytest.mark.integration


def dreamsvc(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A command as its users give it."""
    return subprocess.run(
        [sys.executable, "-m", "dreamsvc", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S * 2,
    )


class Writer:
    """Remembers pairs of memories, one pair after the other, until it is told to end; knows what was acknowledged.

    In a space of its own: a dream is given up when much of its space changed.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.acknowledged = 0

    def _write(self) -> None:
        while not self._ending.is_set():
            number = self.acknowledged + 1
            pair = [Memory(key=f"{half}-{number}", text=f"{half} half of {number}") for half in ("one", "other")]
            edge = Edge(source=f"one-{number}", target=f"other-{number}")
            self._calls.remember("notes", RememberRequest(memories=pair, edges=[edge]))
            self.acknowledged = number

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(PATIENCE_S)


def pairs(lines: list[dict[str, Any]]) -> list[int]:
    """Numbers of the pairs in an export, each of which has to be whole."""
    keys = {line["key"] for line in lines if line["type"] == "memory" and "key" in line}
    ones = {int(key.removeprefix("one-")) for key in keys if key.startswith("one-")}
    assert ones == {int(key.removeprefix("other-")) for key in keys if key.startswith("other-")}
    assert len(ones) == sum(line["type"] == "edge" for line in lines)
    return sorted(ones)


def of(edges: dict[tuple[str, str], float], weights: dict[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    return {edge: weights.get(edge, 0.0) for edge in edges}


def test_what_was_backed_up_while_it_was_written_and_dreamt_comes_back_and_goes_on(
    equal_store: Callable[[str], Path], tmp_path: Path
) -> None:
    store, place = equal_store("drill"), tmp_path / "backups" / "one"
    with AsProcess(store) as service:
        calls = service.calls
        before_the_night = calls.weights("default")
        folded = calls.trigger("default", budget_s=0.5, blocking=True).dream
        assert folded.state == Dream.STATE_SUCCEEDED
        night = calls.weights("default")
        # A second dream runs and somebody writes while the backup is made.
        running = calls.trigger("default", budget_s=60).dream
        until(lambda: calls.dream("default", running.id).report.nodes_replayed > 8)
        with Writer(calls) as writer:
            until(lambda: writer.acknowledged > 3)
            least = writer.acknowledged
            made = dreamsvc("backup", place, "--store", store)
            most = writer.acknowledged + 1
        assert made.returncode == 0, made.stderr
        told = manifest.read(place)
        assert calls.dream("default", running.id).state == Dream.STATE_RUNNING
        calls.call(calls.memories.Forget, ForgetRequest(space="default", ids=["k1", "k2"]))
        calls.remember("default", RememberRequest(memories=[Memory(key="late", text="after the backup")]))
        calls.abort("default")
        _, later = calls.export("default")
        refused = dreamsvc("restore", "--backup", place, "--store", store)
        assert refused.returncode == 1
        assert f"process {service.process.pid}; stop that server" in refused.stderr
        service.end()
    done = dreamsvc("restore", "--backup", place, "--store", store)
    assert done.returncode == 0, done.stderr
    with AsProcess(store) as service:
        calls = service.calls
        digests = {space.name: space.digest for space in told.content.spaces}
        assert {name: calls.export(name)[1] for name in ("default", "notes")} == digests
        there = pairs(calls.export("notes")[0])
        assert least <= there[-1] <= most
        assert there == list(range(1, there[-1] + 1))
        # The night is there, and what was dreamt at that moment is as it was interrupted: its snapshot is not there.
        assert calls.dream("default", folded.id).state == Dream.STATE_SUCCEEDED
        assert of(night, calls.weights("default")) == night != before_the_night
        interrupted = calls.dream("default", running.id)
        assert interrupted.state == Dream.STATE_SUSPENDED
        another = calls.trigger("default", budget_s=0.5, blocking=True).dream
        assert another.state == Dream.STATE_SUCCEEDED
        given_up = calls.dream("default", running.id)
        assert given_up.state == Dream.STATE_DISCARDED
        assert "its snapshot is gone" in given_up.message
        for night_id in (another.id, folded.id):
            calls.call(calls.dreams.Revert, RevertRequest(space="default", dream_id=night_id))
        assert of(before_the_night, calls.weights("default")) == before_the_night
        service.end()
    doctor = dreamsvc("doctor", "--store", store)
    assert doctor.returncode == 0, doctor.stdout
    # What was replaced is a store, and opens.
    with AsProcess(store.with_name(f"{store.name}.before-restore-1")) as service:
        assert service.calls.export("default")[1] == later
        service.end()


def test_a_restore_that_was_killed_is_ended_by_the_next_start(
    equal_store: Callable[[str], Path], tmp_path: Path
) -> None:
    store, place = equal_store("killed"), tmp_path / "one"
    with AsProcess(store) as service:
        _, digest = service.calls.export("default")
        assert dreamsvc("backup", place, "--store", store).returncode == 0
        service.calls.remember("default", RememberRequest(memories=[Memory(key="late", text="late")]))
        service.end()
    # As it ends between its atomic point and the first thing after it.
    code = (
        "import os, sys; from pathlib import Path; from dreamsvc.memory import backup, replacing;"
        " replacing._finish = lambda store: os._exit(9); backup.restore(Path(sys.argv[1]), Path(sys.argv[2]), now_us=1)"
    )
    assert subprocess.run([sys.executable, "-c", code, place, store], check=False).returncode == 9
    looked = dreamsvc("doctor", "--store", store)
    assert looked.returncode == 1
    assert "the next start of the service ends it" in looked.stdout
    with AsProcess(store) as service:
        assert service.calls.export("default")[1] == digest
        said = service.end()
    assert f"was replaced by a backup; what was there before is kept as {store}.before-restore-1" in said


def test_a_backup_keeps_nobody_waiting(equal_store: Callable[[str], Path], tmp_path: Path) -> None:
    """While one is made, calls are answered: more of them than it has parts."""
    store = equal_store("waiting")
    with AsProcess(store) as service:
        for part in range(5):
            memories = [Memory(key=f"m{part}-{i}", text=f"text {i} " * 200) for i in range(400)]
            service.calls.remember("default", RememberRequest(memories=memories))
        backup = subprocess.Popen([sys.executable, "-m", "dreamsvc", "backup", tmp_path / "one", "--store", store])
        answered = 0
        while backup.poll() is None:
            assert service.calls.recall("default").hits
            service.calls.remember("default", RememberRequest(memories=[Memory(key="k", text=f"{time.time()}")]))
            answered += 1
        assert backup.returncode == 0
        assert answered > 5
