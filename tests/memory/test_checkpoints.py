"""A checkpoint that cannot be gone on from is discarded with its reason, and none outlives its dream."""

import asyncio
import logging
import zlib
from typing import Any

import numpy as np
import pytest

from dreamsvc import checkpoints, snapshot_files
from dreamsvc.config import InForce, defaults
from dreamsvc.dream.policies import Policies
from dreamsvc.dream.records import Records
from dreamsvc.dreamer.v1.dreamer_service_pb2 import Checkpoint
from dreamsvc.memory.doctor import examine
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import ApproveDreamRequest, RejectDreamRequest, TriggerRequest
from dreamsvc.v1.memory_pb2 import Edge, Memory
from kernels.activation import KEPT_BITS

FITS = {"format": checkpoints.FORMAT, "seed": 7, "next_part": 1}


@pytest.fixture
def interrupted(room: Any, part: Any) -> Any:
    """A dream that can go on: one part, a checkpoint, a snapshot."""
    room.remember(Memory(key="a", text="a"), Memory(key="b", text="b"), edges=[Edge(source="a", target="b")])
    room.change, room.interrupted = room.begin_dream()
    room.interrupted.state, room.interrupted.seed = Dream.STATE_SUSPENDED, 7
    keep(room, [part.weights(0, {1: 0.75})], **FITS)
    snapshot_files.write(room.store.dream_snapshot_path(room.interrupted.id), *room.store.dream_snapshot("default"))
    return room


def keep(room: Any, made: Any, **fields: Any) -> None:
    room.journal.stage_dream(room.change, made, Checkpoint(**fields), room.interrupted).result(10)


def records(room: Any) -> Records:
    in_force = InForce(defaults())
    return Records(room.store, room.journal, in_force, Policies(in_force), room.clock)


def trigger(room: Any) -> Any:
    return asyncio.run(records(room).begin(TriggerRequest(space="default"), dream_pb2.TRIGGERED_BY_REQUEST))


def resealed(room: Any, checkpoint: Checkpoint) -> None:
    """Stored with a checksum that fits."""
    body = checkpoint.SerializeToString()
    room.execute("UPDATE checkpoints SET body = ?, crc = ?", body, zlib.crc32(body))


def flip(room: Any) -> None:
    path = room.store.dream_snapshot_path(room.interrupted.id) / "weights.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


ANOTHER = f"its checkpoint is of format {checkpoints.FORMAT + 1}, this version reads {checkpoints.FORMAT}"
DAMAGES: dict[str, Any] = {
    "its checkpoint is damaged": lambda room: room.execute("UPDATE checkpoints SET crc = crc + 1"),
    "its checkpoint cannot be read": lambda room: room.execute(
        "UPDATE checkpoints SET body = x'ff', crc = ?", zlib.crc32(b"\xff")
    ),
    ANOTHER: lambda room: resealed(room, Checkpoint(**FITS | {"format": checkpoints.FORMAT + 1})),
    "its checkpoint is of a dream with seed 8, it has 7": lambda room: resealed(room, Checkpoint(**FITS | {"seed": 8})),
    "its checkpoint has 1,000,012 bytes": lambda room: resealed(room, Checkpoint(**FITS, activation=bytes(1_000_002))),
    "its checkpoint follows 2 parts, and part 1 is not there": lambda room: resealed(
        room, Checkpoint(**FITS | {"next_part": 2})
    ),
    "its checkpoint follows 1 parts, and part 0 is not there": lambda room: room.execute("DELETE FROM change_parts"),
    "it staged 1 parts, and its checkpoint knows of 0": lambda room: resealed(
        room, Checkpoint(**FITS | {"next_part": 0})
    ),
    "what it staged is damaged": lambda room: room.execute("UPDATE change_parts SET body = x'00'"),
    "its record is damaged": lambda room: room.execute("UPDATE dreams SET body = x'ff'"),
    "the configuration it began with is damaged": lambda room: room.execute("UPDATE dreams SET config = x'ff'"),
    "what it made is dropped already": lambda room: room.execute("UPDATE changes SET state = 'dropped'"),
    "its snapshot is gone": lambda room: snapshot_files.remove(room.store.dream_snapshot_path(room.interrupted.id)),
    "its snapshot is damaged": flip,
}


def test_one_that_fits_is_gone_on_from(interrupted: Any) -> None:
    begun = trigger(interrupted)
    assert begun.response.resumed
    assert (begun.plan.dream.id, begun.plan.checkpoint) == (interrupted.interrupted.id, Checkpoint(**FITS))
    assert len(begun.plan.staged) == 1


