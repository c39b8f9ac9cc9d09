"""What is planted, and how what became of it is counted, by hand."""

import json
from pathlib import Path

import pytest

from benchmarks import near_misses, planted, planted_words
from benchmarks.near_misses import Memory, Pair, Planted, Size
from benchmarks.planted import Standing, judge
from dreamsvc.v1.dream_pb2 import MERGE_STAGE_CONSERVATIVE, MERGE_STAGE_TOPIC

WHOLE = Size(3000, 30, 15, 36, 10)
A, B, C, D, E, F = (Planted(key, f"text {key}") for key in "abcdef")
COPY, MISS, OTHER_MISS = Pair("case", A, B), Pair("number", C, D), Pair("unit", E, F)
SMALL = Memory([A, B, C, D, E, F], [COPY], [MISS, OTHER_MISS], [])


@pytest.fixture(scope="module")
def memory() -> Memory:
    return near_misses.made(WHOLE)


def test_the_planted_memory_is_as_large_as_it_should_be(memory: Memory) -> None:
    assert len(memory.copies) >= 0.05 * WHOLE.plain
    assert all(sum(pair.kind == kind for pair in memory.near_misses) >= 30 for kind in planted_words.NEAR_MISSES)
    assert len(memory.updates) >= 100
    assert len({fact.key for fact in memory.facts}) == len({fact.text for fact in memory.facts}) == len(memory.facts)


def test_it_is_equal_for_equal_sizes(memory: Memory) -> None:
    assert near_misses.made(WHOLE) == memory
    assert near_misses.made(WHOLE._replace(plain=2999)).facts[0] != memory.facts[0]


def test_copies_by_letters_have_the_words_of_their_original(memory: Memory) -> None:
    def letters(text: str) -> list[str]:
        return sorted(char for char in text.casefold() if char.isalnum())

    alike = {"case", "punctuation", "white space", "CJK punctuation", "CJK white space"}
    pairs = [pair for pair in memory.copies if pair.kind in alike]
    assert len(pairs) == 120
    assert all(letters(pair.left.text) == letters(pair.right.text) for pair in pairs)
    turned = [pair for pair in memory.copies if pair.kind in ("word order", "CJK word order")]
    assert all(letters(pair.left.text) == letters(pair.right.text) for pair in turned)


def test_nobody_who_is_planted_about_appears_elsewhere(memory: Memory) -> None:
    plain = {" ".join(fact.text.split()[:2]) for fact in memory.facts if fact.key.startswith("plain:")}
    said = " ".join(fact.text for fact in memory.facts if not fact.key.startswith("plain:"))
    assert len(plain) == 750
    assert not [name for name in plain if name in said]


def test_the_newer_value_of_an_update_happened_later_and_is_another(memory: Memory) -> None:
    for update in memory.updates:
        assert update.older.event_us is not None
        assert update.newer.event_us is not None
        assert update.newer.event_us - update.older.event_us >= 30 * near_misses.DAY_US
        assert update.older.text != update.newer.text


def test_the_file_has_every_memory_and_an_edge_between_near_misses(memory: Memory, tmp_path: Path) -> None:
    planted.write(memory, tmp_path / "memory.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "memory.jsonl").read_text(encoding="utf-8").splitlines()]
    edges = [line for line in lines if line["type"] == "edge"]
    assert len(lines) - len(edges) == len(memory.facts)
    assert len(edges) == len(memory.near_misses)
    assert sum("event_time" in line for line in lines) == 2 * len(memory.updates)


def test_a_copy_is_found_where_one_stands_for_the_other_also_through_a_third() -> None:
    assert judge(SMALL, Standing({"b": "a"}, {}), []).missed == []
    assert judge(SMALL, Standing({"a": "e", "b": "e"}, {}), []).missed == []
    assert judge(SMALL, Standing({"b": "e", "e": "a"}, {}), []).missed == []
    # Lying in one container is not being one.
    assert judge(SMALL, Standing({}, {"a": "box", "b": "box"}), []).missed == [COPY]


def test_near_misses_are_merged_where_one_stands_for_the_other() -> None:
    found = judge(SMALL, Standing({"b": "a", "d": "c"}, {}), [])
    assert found.merged == [MISS]
    assert found.others == []
    apart = judge(SMALL, Standing({"b": "a"}, {"c": "box", "d": "box"}), [(MERGE_STAGE_TOPIC, frozenset("cd"))])
    assert (apart.merged, apart.tight, apart.in_one_topic) == ([], [], [MISS])


def test_near_misses_in_one_tight_container_count_and_those_in_two_do_not() -> None:
    standing = Standing({}, {"c": "box", "d": "box", "e": "box", "f": "chest"})
    made = [(MERGE_STAGE_CONSERVATIVE, frozenset("cde")), (MERGE_STAGE_CONSERVATIVE, frozenset("f"))]
    found = judge(SMALL, standing, made)
    assert (found.tight, found.in_one_topic) == ([MISS], [])


def test_every_other_pair_that_was_taken_for_copies_is_told() -> None:
    found = judge(SMALL, Standing({"b": "a", "c": "a"}, {}), [])
    assert found.others == [("text a", "text c"), ("text b", "text c")]
