import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc import contract
from dreamsvc.dreamer import readings as readings_module
from dreamsvc.dreamer import redundancy
from dreamsvc.dreamer.readings import Readings
from dreamsvc.dreamer.redundancy import find_copies
from dreamsvc.dreamer.refusals import EXAMPLES, Refusals
from dreamsvc.v1.config_pb2 import RedundancyConfig
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_CONTAINER, MEMORY_ROLE_FACET, MEMORY_ROLE_FOLDED
from tests.dreamer.remembered import remembered, result

DAY_US = 86_400_000_000
DIM = 32


def found(memories, *, seed=0, **settings):
    config = RedundancyConfig(**{"min_active": 2, **settings})
    contract.fill(config)
    return result(find_copies(memories, Readings(memories), config, seed=seed))


def groups(memories, **settings) -> list[tuple[int, list[int]]]:
    return [(group.survivor, group.copies) for group in found(memories, **settings).groups]


def directions(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)


def near(row: np.ndarray, seed: int, noise: float = 0.02) -> np.ndarray:
    return row + noise * np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)


# ── by text ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("She likes green tea.", "she likes GREEN tea"),
        ("She likes green tea.", "  She likes:  green\ttea!  "),
        ("She likes green tea", "Ｓｈｅ ｌｉｋｅｓ ｇｒｅｅｎ ｔｅａ"),
        ("On Monday she drinks green tea", "She drinks green tea on Monday"),
        ("We don't drink tea", "We do not drink tea"),
        ("Ann's run was 5 km", "ann’s run was five kilometres"),
        ("她喜欢绿茶。", "她喜欢绿茶"),
        ("彼女は ﾐﾄﾞﾘ の お茶が好き", "彼女はミドリのお茶が好き！"),
    ],
)
def test_copies_by_text_are_found_without_vectors(left, right):
    out = found(remembered(["something else", left, right, "and this"]))
    assert [(group.survivor, group.copies) for group in out.groups] == [(1, [2])]
    assert (out.pairs, out.pairs_by_text, out.overflow) == (0, 1, 0)
    assert out.groups[0].cosines == [0.0]


def test_what_only_looks_alike_to_the_rough_key_stays_apart():
    texts = ["Ann likes tea", "Ann never likes tea", "Ann paid 5 euros", "Ann paid 6 euros", "dog bites man"]
    assert groups(remembered([*texts, "man bites dog"])) == []


def test_texts_without_a_word_are_copies_of_nothing():
    rows = np.repeat(directions(1), 4, axis=0)
    out = found(remembered(["", "", "...", "!!!"], vectors=rows))
    assert out.groups == []
    assert out.refusals.counts == {"no text": 6}


def test_the_title_belongs_to_the_text():
    memories = remembered(["ok", "ok", "ok"], columns={"titles": ["Ann", "Bob", "Ann"]})
    assert groups(memories) == [(0, [2])]


def test_copies_to_the_letter_may_be_of_any_length(monkeypatch):
    monkeypatch.setattr(readings_module, "LONGEST_BYTES", 100)
    long = "tea and " * 20
    rows = np.repeat(directions(1), 3, axis=0)
    out = found(remembered([long, long.upper(), long], vectors=rows))
    assert [(group.survivor, group.copies) for group in out.groups] == [(0, [2])]
    assert out.refusals.counts == {"length": 1}


def test_a_line_said_a_thousand_times_becomes_one_and_is_compared_once():
    rows = np.repeat(directions(1), 1000, axis=0)
    out = found(remembered(["Good morning!"] * 1000, vectors=rows))
    assert [(group.survivor, len(group.copies)) for group in out.groups] == [(0, 999)]
    assert (out.pairs, out.pairs_by_text) == (999, 0)
    assert min(out.groups[0].cosines) == pytest.approx(1.0)


def test_repeated_statements_are_copies_whenever_they_were_made():
    memories = remembered(["Good morning!"] * 2, columns={"event_us": [0, 5 * DAY_US]})
    assert groups(memories) == [(0, [1])]


# ── by vectors ──────────────────────────────────────────────────────────────────


def spoken(*texts: str, cosines_of: float = 0.02, **more):
    """Memories that all lie near each other, among others that do not."""
    rows = directions(len(texts) + 20)
    for place in range(1, len(texts)):
        rows[place] = near(rows[0], place, cosines_of)
    return remembered([*texts, *(f"thing number {i} of many" for i in range(20))], vectors=rows, **more)


def test_the_same_in_other_words_is_a_copy():
    out = found(spoken("She really likes green tea", "She likes the green tea"))
    assert [(group.survivor, group.copies) for group in out.groups] == [(0, [1])]
    assert 0.95 <= out.groups[0].cosines[0] < 1.0
    assert (out.pairs, out.pairs_by_text) == (1, 0)


def test_what_is_farther_than_the_threshold_is_no_pair():
    out = found(spoken("She really likes green tea", "She likes the green tea", cosines_of=0.6))
    assert (out.groups, out.pairs) == ([], 0)


