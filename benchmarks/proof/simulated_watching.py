"""Whoever watches a simulated space: what was published, what a watcher got, and what it was not told of."""

from collections.abc import Callable
from dataclasses import dataclass, field

from dreamsvc.clock import Clock
from dreamsvc.dream.watch import Events
from dreamsvc.v1.dream_service_pb2 import StreamStatusResponse


class Heard(Events):
    """Events that the world hears of in the moment they are published."""

    def __init__(self, clock: Clock, first: int | None, hear: Callable[[StreamStatusResponse], None]) -> None:
        super().__init__(clock, first)
        self._hear = hear

    def _publish(self, event: StreamStatusResponse) -> None:
        super()._publish(event)
        self._hear(event)


@dataclass
class Watched:
    """What a watcher got, and what there was to get."""

    space: str
    after: int
    published: list[int]
    got: list[int] = field(default_factory=list[int])
    gaps: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def saw(self, event: StreamStatusResponse) -> None:
        match event.WhichOneof("event"):
            case "present":
                self.after = event.sequence
            case "gap":
                self.gaps.append((event.gap.from_sequence, event.gap.to_sequence))
            case "heartbeat":
                pass
            case "closing" if event.closing.reason != event.closing.REASON_DREAM_ENDED:
                pass
            case _:
                self.got.append(event.sequence)

    def missed(self) -> list[int]:
        """Events that it was neither given nor told of."""
        last, got = self.got[-1] if self.got else self.after, set(self.got)
        due = [number for number in self.published if self.after < number <= last and number not in got]
        return [number for number in due if not any(first <= number <= to for first, to in self.gaps)]
