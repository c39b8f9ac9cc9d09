"""What folding a part of a dream works with, whatever the part does."""

from typing import NamedTuple

from dreamsvc import entropy
from dreamsvc.dreamer.v1.operations_pb2 import BeforeImages
from dreamsvc.memory.delta import Delta
from dreamsvc.memory.operations import Change
from dreamsvc.memory.sqlite import Connection
from dreamsvc.memory.standing import Standing


class Fold(NamedTuple):
    """What folding a part works with."""

    connection: Connection
    change: Change
    now_us: int
    # What is hidden ages from here.
    kept_us: int
    seq: int
    before: BeforeImages
    delta: Delta

    def may_change(self, node: Standing | None) -> bool:
        """Whether a node is still as the dream found it."""
        return (
            node is not None
            and node.space == self.change.space
            and node.alive
            and not node.pinned
            and node.user_seq <= self.change.base_seq
        )


def memory_id(change: Change, number: int) -> bytes:
    """The id of a memory that a dream makes: it follows from the dream's, so that a later part can name it."""
    made = entropy.uuid_bytes(entropy.uuid_for(entropy.uuid_text(change.uid), str(number)))
    assert made is not None
    return made