@pytest.mark.parametrize(
    ("kind", "left", "right", "pieces"),
    [
        ("attribute", "Her favourite colour is purple", "Her favourite colour is cyan", ("purple", "cyan")),
        ("number", "The rent is 900", "The rent is 950", ("900", "950")),
        ("name", "We met Ann", "We met Bob", ("ann", "bob")),
        ("negation", "She likes tea", "She does not like tea", ("", "not like")),
    ],
)
def test_what_the_evidence_refuses_stays_two_and_is_counted(kind, left, right, pieces):
    memories = spoken(left, right)
    out = found(memories)
    assert (out.groups, out.pairs, out.refusals.counts) == ([], 1, {kind: 1})
    (message,) = out.refusals.to_messages(memories)
    (example,) = message.examples
    assert (message.kind, message.count, (example.left, example.right)) == (kind, 1, pieces)
    assert bytes.fromhex(example.right_id.replace("-", "")) == memories.uids[1].tobytes()
    assert 0.95 < example.cosine < 1


def test_another_day_is_another_event_unless_one_does_not_say():
    left, right = "She really went for a walk", "She went for the walk"
    other_day = spoken(left, right, columns={"event_us": [DAY_US, 3 * DAY_US, *[-1] * 20]})
    out = found(other_day)
    assert (out.groups, out.refusals.counts) == ([], {"date": 1})
    assert out.refusals.to_messages(other_day)[0].examples[0].right == "1970-01-04"
    for days in ([DAY_US, DAY_US + 1], [DAY_US, -1]):
        assert groups(spoken(left, right, columns={"event_us": [*days, *[-1] * 20]})) == [(0, [1])]


def test_memories_of_different_kinds_are_never_copies():
    columns = {"kinds": [0, 1, *[0] * 20]}
    memories = spoken("She likes tea", "She likes tea", columns=columns, kinds=("note", "fact"))
    out = found(memories)
    assert (out.groups, out.refusals.counts) == ([], {"kind": 1})


def test_a_copy_is_near_the_survivor_itself_never_only_another_copy():
    # 0 and 2 are both near 1, at a cosine of .965, and not near each other, .86.
    angle = np.array([0.0, 0.265, 0.53])
    rows = np.zeros((22, DIM), np.float32)
    rows[2:] = directions(20)
    rows[:2, 0], rows[:2, 1] = np.cos(angle[:2]), np.sin(angle[:2])
    rows = np.concatenate([rows[:2], [np.eye(DIM)[0] * np.cos(angle[2]) + np.eye(DIM)[1] * np.sin(angle[2])], rows[2:]])
    texts = ["She likes green tea", "She really likes green tea", "She likes the green tea"]
    memories = remembered([*texts, *(f"thing number {i}" for i in range(20))], vectors=rows)
    assert groups(memories, survivor_strategy="oldest") == [(0, [1])]
    importance = np.full(23, 0.5)
    importance[1] = 0.9
    central = memories._replace(importance=importance.astype(np.float32))
    assert groups(central, survivor_strategy="highest_importance") == [(1, [0, 2])]


def test_a_text_group_joins_what_is_near_its_vector():
    memories = spoken("She likes tea", "SHE LIKES TEA!", "She really likes tea", "She likes coffee")
    out = found(memories)
    assert [(group.survivor, group.copies) for group in out.groups] == [(0, [1, 2])]
    assert (out.pairs, out.refusals.counts) == (4, {"attribute": 2})


# ── who may, who survives ───────────────────────────────────────────────────────


def test_pinned_kept_apart_forgotten_and_hidden_memories_are_left_alone():
    texts = ["same"] * 7
    columns = {
        "untouchable": [1, 0, 0, 0, 0, 0, 0],
        "apart": [0, 1, 0, 0, 0, 0, 0],
        "alive": [1, 1, 0, 1, 1, 1, 1],
        "roles": [0, 0, 0, MEMORY_ROLE_CONTAINER, MEMORY_ROLE_FOLDED, MEMORY_ROLE_FACET, 0],
    }
    assert groups(remembered(texts, columns=columns)) == [(5, [6])]


def test_a_small_space_is_left_as_it_is():
    texts = ["same", "same", "other"]
    assert groups(remembered(texts), min_active=4) == []
    assert groups(remembered(texts), min_active=3) == [(0, [1])]
    facet = {"roles": [0, MEMORY_ROLE_FACET, 0]}
    assert groups(remembered(texts, columns=facet), min_active=3) == []


@pytest.mark.parametrize(
    ("strategy", "survivor"),
    [("most_recent", 1), ("highest_importance", 2), ("most_connected", 3), ("oldest", 4), ("merge", 0)],
)
def test_each_strategy_has_its_survivor(strategy, survivor):
    texts = ["She likes - tea -", "she likes tea", "She likes tea", "She likes tea", "She likes tea", "else"]
    columns = {
        "created_us": [5, 4, 3, 2, 1, 0],
        "accessed_us": [-1, 9, -1, 7, -1, -1],
        "importance": [0.1, 0.1, 0.8, 0.1, 0.1, 0.9],
    }
    edges = [(5, 3, "a"), (3, 5, "b"), (0, 5, "a"), (2, 5, "a"), (2, 5, "b"), (2, 5, "c")]
    memories = remembered(texts, columns=columns, edges=edges, dead_edges=[3, 4])
    out = groups(memories, survivor_strategy=strategy)
    assert out == [(survivor, [row for row in range(5) if row != survivor])]


