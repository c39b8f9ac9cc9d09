"""How the log is written: lines for people, or one JSON object a line; of both processes, in one stream.

What a line is about (trace, caller, space, dream) is not passed along with each message: it is what the task that logs
works on. No message holds text of a memory, a query, a prompt or a token (API-10).
"""

import json
import logging
import sys
import traceback
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, cast, override

from dreamsvc import calling
from dreamsvc.clock import iso
from dreamsvc.errors import told

TEXT_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_ORIGIN = "dreamsvc_origin"
_MOST_CAUSES = 10


class Subject(NamedTuple):
    """What this task works on; '' where it is nothing in particular."""

    space: str = ""
    dream_id: str = ""


_NOTHING = Subject()
_subject: ContextVar[Subject] = ContextVar("dreamsvc_subject", default=_NOTHING)


def begin(subject: Subject) -> None:
    """Lines that this task or thread logs from now on are about it."""
    _subject.set(subject)


@contextmanager
def about(subject: Subject) -> Generator[None]:
    """Lines that are logged in here, and by what is started in here, are about it."""
    before = _subject.get()
    _subject.set(subject)
    try:
        yield
    finally:
        _subject.set(before)


def set_up(log_format: str, level: str, process: str = "serve") -> None:
    """Has everything of this process logged on standard error; log_format: "text" or "json"."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(process) if log_format == "json" else TextLines(TEXT_FORMAT))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    set_level(level)


def set_level(level: str) -> None:
    """Of our own lines; other libraries are heard when they warn."""
    logging.getLogger("dreamsvc").setLevel(level.upper())


class _Formatter(logging.Formatter):
    """Tells where an exception came from, and not what its text says of the values that it met."""

    @override
    def formatException(self, ei: Any) -> str:
        lines: list[str] = []
        error: BaseException | None = ei[1]
        while error is not None and len(lines) < _MOST_CAUSES:
            frames = "".join(traceback.format_tb(error.__traceback__))
            lines.append(f"Traceback (most recent call last):\n{frames}{told(error)}")
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\n\nwhich came of:\n\n".join(lines)


class TextLines(_Formatter):
    """Lines for people."""


class JsonLines(_Formatter):
    """One object a line: time, level, logger, message, and what it is about where that is known."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    @override
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self._fields(record), ensure_ascii=False)

    def _fields(self, record: logging.LogRecord) -> dict[str, str]:
        line = {
            "time": iso(int(record.created * 1e6)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        origin: Mapping[str, str] | None = getattr(record, _ORIGIN, None)
        line |= self._own_context(record) if origin is None else origin
        return {key: value for key, value in line.items() if value}

    def _own_context(self, record: logging.LogRecord) -> dict[str, str]:
        call, subject = calling.current(), _subject.get()
        return {
            "process": self._process,
            # A dream is a trace of its own.
            "trace_id": subject.dream_id.replace("-", "") or call.trace_id,
            "caller": call.caller,
            "space": subject.space,
            "dream_id": subject.dream_id,
            "exception": self.formatException(record.exc_info) if record.exc_info else "",
        }


def repeat(line: str) -> str:
    """Logs a line that another process logged as JSON as if it were ours, at its level; gives its message.

    Raises ValueError for a line that is none, e.g. the last words of native code.
    """
    found: Any = json.loads(line)
    if not isinstance(found, dict):
        raise ValueError("no object")
    told = {str(key): str(value) for key, value in cast("dict[Any, Any]", found).items()}
    logger = logging.getLogger(told.pop("logger", __name__))
    level = logging.getLevelNamesMapping().get(told.pop("level", "").upper(), logging.INFO)
    message = told.pop("message", "")
    if logger.isEnabledFor(level):
        record = logger.makeRecord(logger.name, level, "", 0, message, (), None, extra={_ORIGIN: told})
        # Where formatters look for a traceback that is text already.
        record.exc_text = told.get("exception")
        logger.handle(record)
    return message
