"""How far a dream is that is made of searches: in which sub-phase, and where in the whole."""

from collections.abc import Generator
from typing import NamedTuple

from dreamsvc.dreamer.merging import Search, Step
from dreamsvc.v1.dream_pb2 import SubPhase


class Where(NamedTuple):
    """How far it is."""

    sub_phase: SubPhase.ValueType
    begun: float  # share of the phase that was done before this part, 0..1
    step: Step


type Part[T] = Generator[Where, None, T]


def at[T](sub_phase: SubPhase.ValueType, begun: float, search: Search[T]) -> Part[T]:
    """Runs a search and says where in the phase it is."""
    while True:
        try:
            step = next(search)
        except StopIteration as end:
            return end.value
        yield Where(sub_phase, begun, step)