@pytest.mark.parametrize("why", DAMAGES)
def test_one_that_does_not_fit_is_discarded_with_the_reason(
    interrupted: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    DAMAGES[why](interrupted)
    with caplog.at_level(logging.INFO):
        begun = trigger(interrupted)
    assert not begun.response.resumed
    assert begun.response.dream.id != interrupted.interrupted.id
    assert (begun.plan.checkpoint, begun.plan.staged) == (None, [])
    given_up = interrupted.journal.dream("default", interrupted.interrupted.id).dream
    assert given_up.state == Dream.STATE_DISCARDED
    assert given_up.message == f"given up, nothing of it was applied: {why}"
    assert f"dream {given_up.id} was {given_up.message}" in caplog.text
    # The next start removes what a damaged state has left.
    assert left(interrupted) == [] or "dropped" in why
    assert interrupted.edges() == {("a", "b", "related"): pytest.approx(0.5)}


@pytest.mark.parametrize("why", [why for why in DAMAGES if "snapshot" not in why])
def test_a_start_drops_what_cannot_go_on(interrupted: Any, why: str) -> None:
    DAMAGES[why](interrupted)
    asyncio.run(records(interrupted).recover())
    assert interrupted.journal.dream("default", interrupted.interrupted.id).dream.state == Dream.STATE_DISCARDED
    assert left(interrupted) == []


def test_one_of_another_version_is_no_damage(interrupted: Any) -> None:
    DAMAGES[ANOTHER](interrupted)
    findings = examine(str(interrupted.path))
    assert all(one.ok for one in findings)
    assert f"cannot go on: {ANOTHER}; the next trigger begins anew" in "".join(one.detail for one in findings)


@pytest.mark.parametrize("why", [why for why in DAMAGES if why.startswith("its checkpoint") and why != ANOTHER])
def test_the_doctor_names_it_too(interrupted: Any, why: str) -> None:
    DAMAGES[why](interrupted)
    (found,) = [one for one in examine(str(interrupted.path)) if not one.ok]
    assert why in found.detail
    assert "dreamsvc abort --discard" in found.mend


def left(room: Any) -> list[Any]:
    return room.rows("SELECT change FROM checkpoints WHERE change = ?", room.change)


def test_none_is_left_after_the_seal(interrupted: Any) -> None:
    interrupted.journal.compact(interrupted.change)
    interrupted.interrupted.state = Dream.STATE_FOLDING
    interrupted.journal.seal_dream(interrupted.change, interrupted.interrupted).result(10)
    assert left(interrupted) == []
    interrupted.fold(interrupted.change)
    interrupted.in_order()


@pytest.mark.parametrize("how", ["approved", "rejected"])
def test_none_is_left_of_a_proposal(interrupted: Any, how: str) -> None:
    interrupted.journal.compact(interrupted.change)
    interrupted.interrupted.state = Dream.STATE_PROPOSED
    interrupted.journal.propose_dream(interrupted.change, interrupted.interrupted).result(10)
    assert left(interrupted) == []
    interrupted.in_order()
    if how == "approved":
        interrupted.journal.approve_dream(
            ApproveDreamRequest(space="default", dream_id=interrupted.interrupted.id)
        ).result(10)
    else:
        interrupted.journal.reject_dream(
            RejectDreamRequest(space="default", dream_id=interrupted.interrupted.id)
        ).result(10)
    assert left(interrupted) == []


def test_none_is_left_of_a_dream_that_is_discarded_or_superseded(interrupted: Any) -> None:
    asyncio.run(records(interrupted).begin(TriggerRequest(space="default", fresh=True), dream_pb2.TRIGGERED_BY_REQUEST))
    assert left(interrupted) == []


def test_those_of_dreams_that_ended_go_at_the_start(interrupted: Any) -> None:
    interrupted.execute("UPDATE changes SET state = 'folded'")
    interrupted.execute("UPDATE dreams SET state = ?", Dream.STATE_SUCCEEDED)
    asyncio.run(records(interrupted).recover())
    assert left(interrupted) == []


def test_one_of_a_million_memories_is_below_a_megabyte_whatever_they_do() -> None:
    # No activation takes more room than numbers without any pattern.
    levels = np.random.default_rng(0).integers(0, 256, 1_000_000).astype(np.uint8) & KEPT_BITS
    made = Checkpoint(**FITS, activation=checkpoints.pack(levels))
    assert made.ByteSize() < 0.9 * checkpoints.MOST_BYTES
    np.testing.assert_array_equal(checkpoints.unpack(made.activation, len(levels)), levels)
