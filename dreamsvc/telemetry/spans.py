"""Spans: a piece of work, when it began and ended, and what it is a part of. What is off costs nothing here."""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from enum import Enum
from typing import NamedTuple, Protocol

from dreamsvc import calling

type Value = str | int | float | bool


class SpanId(NamedTuple):
    """32 and 16 hex digits."""

    trace_id: str
    span_id: str

    def traceparent(self) -> str:
        """As W3C Trace Context passes it on; only what is traced is passed on."""
        return f"00-{self.trace_id}-{self.span_id}-01"


class Kind(Enum):
    # Answers a caller.
    SERVER = "SERVER"
    INTERNAL = "INTERNAL"


class Span(NamedTuple):
    """A piece of work that is over; times are wall-clock microseconds."""

    name: str
    id: SpanId
    # Of the same trace, '' where it is the first.
    parent: str
    kind: Kind
    began_us: int
    ended_us: int
    attributes: Mapping[str, Value]
    # Of other traces.
    links: Sequence[SpanId] = ()
    # What went wrong, '' where nothing did; never with text of a memory.
    error: str = ""


class Recorder(Protocol):
    """Takes spans, and waits for nothing."""

    def record(self, span: Span) -> None: ...


_of_call: ContextVar[str] = ContextVar("dreamsvc_span", default="")


def begin_call(span_id: str) -> None:
    """Says which span stands for the call that this task answers."""
    _of_call.set(span_id)


def of_call() -> SpanId | None:
    """The span of the call that this task answers, or that let it begin; None outside of calls."""
    trace_id, span_id = calling.current().trace_id, _of_call.get()
    return SpanId(trace_id, span_id) if trace_id and span_id else None
