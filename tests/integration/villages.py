"""A memory of places that name each other, for tests of REM."""

import random

from dreamsvc.v1.memory_pb2 import Memory
from dreamsvc.v1.memory_service_pb2 import RememberRequest
from tests.integration.served import Calls

HEADS = ("Ba", "De", "Fi", "Go", "Lu", "Mi", "No", "Pu", "Ra", "Se", "Ti", "Vo")
TAILS = ("lran", "mosk", "nderg", "rwick", "stova")
NAMES = [head + tail for tail in TAILS for head in HEADS]
DEEDS = ("painted doors", "kept bees", "sold clocks", "baked bread", "mended nets", "taught chess")


def villages(seed: int = 3, dim: int = 16) -> RememberRequest:
    """Sixty places, each of which names the next in its text; vectors that say nothing of that."""
    draw = random.Random(seed)
    made: list[Memory] = []
    for i, name in enumerate(NAMES):
        following = NAMES[(i + 1) % len(NAMES)]
        text = f"A village where people {DEEDS[i % len(DEEDS)]} for {20 + i} years. Its road leads to {following}."
        vector = [draw.gauss(0, 1) for _ in range(dim)]
        made.append(Memory(key=name, title=name, text=text, vector=vector, importance=0.3 + 0.7 * draw.random()))
    return RememberRequest(memories=made)


def contents(calls: Calls, space: str) -> list[dict[str, object]]:
    """All that is exported, but for who asked for it when."""
    lines, _ = calls.export(space)
    return [{key: value for key, value in line.items() if key not in ("access_time", "access_count")} for line in lines]
