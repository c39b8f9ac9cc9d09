"""Pairs that are near by their vectors and yet stay two memories, counted by what the evidence says against them."""

from typing import NamedTuple

from dreamsvc.dreamer.memories import Memories
from dreamsvc.v1.dream_pb2 import Refusal, RefusedPair

# Pairs kept of each kind.
EXAMPLES = 5


class _Example(NamedTuple):
    left_row: int
    right_row: int
    left: str
    right: str
    cosine: float


class Refusals:
    """How many pairs of each kind were refused, and the first few of them."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[_Example]] = {}

    @property
    def counts(self) -> dict[str, int]:
        """Pairs refused, by kind."""
        return dict(self._counts)

    def add(self, kind: str, left_row: int, right_row: int, left: str, right: str, cosine: float) -> None:
        """left, right: what differs, a piece of each text; either may be empty."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        examples = self._examples.setdefault(kind, [])
        if len(examples) < EXAMPLES:
            examples.append(_Example(left_row, right_row, left, right, cosine))

    def to_messages(self, memories: Memories) -> list[Refusal]:
        """The most frequent kind first, then by name."""
        return [
            Refusal(
                kind=kind,
                count=count,
                examples=[
                    RefusedPair(
                        left_id=memories.id_of(example.left_row),
                        right_id=memories.id_of(example.right_row),
                        left=example.left,
                        right=example.right,
                        cosine=example.cosine,
                    )
                    for example in self._examples[kind]
                ],
            )
            for kind, count in sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        ]
