"""The proof by kills: that it notices what it must notice, and how it decides what was lost."""

from pathlib import Path
from random import Random

import pytest
from google.protobuf.empty_pb2 import Empty

from benchmarks.proof import crash_nights, crash_template
from benchmarks.proof.crash_facts import LINK, MEMORY, Call, Fact, Facts, Found, Kept, Ledger, Linked, compare
from benchmarks.proof.crash_nights import KILL, PARTS, SERVER, STOP, WAKE
from benchmarks.proof.crash_rounds import Rounds
from benchmarks.proof.crash_template import FULL, NREM, Template

# Until one is noticed; the careless servers are caught after a few.
MOST_KILLS = 150
ONE, OTHER, ROAD = (MEMORY, "s", "one"), (MEMORY, "s", "other"), (LINK, "s", "one", "other")
OLD, NEW = Kept("old", 0.5, True, 0, b""), Kept("new", 0.5, True, 1, b"")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return crash_template.plain(tmp_path_factory.mktemp("kills") / "template")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("sabotage", "said"),
    [
        # What is written behind the answer may also come while answers are compared with the rows.
        ("acknowledge_early", ("acknowledged: ", "the rows give")),
        # A caller that heard nothing asks again; what was done twice is seen in the answer, in what there is then, or
        # in the next call, for which what it names is gone.
        (
            "forget_requests",
            ("was answered otherwise the second time", "was refused when it came again", "acknowledged: "),
        ),
        # What was done in two is seen as half a call, or as a call that was done once more.
        ("remember_in_two", ("happened in part", "acknowledged: ")),
    ],
)
def test_a_careless_server_is_caught(sabotage: str, said: tuple[str, ...], template: Template, tmp_path: Path) -> None:
    rounds = Rounds(template, tmp_path / "life", "1", sabotage=f"tests.benchmarks.sabotage:{sabotage}")
    wrong = " ".join(rounds.run(MOST_KILLS).wrong)
    assert any(sentence in wrong for sentence in said), wrong


def call(after: Facts) -> Call:
    return Call("a call", lambda _: Empty(), after)


def settled(ledger: Ledger, observed: Facts) -> Found:
    """What is found after a kill with these rows."""
    found = Found([])
    ledger.settle(observed, found)
    compare([ledger], observed, frozenset(), found)
    return found


def in_flight(acked: Facts, after: Facts) -> Ledger:
    ledger = Ledger()
    ledger.acked = dict(acked)
    ledger.begin(call(after))
    return ledger


def test_a_call_in_flight_may_have_happened_or_not() -> None:
    happened = in_flight({ONE: OLD}, {ONE: NEW, OTHER: OLD})
    assert not settled(happened, {ONE: NEW, OTHER: OLD}).wrong
    assert happened.acked == {ONE: NEW, OTHER: OLD}
    assert happened.unanswered is None
    never = in_flight({ONE: OLD}, {ONE: NEW, OTHER: OLD})
    assert not settled(never, {ONE: OLD}).wrong
    assert never.acked == {ONE: OLD}
    assert never.unanswered is not None


@pytest.mark.parametrize("observed", [{ONE: NEW}, {ONE: OLD, OTHER: OLD}, {OTHER: OLD}])
def test_a_call_that_happened_in_part_is_torn(observed: dict[Fact, Kept]) -> None:
    assert settled(in_flight({ONE: OLD}, {ONE: NEW, OTHER: OLD}), observed).torn == 1


def test_what_was_acknowledged_is_there_exactly() -> None:
    ledger = Ledger()
    ledger.begin(call({ONE: NEW, ROAD: Linked(0.5, True)}))
    ledger.acknowledge(b"")
    assert not settled(ledger, {ONE: NEW, ROAD: Linked(0.5, True)}).wrong
    for observed in ({}, {ONE: NEW}, {ONE: OLD, ROAD: Linked(0.5, True)}, {ONE: NEW, ROAD: Linked(0.5, False)}):
        assert settled(ledger, observed).lost, observed
    twice = {ONE: NEW._replace(versions=2), ROAD: Linked(0.5, True)}
    assert settled(ledger, twice).lost == 1
    assert settled(ledger, {ONE: NEW, ROAD: Linked(0.5, True), OTHER: OLD}).wrong


def test_in_some_nights_every_part_is_attacked_in_every_way() -> None:
    nights = crash_nights.attacks(60, 4, FULL, Random(1))
    assert {(one.part, one.what) for night in nights for one in night} == {
        (part, what) for part in range(len(PARTS)) for what in (KILL, STOP, SERVER, WAKE)
    }
    assert all(night == sorted(night) for night in nights)
    # The parts of REM do not come in a night without it.
    assert {PARTS[one.part][0] for night in crash_nights.attacks(9, 4, NREM, Random(1)) for one in night} <= {0, NREM}
