"""What all steps of a dream count together: its parts, its time, and the share of the device it took."""

from dreamsvc import clock
from dreamsvc.dreamer.throttle import Throttle
from dreamsvc.dreamer.v1.dreamer_service_pb2 import Checkpoint, RunDreamResponse, Tally
from dreamsvc.dreamer.v1.operations_pb2 import Operations


class Journal:
    """One for a dream; goes on where a checkpoint left off."""

    def __init__(self, checkpoint: Checkpoint, throttle: Throttle) -> None:
        self.next_part = checkpoint.next_part
        # Of the dream's progress, what the replay makes up.
        self.replay_share = 1.0
        self._throttle = throttle
        self._before_s = checkpoint.tally.seconds
        self._before_busy_s = checkpoint.tally.busy_seconds
        self._began = clock.precise_s()

    def begin(self) -> None:
        """Time counts from here on."""
        self._began = clock.precise_s()

    def part(self, part: Operations) -> RunDreamResponse:
        part.part = self.next_part
        self.next_part += 1
        return RunDreamResponse(operations=part)

    def tally(self, counts: Tally) -> Tally:
        """Some counts with the time up to now."""
        now = Tally()
        now.CopyFrom(counts)
        now.seconds = self.elapsed_s()
        now.busy_seconds = self._before_busy_s + self._throttle.busy_s
        return now

    @property
    def before_s(self) -> float:
        """Seconds dreamed before this part of the dream."""
        return self._before_s

    def elapsed_s(self) -> float:
        """Seconds dreamed, earlier parts of the same dream included, and pauses not."""
        return self._before_s + clock.precise_s() - self._began - self._throttle.paused_s
