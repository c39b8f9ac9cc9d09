"""Files that are read again when they change: certificates, tokens, keys."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from dreamsvc.errors import DreamsvcError

logger = logging.getLogger(__name__)
type _State = tuple[tuple[int, int, int] | None, ...]


class Watched[T]:
    """What some files say together. From any thread; two that look at once read it twice, and that is all."""

    def __init__(self, paths: Sequence[Path], read: Callable[[], T]) -> None:
        """Reads them; raises what `read` raises."""
        self._paths = paths
        self._read = read
        # Looked at before it is read: what is written in between is read once more.
        self._state = self._look()
        self.value = read()

    def again(self) -> bool:
        """Reads them if they changed, and says so; where they cannot be read, what they said before holds."""
        state = self._look()
        if state == self._state:
            return False
        self._state = state
        try:
            self.value = self._read()
        except DreamsvcError as error:
            logger.error("what was read before holds on: %s", error.message)
            return False
        logger.info("%s: read again", ", ".join(str(path) for path in self._paths))
        return True

    def _look(self) -> _State:
        return tuple(_stat(path) for path in self._paths)


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