def test_ties_end_by_the_node_id():
    for strategy in ("most_connected", "highest_importance", "merge", "oldest", "most_recent"):
        memories = remembered(["same"] * 3, columns={"created_us": [1, 1, 1]})
        assert groups(memories, survivor_strategy=strategy) == [(0, [1, 2])]


def test_an_unknown_strategy_is_refused():
    with pytest.raises(ValueError, match="youngest"):
        found(remembered(["same"] * 2), survivor_strategy="youngest")


def test_pairs_beyond_the_most_wait_for_a_later_night():
    texts = ["a b c", "a b c", "d e f", "d e f", "d e f"]
    out = found(remembered(texts), max_candidates=2)
    assert [(group.survivor, group.copies) for group in out.groups] == [(0, [1]), (2, [3])]
    assert (out.pairs_by_text, out.overflow) == (2, 1)


def test_of_too_many_near_pairs_the_nearest_are_looked_at():
    rows = directions(24)
    rows[1], rows[3] = near(rows[0], 1, 0.1), near(rows[2], 3, 0.01)
    texts = ["She really likes tea", "She likes tea", "We really met Ann", "We met Ann"]
    memories = remembered([*texts, *(f"thing number {i}" for i in range(20))], vectors=rows)
    out = found(memories, max_candidates=1)
    assert [(group.survivor, group.copies) for group in out.groups] == [(2, [3])]
    assert (out.pairs, out.overflow) == (1, 1)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 1)), min_size=2, max_size=14))
def test_every_row_is_in_one_group_at_most_and_like_its_survivor(rows):
    said = ["She likes green tea", "We met Ann in Oslo", "The rent is 900", "Her dog is old"]
    shapes = [str, str.upper, lambda text: f"{text} !"]
    texts = [shapes[shape](said[text]) for text, shape, _ in rows]
    memories = remembered(texts, columns={"kinds": [kind for *_, kind in rows]}, kinds=("note", "fact"))
    out = groups(memories)
    everybody = [row for survivor, copies in out for row in (survivor, *copies)]
    assert len(everybody) == len(set(everybody))
    wanted: dict[tuple[int, int], list[int]] = {}
    for row, (text, _, kind) in enumerate(rows):
        wanted.setdefault((text, kind), []).append(row)
    assert out == sorted((found[0], found[1:]) for found in wanted.values() if len(found) > 1)


def test_the_same_seed_finds_the_same_in_sketches_as_in_tiles(monkeypatch):
    rows = directions(400, 3)
    rows[200:] = rows[:200] + 0.02 * directions(200, 4)
    texts = [f"word{i % 200} is{' really' if i < 200 else ''} what she likes" for i in range(400)]
    memories = remembered(texts, vectors=rows)
    exact = groups(memories, seed=1)
    assert len(exact) == 200
    monkeypatch.setattr(redundancy, "EXACT_ROWS", 0)
    sketched = groups(memories, seed=2**62 + 5)
    assert sketched == groups(memories, seed=2**62 + 5)
    assert len(sketched) >= 198
    assert all(group in exact for group in sketched)


# ── what is kept and told ───────────────────────────────────────────────────────


def test_readings_keep_what_was_asked_for_last(monkeypatch):
    monkeypatch.setattr(readings_module, "KEPT", 2)
    read: list[str] = []
    inner = readings_module.signature
    monkeypatch.setattr(readings_module, "signature", lambda text: read.append(text) or inner(text))
    readings = Readings(remembered(["a", "b", "c"]))
    for row in (0, 1, 0, 2, 0, 1):
        assert readings[row].words == ("abc"[row],)
    assert read == ["a", "b", "c", "b"]


def test_portions_hold_all_rows_in_order_and_no_more_than_is_allowed():
    readings = Readings(remembered(["x" * size for size in (10, 500, 10, 10, 10)]))
    assert [list(part) for part in readings.portions([4, 0, 1, 2, 3], 170)] == [[4, 0], [1], [2, 3]]
    assert list(readings.portions([], 170)) == []


def test_refusals_are_told_by_kind_with_a_few_examples():
    memories = remembered(["a", "b"])
    refusals = Refusals()
    for number in range(EXAMPLES + 2):
        refusals.add("number", 0, 1, str(number), "x", 0.97)
    refusals.add("date", 1, 0, "", "", 0.96)
    messages = refusals.to_messages(memories)
    assert [(message.kind, message.count, len(message.examples)) for message in messages] == [
        ("number", EXAMPLES + 2, EXAMPLES),
        ("date", 1, 1),
    ]
    assert messages[0].examples[0].left == "0"
