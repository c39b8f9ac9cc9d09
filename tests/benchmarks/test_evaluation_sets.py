"""Evaluation sets are read as they lie, and repeats of them say the same."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import evaluation_sets, repeats
from benchmarks.evaluation_sets import DataAbsent, EvaluationSet, Fact, Question
from tests.benchmarks.small_sets import write_lines, write_small_sets

RAIN = Fact("a", "Otter", "When it rains, the otter sleeps.", "2024-03-01T10:00:00Z")
SNOW = Fact("b", "Lynx", "The lynx likes snow.", "")
SMALL = EvaluationSet("small", (RAIN, SNOW), (Question("who sleeps?", (("a",), ("b",))),), 512)


def test_questions_without_an_answer_in_the_memory_are_left_out(tmp_path: Path) -> None:
    write_small_sets(tmp_path, "small")
    read = evaluation_sets.read(tmp_path, "small", 512)
    assert (len(read.facts), len(read.questions), read.token_budget) == (40, 10, 512)
    assert read.questions[1].gold == (("small/heron-forest",),)
    assert not any("unicorn" in question.text for question in read.questions)


def test_times_without_a_zone_are_utc_and_a_set_may_have_none(tmp_path: Path) -> None:
    facts = [
        {"id": "a", "text": "x", "ts": "2024-03-01T10:00:00"},
        {"id": "b", "text": "y", "ts": "2024-03-01T10:00:00+02:00"},
        {"id": "c", "title": "C", "text": "z"},
    ]
    write_lines(tmp_path / "timed.corpus.jsonl.gz", facts)
    write_lines(tmp_path / "timed.queries.jsonl.gz", [])
    read = evaluation_sets.read(tmp_path, "timed", 512)
    assert [fact.event_time for fact in read.facts] == ["2024-03-01T10:00:00Z", "2024-03-01T10:00:00+02:00", ""]
    assert [fact.said for fact in read.facts] == [("", "x"), ("", "y"), ("C", "z")]


def test_a_set_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_lines(tmp_path / "half.corpus.jsonl.gz", [])
    with pytest.raises(DataAbsent, match=r"half\.queries\.jsonl\.gz is not there"):
        evaluation_sets.read(tmp_path, "half", 512)
    with pytest.raises(DataAbsent, match=r"none\.corpus.* and .*none\.queries\.jsonl\.gz are not there"):
        evaluation_sets.read(tmp_path, "none", 512)


def test_each_fact_is_told_so_often_and_any_telling_answers_its_question() -> None:
    thrice = repeats.repeated(SMALL, 3, seed=1)
    assert thrice.name == "small_x3"
    assert [fact.key for fact in thrice.facts] == ["a", "a#2", "a#3", "b", "b#2", "b#3"]
    assert thrice.questions == (Question("who sleeps?", (("a", "a#2", "a#3"), ("b", "b#2", "b#3"))),)
    assert thrice.facts[0] == RAIN
    assert {fact.event_time for fact in thrice.facts[:3]} == {RAIN.event_time}
    assert len({fact.text for fact in thrice.facts}) == 6


def test_the_same_seed_repeats_in_the_same_words_and_another_one_does_not() -> None:
    assert repeats.repeated(SMALL, 5, seed=1) == repeats.repeated(SMALL, 5, seed=1)
    assert repeats.repeated(SMALL, 5, seed=1) != repeats.repeated(SMALL, 5, seed=2)


def test_among_many_repeats_every_way_to_repeat_oneself_occurs() -> None:
    rng = np.random.default_rng(3)
    told = {repeats.reword(RAIN.text, rng) for _ in range(200)}
    assert "The otter sleeps when it rains." in told
    assert "when it rains, the otter sleeps." in told
    assert "WHEN IT RAINS, THE OTTER SLEEPS." in told
    assert "When it rains the otter sleeps!" in told
    assert "By the way, when it rains, the otter sleeps." in told
    assert "When it rains, the otter sleeps, as I said." in told


@given(st.text(st.sampled_from("abc XYZ.,!?12\n"), min_size=1).filter(str.strip), st.integers(0, 2**32))
def test_a_repeat_differs_and_keeps_every_word_in_it(text: str, seed: int) -> None:
    told = repeats.tellings(Fact("k", "", text, ""), 3, seed=seed)
    assert len(set(told)) == 3

    def words(said: str) -> list[str]:
        return sorted("".join(char if char.isalnum() else " " for char in said.lower()).split())

    for repeat in told[1:]:
        left = words(repeat)
        for word in words(text):
            left.remove(word)
        # What is left are fillers.
        assert len(left) <= 8
