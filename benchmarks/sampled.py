"""The most of something that is looked at again and again while something else goes on."""

import threading
from collections.abc import Callable
from typing import Self

SAMPLE_S = 0.2


class Sampled:
    """While this is open a thread of its own looks; also at the beginning."""

    def __init__(self, read: Callable[[], float]) -> None:
        self._read = read
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.most = read()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self.most = max(self.most, self._read())
