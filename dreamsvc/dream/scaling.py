"""How a dream grows with the memory (REQ-DREAM-027): sub-linearly, so that ten times the memories take twice the time.

What is replayed is a sample: at most dream.nrem.max_replay_count memories a round, drawn by recency and importance,
whatever the size. What is merged is taken tile by tile of 20,000 memories, the oldest first, each as if it were all
there is; of more than 200,000 memories a night compresses ten tiles, drawn by its seed. What the time does not suffice
for is for another night. Walks and probes are as many as configured. What grows with the memory is what has to be read
once: the snapshot, and in REM the index, the words of its probes, positions; that is what the time grows for. Vectors
stay in the snapshot's file and are read where they are needed; a dreamer that takes more memory than it may
(dream.resources.max_memory_mb) is ended, and leaves out the step that it was in.
"""

import itertools
import math
from collections.abc import Sequence

from dreamsvc.v1.config_pb2 import DreamConfig

# Memories, and by what the phases' durations are multiplied there: 3 and 2, 5 and 3, 10 and 5 minutes. Between two of
# them it grows evenly with each factor of the size, and beyond the last one as between the last two.
NREM: Sequence[tuple[float, float]] = ((1e5, 1.0), (1e6, 5 / 3), (1e7, 10 / 3))
REM: Sequence[tuple[float, float]] = ((1e5, 1.0), (1e6, 3 / 2), (1e7, 5 / 2))


def scaled(config: DreamConfig, memories: int) -> DreamConfig:
    """The configuration with durations for so many memories; the same one where they are as configured."""
    if not config.scale_durations or memories <= NREM[0][0]:
        return config
    made = DreamConfig()
    made.CopyFrom(config)
    made.nrem.duration_minutes *= factor(memories, NREM)
    made.rem.duration_minutes *= factor(memories, REM)
    return made


def factor(memories: int, known: Sequence[tuple[float, float]]) -> float:
    if memories <= known[0][0]:
        return known[0][1]
    # The pair that it lies between, or the last.
    (size, low), (next_size, high) = next(
        (pair for pair in itertools.pairwise(known) if memories <= pair[1][0]), (known[-2], known[-1])
    )
    return low + (high - low) * math.log(memories / size) / math.log(next_size / size)
