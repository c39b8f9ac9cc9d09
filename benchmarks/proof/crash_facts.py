"""What clients of a server know: what was acknowledged to them, and what a call without an answer may have done."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from google.protobuf.message import Message

from benchmarks.proof.crash_servers import Calls

MEMORY, LINK, PAIR = "memory", "link", "pair"
# Keys of memories that clients store; a client's number follows.
PREFIX = "client-"


class Kept(NamedTuple):
    """What a memory must be."""

    text: str
    importance: float
    alive: bool
    # Earlier ones that are kept; a change that was applied twice would show here.
    versions: int
    # float16 bytes as stored, empty for none.
    vector: bytes


class Linked(NamedTuple):
    weight: float
    # Hidden while an end of it is.
    alive: bool


# (MEMORY, space, key), (LINK, space, source, target), (PAIR, space, key, key): the latter in alphabetical order.
type Fact = tuple[str, ...]
# Kept, Linked, or how often a pair was confirmed; None where it must not be there.
type Facts = Mapping[Fact, Any]


@dataclass(frozen=True)
class Call:
    """A write, whole or not at all."""

    what: str
    send: Callable[[Calls], Message]
    # Of the facts that it touches, as they are once it happened.
    after: Facts


@dataclass
class Found:
    """What did not hold after a kill, as sentences, and how much of what."""

    wrong: list[str]
    lost: int = 0
    torn: int = 0
    mismatched: int = 0


class Ledger:
    """What one client wrote. It sends one call after the other, so at most one has no answer."""

    def __init__(self) -> None:
        self.acked: dict[Fact, Any] = {}
        self.in_flight: Call | None = None
        # It had no answer and did not happen; a client that gets no answer asks again.
        self.unanswered: Call | None = None
        # The last ones, and what was answered.
        self.answered: list[tuple[Call, bytes]] = []
        self.writes = 0

    def begin(self, call: Call) -> None:
        assert self.in_flight is None
        self.in_flight = call

    def acknowledge(self, answer: bytes) -> None:
        """From here on it must not be lost."""
        call = self.in_flight
        assert call is not None
        self.answered = [*self.answered[-3:], (call, answer)]
        self.writes += 1
        self.happened()

    def happened(self) -> None:
        call, self.in_flight = self.in_flight, None
        assert call is not None
        for fact, value in call.after.items():
            if value is None:
                self.acked.pop(fact, None)
            else:
                self.acked[fact] = value

    def settle(self, observed: Facts, found: Found) -> None:
        """Decides by what is there whether the call without an answer happened."""
        call = self.in_flight
        if call is None:
            return
        now = {fact: observed.get(fact) for fact in call.after}
        if now == call.after:
            self.happened()
            return
        self.in_flight, self.unanswered = None, call
        if any(now[fact] != self.acked.get(fact) for fact in now):
            found.torn += 1
            found.wrong.append(f"{call.what} happened in part: {_differences(call.after, now)}")


def compare(ledgers: Sequence[Ledger], observed: Facts, unsettled: frozenset[Fact], found: Found) -> None:
    """What was acknowledged is there exactly, and nothing else; what a call in flight touches is left out."""
    expected: dict[Fact, Any] = {}
    for ledger in ledgers:
        expected |= ledger.acked
    lost = {fact: value for fact, value in expected.items() if observed.get(fact) != value and fact not in unsettled}
    if lost:
        found.lost += len(lost)
        found.wrong.append(f"{len(lost)} acknowledged: {_differences(lost, observed)}")
    extra = dict.fromkeys(observed.keys() - expected.keys() - unsettled)
    if extra:
        found.wrong.append(f"{len(extra)} that nobody was told of: {_differences(extra, observed)}")


def _differences(wanted: Facts, observed: Facts) -> str:
    told = [
        f"{' '.join(fact)} must be {value} and is {observed.get(fact)}"
        for fact, value in wanted.items()
        if observed.get(fact) != value
    ]
    more = f" (and {len(told) - 3} more)" if len(told) > 3 else ""
    return "; ".join(told[:3]) + more
