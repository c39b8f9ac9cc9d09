"""What the process that dreams and the store must agree on of a checkpoint (REQ-DREAM-028)."""

import zlib
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from dreamsvc.dreamer.v1.dreamer_service_pb2 import Checkpoint

# Of the message and of what its bytes mean; a checkpoint of another one is not gone on from.
FORMAT = 2
# For each million memories that the dream reads, of which there may be less.
MOST_BYTES = 1_000_000


def pack(levels: NDArray[np.uint8]) -> bytes:
    """Activation by memory, [n], as it lies in a checkpoint: quickly, since a wake waits for it."""
    return zlib.compress(levels.tobytes(), 1)


def unpack(packed: bytes, nodes: int) -> NDArray[np.uint8]:
    """The activation of `nodes` memories; what is packed beyond them is not looked at, however much it says it is."""
    return np.frombuffer(zlib.decompressobj().decompress(packed, max(1, nodes)), np.uint8)


def flaw(checkpoint: Checkpoint, *, seed: int, parts: Collection[int], nodes: int) -> str:
    """Why a dream cannot go on from a checkpoint, '' where it can.

    seed: the dream's. parts: numbers of those that are staged. nodes: memories that the dream reads.
    """
    if checkpoint.format != FORMAT:
        return f"its checkpoint is of format {checkpoint.format}, this version reads {FORMAT}"
    if checkpoint.seed != seed:
        return f"its checkpoint is of a dream with seed {checkpoint.seed}, it has {seed}"
    if checkpoint.ByteSize() > MOST_BYTES * max(1, -(-nodes // 1_000_000)):
        return f"its checkpoint has {checkpoint.ByteSize():,} bytes"
    missing = [part for part in range(checkpoint.next_part) if part not in parts]
    if missing:
        return f"its checkpoint follows {checkpoint.next_part} parts, and part {missing[0]} is not there"
    return ""
