"""Spans on their way out: taken at once, sent by a thread that loads OpenTelemetry behind the start."""

import logging
import threading
from collections import deque
from importlib.util import find_spec
from typing import Protocol

from dreamsvc.telemetry.spans import Span

logger = logging.getLogger(__name__)
KEPT = 4096
# A start does not wait for it, and neither do the first calls.
LOAD_AFTER_S = 0.5
LAST_WORDS_S = 3.0


class Sender(Protocol):
    def send(self, span: Span) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


def installed() -> bool:
    return find_spec("opentelemetry") is not None and find_spec("opentelemetry.exporter") is not None


class Tracing:
    """Owns the thread; beyond KEPT spans that wait, the oldest are dropped and counted."""

    def __init__(self, endpoint: str, service: str, version: str, instance: str) -> None:
        self._where = (endpoint, service, version, instance)
        self._waiting: deque[Span] = deque(maxlen=KEPT)
        self._wanted = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="traces", daemon=True)
        self.dropped = 0

    def start(self) -> None:
        self._thread.start()

    def record(self, span: Span) -> None:
        if len(self._waiting) == KEPT:
            self.dropped += 1
        self._waiting.append(span)
        self._wanted.set()

    def close(self) -> None:
        """Sends what is left, for at most a few seconds."""
        self._closing.set()
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join(LAST_WORDS_S)

    def _work(self) -> None:
        self._closing.wait(LOAD_AFTER_S)
        try:
            sender = self._load()
        except Exception:
            # Whatever it is: a service without traces is better than none.
            logger.exception("no traces are sent to %s", self._where[0])
            return
        while True:
            self._wanted.wait()
            self._wanted.clear()
            while self._waiting:
                sender.send(self._waiting.popleft())
            if self._closing.is_set():
                sender.close()
                return

    def _load(self) -> Sender:
        from dreamsvc.telemetry.otlp import OtlpSender

        return OtlpSender(*self._where)
