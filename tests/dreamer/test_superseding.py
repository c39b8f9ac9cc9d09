import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc.dreamer.readings import Readings
from dreamsvc.dreamer.superseding import Superseded, find_superseded
from dreamsvc.evidence import change, signature
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_CONTAINER, MEMORY_ROLE_FACET
from tests.dreamer.remembered import remembered, result

DAY_US = 86_400_000_000
OSLO, BERGEN, PARIS = (f"The user lives in {place}" for place in ("Oslo", "Bergen", "Paris"))


def found(memories, gone=()):
    eliminated = np.zeros(len(memories.node_ids), np.bool_)
    eliminated[list(gone)] = True
    return result(find_superseded(memories, Readings(memories), eliminated))


def pairs(memories, gone=()) -> list[tuple[int, int]]:
    """Newer and older."""
    return [(pair.newer, pair.older) for pair in found(memories, gone).pairs]


def test_a_newer_value_supersedes_the_older_one():
    out = found(remembered(["Ann likes tea", OSLO, "Bob lives in Rome", "The user has moved to Bergen"]))
    assert out.pairs == [Superseded(3, 1, "user lives in", "oslo", "bergen")]
    assert out.pinned == []


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("Status: open", "Status: closed"),
        ("The user smokes", "The user no longer smokes"),
        ("The user no longer smokes", "The user smokes"),
        ("The user smokes", "The user quit smoking"),
        ("The user's favorite drink is tea", "Oh, the user's favourite drink is now coffee"),
        ("The meeting is on Tuesday", "The meeting moved to Thursday"),
        ("我最喜欢的颜色是紫色", "我最喜欢的颜色是蓝色"),
    ],
)
def test_each_sort_of_change_is_found(older, newer):
    assert pairs(remembered([older, "Ann likes tea", newer])) == [(2, 0)]


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("Ann lives in Oslo", "Bob lives in Bergen"),
        ("My dog's name is Max", "My cat's name is Rex"),
        ("Ann smokes", "Bob no longer smokes"),
        ("The user lives in Oslo", "Does the user live in Bergen?"),
        ("The user likes tea", "The user likes coffee"),
        ("The user lives in Oslo", "THE USER LIVES IN OSLO!"),
    ],
)
def test_what_may_hold_beside_it_supersedes_nothing(older, newer):
    assert pairs(remembered([older, newer])) == []


def test_titles_tell_speakers_apart():
    memories = remembered(["I live in Oslo", "I live in Bergen", "I live in Rome"])
    assert pairs(memories._replace(titles=remembered([""] * 3, columns={"titles": ["Ann", "Bob", "Ann"]}).titles)) == [
        (2, 0)
    ]


def test_each_value_is_superseded_by_the_next_one_that_differs():
    memories = remembered([OSLO, "The user is living in Oslo", BERGEN, BERGEN + "!", OSLO, PARIS])
    assert pairs(memories) == [(2, 0), (2, 1), (4, 2), (4, 3), (5, 4)]


def test_the_event_time_decides_before_the_time_of_creation():
    memories = remembered([OSLO, BERGEN], columns={"event_us": [9 * DAY_US, 2 * DAY_US]})
    assert pairs(memories) == [(0, 1)]


@pytest.mark.parametrize(
    ("created", "events", "expected"),
    [
        ([5, 5], [-1, -1], []),
        ([1, 2], [DAY_US, DAY_US], []),
        ([100, 200], [50, -1], [(1, 0)]),  # told later, and of a time before
        ([200, 100], [50, -1], []),  # told earlier, of a time nobody gave
        ([100, 200], [-1, 150], [(1, 0)]),
        ([100, 200], [-1, 50], []),  # told later, of an earlier time
    ],
)
def test_where_time_does_not_tell_nothing_is_superseded(created, events, expected):
    assert pairs(remembered([OSLO, BERGEN], columns={"created_us": created, "event_us": events})) == expected


def test_a_pair_that_is_joined_already_is_left_out():
    edges = [(1, 0, "SUPERSEDES"), (2, 1, "related")]
    assert pairs(remembered([OSLO, BERGEN, PARIS], edges=edges)) == [(2, 1)]
    assert pairs(remembered([OSLO, BERGEN, PARIS], edges=edges, dead_edges=[0])) == [(1, 0), (2, 1)]


def test_the_pinned_stay_and_are_noted():
    out = found(remembered([OSLO, BERGEN, PARIS], columns={"untouchable": [1, 0, 1]}))
    assert [(pair.newer, pair.older) for pair in out.pairs] == [(2, 1)]
    assert out.pinned == [0]


def test_only_what_recall_may_answer_with_takes_part():
    columns = {"roles": [MEMORY_ROLE_FACET, MEMORY_ROLE_CONTAINER, 0, 0], "alive": [1, 1, 0, 1]}
    assert pairs(remembered([OSLO, BERGEN, PARIS, BERGEN], columns=columns)) == [(3, 0)]


def test_copies_that_are_gone_supersede_nothing():
    assert pairs(remembered([OSLO, BERGEN, PARIS]), gone=[1]) == [(2, 0)]


def test_a_long_text_tells_more_than_one_thing():
    assert pairs(remembered([OSLO, BERGEN + "." + " " * 600])) == []


SAID = [
    *(
        OSLO,
        BERGEN,
        "The user has moved to Bergen",
        "Ann works at Acme",
        "Ann works for Globex now",
        "I am 34 years old",
    ),
    *("I'm 35 years old now", "Status: open", "Status: closed", "The user smokes", "The user no longer smokes"),
    *("The user stopped smoking", "Ann is the CEO of Acme", "Bob is now the CEO of Acme", "The server is up"),
    *("The server is down", "Ann is single", "Ann is married", "The meeting is on Tuesday", "The meeting is at 3 pm"),
    *("The meeting moved to Thursday", "用户住在北京", "用户现在住在上海", "The user likes tea", "Bob hates Ann"),
]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(SAID), st.integers(0, 4)), max_size=10))
def test_the_index_misses_nothing_that_comparing_all_pairs_finds(told):
    texts = [text for text, _ in told]
    times = [created for _, created in told]
    read = [signature(text) for text in texts]
    expected: list[tuple[int, int]] = []
    for older in range(len(texts)):
        newer = [
            (times[row], row)
            for row in range(len(texts))
            if times[row] > times[older] and change(read[older], read[row]) is not None
        ]
        expected += [(min(newer)[1], older)] if newer else []
    assert pairs(remembered(texts, columns={"created_us": times})) == expected


def test_a_value_told_a_thousand_times_is_compared_with_the_next_one_only(monkeypatch):
    compared: list[int] = []
    monkeypatch.setattr(
        "dreamsvc.dreamer.superseding.change", lambda left, right: compared.append(1) or change(left, right)
    )
    memories = remembered([OSLO] * 500 + [BERGEN] * 500)
    assert pairs(memories) == [(500, row) for row in range(500)]
    assert len(compared) == 500
