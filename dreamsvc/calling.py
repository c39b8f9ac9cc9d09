"""Whose call is being answered: its trace and its caller, for logs, spans and answers of the same task.

Doors set it where a call comes in, and nobody takes it back: each call is a task of its own, with a context of its own.
A thread that works for a call sees it where `asyncio.to_thread` started the work; `run_in_executor` hands nothing on.
"""

import re
from contextvars import ContextVar
from typing import NamedTuple

# Four fields in lower case. Version ff is forbidden; a later version may have more fields, version 00 has not.
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 0x01


class Parent(NamedTuple):
    """The span of a caller, as its `traceparent` tells it."""

    # 32 and 16 hex digits.
    trace_id: str
    span_id: str
    sampled: bool


class Call(NamedTuple):
    """One call: `trace_id` has 32 hex digits and `caller` the name of its credentials; both empty outside of calls."""

    trace_id: str = ""
    caller: str = ""
    parent: Parent | None = None
    # The only spaces that the caller may know of; None: all.
    spaces: frozenset[str] | None = None

    def sees(self, space: str) -> bool:
        """Whether an answer may name that space."""
        return self.spaces is None or space in self.spaces


_NONE = Call()
_current: ContextVar[Call] = ContextVar("dreamsvc_call", default=_NONE)


def current() -> Call:
    """The call that this task answers."""
    return _current.get()


def begin(call: Call) -> None:
    """Says which call this task answers from now on."""
    _current.set(call)


def read_traceparent(text: str) -> Parent | None:
    """The caller's span by W3C Trace Context; None for a text that is no valid one, as if it were absent."""
    found = _TRACEPARENT.fullmatch(text)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if (version == "00" and more is not None) or not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return Parent(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))
