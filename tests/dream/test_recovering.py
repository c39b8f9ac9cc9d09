"""What a start makes of what a crash left: everything is brought to an end, one line tells of it, and one damaged row
is in the way of nothing else."""

import logging
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from benchmarks.proof import parts
from benchmarks.proof.jumping_clock import JumpingClock
from benchmarks.proof.opened import Opened
from dreamsvc import checkpoints, contract, entropy
from dreamsvc.dreamer.v1.dreamer_service_pb2 import Checkpoint
from dreamsvc.dreamer.v1.operations_pb2 import Operations
from dreamsvc.memory.doctor import examine
from dreamsvc.memory.sqlite import ChangeId
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import TriggerRequest
from dreamsvc.v1.memory_pb2 import Edge, Memory
from dreamsvc.v1.memory_service_pb2 import RememberRequest

SHM = Path("/dev/shm")


class Crashing:
    """A store that is opened as the service does, and let go of as a crash does."""

    def __init__(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.path = path
        self.clock = JumpingClock()
        self._caplog = caplog
        self.opened = Opened(path, self.clock)

    def remember(self, *memories: Memory, edges: tuple[Edge, ...] = (), space: str = "default") -> None:
        request = RememberRequest(space=space, memories=memories, edges=edges)
        contract.fill(request)
        self.opened.store.remember(request).result(10)

    def begin(self, seed: int = 7) -> tuple[ChangeId, Dream]:
        dream = Dream(id=entropy.uuid7(self.clock.us), space="default", state=Dream.STATE_RUNNING, seed=seed)
        request = TriggerRequest(space="default")
        begun = self.opened.journal.begin_dream(request, dream, self.opened.config, self.clock.us).result(10)[1]
        assert begun is not None
        return begun.change, dream

    def stage(self, change: ChangeId, dream: Dream, *made: Operations, checkpoint: Checkpoint | None = None) -> None:
        kept = checkpoint or Checkpoint(format=checkpoints.FORMAT, seed=dream.seed, next_part=len(made))
        self.opened.journal.stage_dream(change, made, kept, dream).result(10)

    def seal(self, change: ChangeId, dream: Dream, *made: Operations) -> None:
        self.stage(change, dream, *made)
        self.opened.journal.compact(change)
        dream.state = Dream.STATE_FOLDING
        self.opened.journal.seal_dream(change, dream).result(10)

    def execute(self, sql: str, *values: Any) -> None:
        self.opened.store.database.write(lambda c: c.execute(sql, values).fetchall()).result(10)

    def restart(self) -> list[str]:
        """After a crash; what the log said of the start."""
        self.opened.abandon()
        return self.start()

    def start(self) -> list[str]:
        self._caplog.clear()
        with self._caplog.at_level(logging.INFO):
            self.opened = Opened(self.path, self.clock)
        return [record.getMessage() for record in self._caplog.records if record.name.startswith("dreamsvc.dream")]

    def dream(self, dream: Dream) -> Dream:
        return self.opened.journal.dream("default", dream.id).dream

    def weight(self) -> float:
        return self.opened.rows("SELECT weight FROM edges WHERE id=1")[0][0]

    def wrong(self) -> list[str]:
        return [f"{found.name}: {found.detail}" for found in examine(str(self.path)) if not found.ok]


@pytest.fixture
def crashing(caplog: pytest.LogCaptureFixture) -> Iterator[Crashing]:
    directory = Path(tempfile.mkdtemp(prefix="dreamsvc-test-", dir=SHM if SHM.is_dir() else None))
    made = Crashing(directory / "memory.db", caplog)
    try:
        made.remember(
            *(Memory(key=key, text=key, vector=[1, i]) for i, key in enumerate("abcd")),
            edges=(Edge(source="a", target="b", weight=0.25), Edge(source="b", target="c")),
        )
        yield made
    finally:
        made.opened.abandon()
        shutil.rmtree(directory, ignore_errors=True)


def weights(part: int, weight: float) -> Operations:
    return parts.weights(part, {1: weight})


def test_a_start_after_which_nothing_was_to_do_says_so_in_one_line(crashing: Crashing) -> None:
    crashing.opened.close()
    assert crashing.start() == ["start: 4 memories and 2 edges in 1 space; nothing was left over"]


def test_a_start_without_snapshots_says_so(crashing: Crashing) -> None:
    crashing.remember(Memory(text="x"), space="other")
    (line,) = crashing.restart()
    assert line == "start: 5 memories and 2 edges in 2 spaces; 2 spaces had no snapshot; nothing was left over"
    crashing.opened.close()
    crashing.start()
    crashing.remember(Memory(text="y"), space="other")
    (line,) = crashing.restart()
    assert "6 memories and 2 edges in 2 spaces; 2 snapshots were of an earlier change; nothing was left over" in line


def test_a_torn_snapshot_is_built_anew_and_told(crashing: Crashing) -> None:
    crashing.opened.close()
    snapshot = crashing.path.with_name("memory.db.snapshots") / "start-1" / "importance.npy"
    data = bytearray(snapshot.read_bytes())
    data[-1] ^= 1
    snapshot.write_bytes(data)
    (line,) = crashing.start()
    assert line == (
        "start: 4 memories and 2 edges in 1 space; 1 snapshot was torn and is built anew; nothing was left over"
    )


def test_all_that_a_crash_left_is_brought_to_an_end_and_told(crashing: Crashing) -> None:
    change, sealed = crashing.begin()
    crashing.seal(change, sealed, weights(0, 0.75))
    change, running = crashing.begin()
    crashing.stage(change, running, weights(0, 0.5))
    crashing.opened.journal.begin_import("half").result(10)
    told = crashing.restart()
    assert told[-1] == (
        "start: 4 memories and 2 edges in 1 space; 1 space had no snapshot; 1 dream was folded to its end,"
        " 1 dream can be resumed, 1 unfinished import was dropped"
    )
    assert told[:-1] == [
        f"dream {running.id} was interrupted; it can be resumed",
        f"dream {sealed.id} was folded to its end",
    ]
    assert crashing.dream(sealed).state == Dream.STATE_SUCCEEDED
    assert crashing.dream(running).state == Dream.STATE_SUSPENDED
    assert crashing.weight() == 0.75
    assert crashing.wrong() == []
    # The next start has nothing to do, and says what waits.
    (line,) = crashing.restart()
    assert line.endswith("1 dream can be resumed")


@pytest.mark.parametrize("column", ["body", "config"])
@pytest.mark.parametrize("state", [Dream.STATE_RUNNING, Dream.STATE_SUSPENDED])
def test_an_interrupted_dream_whose_record_is_damaged_is_dropped(crashing: Crashing, column: str, state: int) -> None:
    change, dream = crashing.begin()
    crashing.stage(change, dream, weights(0, 0.75))
    crashing.execute(f"UPDATE dreams SET {column} = x'ff', state = ? WHERE change = ?", state, change)
    told = crashing.restart()
    what = "its record" if column == "body" else "the configuration it began with"
    assert told[0] == f"dream {dream.id} was given up, nothing of it was applied: {what} is damaged"
    assert told[-1].endswith("1 dream was dropped")
    assert crashing.dream(dream).state == Dream.STATE_DISCARDED
    assert what in crashing.dream(dream).message
    assert crashing.weight() == 0.25
    assert crashing.opened.rows("SELECT * FROM checkpoints") == []


def test_a_sealed_dream_whose_record_is_damaged_is_folded_all_the_same(crashing: Crashing) -> None:
    change, dream = crashing.begin()
    crashing.seal(change, dream, weights(0, 0.75))
    crashing.execute("UPDATE dreams SET body = x'ff' WHERE change = ?", change)
    assert crashing.restart()[-1].endswith("1 dream was folded to its end")
    assert crashing.dream(dream).state == Dream.STATE_SUCCEEDED
    assert crashing.weight() == 0.75
    assert crashing.wrong() == []


def test_an_old_dream_whose_record_is_damaged_is_in_the_way_of_nothing(crashing: Crashing) -> None:
    change, dream = crashing.begin()
    crashing.seal(change, dream, weights(0, 0.75))
    crashing.restart()
    crashing.execute("UPDATE dreams SET body = x'ff' WHERE change = ?", change)
    crashing.restart()
    shown = crashing.dream(dream)
    assert (shown.id, shown.space, shown.state) == (dream.id, "default", Dream.STATE_SUCCEEDED)
    assert shown.message == "its record is damaged"


@pytest.mark.parametrize("damage", ["body = x'00'", "crc = crc + 1"])
def test_a_sealed_dream_that_is_damaged_is_taken_back_as_far_as_it_was_applied(crashing: Crashing, damage: str) -> None:
    before = crashing.opened.digest()
    change, dream = crashing.begin()
    crashing.seal(change, dream, weights(0, 0.75), parts.marks(1, {1: 1}))
    assert crashing.opened.store.fold_next(change, "default").result(10) is not None
    assert crashing.weight() == 0.75
    crashing.execute(f"UPDATE change_parts SET {damage} WHERE change = ? AND part = 1", change)
    told = crashing.restart()
    assert told[-1].endswith("1 dream failed")
    failed = crashing.dream(dream)
    assert failed.state == Dream.STATE_FAILED
    assert "what had been was taken back: part 1 of change 1 does not match its checksum" in failed.message
    assert crashing.opened.digest() == before
    assert crashing.wrong() == []
    # It is over: the next start finds nothing of it.
    assert crashing.restart()[-1].endswith("nothing was left over")


def test_a_damaged_import_is_told_and_the_rest_is_served(crashing: Crashing) -> None:
    change, _ = crashing.opened.journal.begin_import("other").result(10)
    crashing.opened.journal.stage_bytes(change, 0, [b"\xff"]).result(10)
    crashing.opened.journal.seal_import(change, "other", "client", 0).result(10)
    told = crashing.restart()
    assert told[-1].endswith("1 CHANGE COULD NOT BE FINISHED")
    assert f"the import of change {change} could not be folded to its end" in told[0]
    crashing.remember(Memory(key="e", text="on we go"))


def test_what_is_damaged_beyond_taking_back_is_told_and_the_rest_is_served(crashing: Crashing) -> None:
    change, dream = crashing.begin()
    crashing.seal(change, dream, weights(0, 0.75), parts.marks(1, {1: 1}))
    crashing.opened.store.fold_next(change, "default").result(10)
    crashing.execute("UPDATE change_parts SET crc = crc + 1 WHERE change = ?", change)
    crashing.execute("UPDATE change_parts SET before = x'00' WHERE change = ? AND part = 0", change)
    told = crashing.restart()
    assert told[-1].endswith("1 CHANGE COULD NOT BE FINISHED")
    assert f"dream {dream.id} could not be finished" in told[0]
    crashing.remember(Memory(key="e", text="on we go"))


def test_checkpoints_of_dreams_that_ended_are_removed(crashing: Crashing) -> None:
    change, dream = crashing.begin()
    crashing.seal(change, dream, weights(0, 0.75))
    crashing.restart()
    crashing.execute("INSERT INTO checkpoints VALUES (?, x'00', 0, 0)", change)
    assert any("checkpoint" in found for found in crashing.wrong())
    assert crashing.restart()[-1].endswith("1 old checkpoint was removed")
    assert crashing.wrong() == []


def test_snapshots_of_dreams_that_can_go_on_stay_and_all_others_go(crashing: Crashing) -> None:
    change, dream = crashing.begin()
    crashing.stage(change, dream, weights(0, 0.75))
    snapshots = crashing.path.with_name("memory.db.snapshots")
    for name in (dream.id, "of-nobody", f"{dream.id}.new"):
        (snapshots / f"dream-{name}").mkdir(parents=True)
    crashing.restart()
    assert [path.name for path in snapshots.iterdir()] == [f"dream-{dream.id}"]


def test_a_torn_commit_at_the_end_of_the_log_is_told(crashing: Crashing) -> None:
    crashing.remember(Memory(key="e", text="e"))
    crashing.opened.abandon()
    log = crashing.path.with_name("memory.db-wal")
    data = bytearray(log.read_bytes())
    data[-4000:] = bytes(4000)
    log.write_bytes(data)
    assert "; the log ended in a commit that was not whole, whose" in crashing.start()[-1]
    assert crashing.wrong() == []
    crashing.remember(Memory(key="f", text="f"))
    # What was left of it is no damage to the next start.
    (line,) = crashing.restart()
    assert "not whole" not in line


def test_a_start_on_a_damaged_database_is_refused_with_the_way_out(crashing: Crashing) -> None:
    crashing.opened.close()
    data = bytearray(crashing.path.read_bytes())
    raw = apsw.Connection(str(crashing.path))
    ((page,),) = raw.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'dreams'").fetchall()
    raw.close()
    data[(page - 1) * 8192 + 100] ^= 4
    crashing.path.write_bytes(data)
    command = [sys.executable, "-m", "dreamsvc", "serve", "--store", str(crashing.path), "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "`dreamsvc doctor` names what is, `dreamsvc restore --backup` puts a backup in place" in ended.stderr
    (found,) = [one for one in examine(str(crashing.path)) if one.name == "the database is whole"]
    assert "dreams: its rows cannot be read" in found.detail
    assert "dreamsvc restore" in found.mend
    crashing.path.write_bytes(b"")
    crashing.opened = Opened(crashing.path, crashing.clock)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE expansions SET crc = crc + 1",
        "UPDATE positions SET body = x'00'",
        "UPDATE vectors SET crc = crc + 1 WHERE node = 1",
        "UPDATE nodes SET aliases = '[' WHERE id = 2",
    ],
)
def test_one_damaged_row_keeps_no_service_from_starting(crashing: Crashing, damage: str) -> None:
    change, dream = crashing.begin()
    found = parts.expansions(0, parts.expansion(1, {"words": 0.5}, {2: 0.5}))
    crashing.seal(change, dream, found, parts.positions(1, {1: [0.0, 0.5]}))
    crashing.restart()
    crashing.execute(damage)
    assert crashing.restart()[-1].endswith("nothing was left over")
    served = crashing.opened.store.memories_by_row("default", [1, 3, 4], with_vectors=False)
    assert [memory.text for memory in served.values()] == ["a", "c", "d"]
    assert len(crashing.wrong()) == 1
