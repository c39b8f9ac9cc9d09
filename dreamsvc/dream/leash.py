"""Between the governor and the conversation with one dreamer: what is decided is told, and seen by who watches."""

from collections.abc import Callable

from dreamsvc.dream.conversation import Conversation
from dreamsvc.dreamer.v1.dreamer_service_pb2 import Allowance
from dreamsvc.v1.dream_pb2 import Dream, Share


class Leash:
    """One for each dreamer that a night has."""

    def __init__(
        self,
        dream: Dream,
        talk: Conversation,
        *,
        changed: Callable[[], None],
        give_way: Callable[[], None],
        kill: Callable[[], None],
    ) -> None:
        """changed: it pauses, or goes on. give_way: wakes the dream, since others need the device for long."""
        self._dream = dream
        self._talk = talk
        self._changed = changed
        self._give_way = give_way
        self._kill = kill
        self.why_paused = ""
        # Why it was ended, '' where it was not.
        self.why_killed = ""

    @property
    def share(self) -> Share:
        return self._dream.report.share

    @property
    def on_gpu(self) -> bool:
        return on_gpu(self._dream.report.device)

    def allow(self, allowance: Allowance, why_paused: str) -> None:
        self._talk.allow(allowance)
        if why_paused != self.why_paused:
            self.why_paused = why_paused
            self._dream.progress.paused = why_paused
            self._changed()

    def end_pause(self) -> None:
        self._give_way()

    def too_large(self, what: str) -> None:
        if not self.why_killed:
            self.why_killed = what
            self._kill()


def on_gpu(device: str) -> bool:
    """By what a dreamer says that it runs on; '' is not known yet, and no GPU."""
    return device != "" and not device.lower().startswith("cpu")
