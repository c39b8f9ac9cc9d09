import json

import numpy as np
import pytest

from dreamsvc.dreamer import text_evidence
from dreamsvc.dreamer.text_evidence import read_texts
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_FOLDED
from tests.dreamer.remembered import remembered, result


def read(texts, most_shared=12, **columns):
    memories = remembered(texts, columns=columns)
    return memories, result(read_texts(memories, most_shared))


def mention(evidence, left, right):
    return float(evidence.mention(np.array([left]), np.array([right]))[0])


def shared(evidence, left, right):
    return float(evidence.shared(np.array([left]), np.array([right]))[0])


def test_a_title_or_an_alias_in_the_text_of_another_is_a_mention_whichever_comes_first():
    titles, names = ["Mercury (planet)", "", "Oslo"], ["[]", "[]", '["Kristiania"]']
    texts = ["It is hot.", "we saw Mercury", "we left Kristiania for Mercury"]
    memories, evidence = read(texts, titles=titles, names=names)
    assert mention(evidence, 0, 1) == mention(evidence, 1, 0) > 0
    assert mention(evidence, 0, 2) > 0
    assert mention(evidence, 1, 2) == 0
    assert evidence.in_words(memories, 1, 0)[0] == 'its title "Mercury" is said in the other'
    # Its own alias in its own text is no mention of itself.
    assert mention(evidence, 2, 2) == 0


def test_a_short_title_must_be_written_as_it_is_and_a_long_one_not():
    titles = ["The Campaign", "A Night at the Opera", "kubernetes", "", ""]
    texts = ["x", "x", "x", "the campaign was A night at the opera on Kubernetes", "The Campaigns of Kubernetess"]
    _, evidence = read(texts, titles=titles)
    assert [mention(evidence, row, 3) > 0 for row in range(3)] == [False, True, True]
    assert [mention(evidence, row, 4) > 0 for row in range(3)] == [False, False, False]


def test_a_title_in_han_is_found_in_running_text():
    _, evidence = read(["x", "昨天我们去了京都塔"], titles=["京都塔", ""])
    assert mention(evidence, 0, 1) > 0


def test_numbers_function_words_and_titles_that_many_share_are_no_titles():
    titles = ["1984", "It", *["Caroline"] * 20, ""]
    _, evidence = read([*["x"] * 22, "It was 1984, Caroline"], titles=titles)
    assert len(evidence.mentions) == 0


def test_what_has_the_same_title_is_not_what_it_speaks_of():
    memories, evidence = read(["one", "two"], titles=["Fair Game (film)", "Fair Game (song)"])
    assert mention(evidence, 0, 1) == 0
    assert shared(evidence, 0, 1) == 0
    assert evidence.in_words(memories, 0, 1) == []


def test_what_fewer_say_tells_more_and_what_all_say_nothing():
    texts = ["x", "y", *["Oslo is here"] * 8, "to Bergen"]
    _, evidence = read(texts, titles=["Oslo", "Bergen", *[""] * 9])
    assert mention(evidence, 1, 10) == 1
    assert mention(evidence, 0, 2) == pytest.approx(1 / (1 + 3 / 4))
    many = read([*["x"] * 200, *["to Oslo"] * 30], titles=["Oslo", *[""] * 229])[1]
    assert len(many.mentions) == 0


def test_a_rare_name_counts_by_how_few_have_it_and_by_how_much_of_a_name_it_is():
    texts = ["he met Lester Smith", "she knows Lester Smith", "to Kowloon", "from Kowloon", "in Kowloon"]
    memories, evidence = read(texts)
    assert shared(evidence, 0, 1) == 1
    assert shared(evidence, 2, 4) == pytest.approx(0.6 * 2 / 3)
    assert shared(evidence, 0, 2) == 0
    assert evidence.in_words(memories, 0, 1) == ['both name "Lester Smith" (2 memories)']
    assert evidence.in_words(memories, 4, 2) == ['both name "Kowloon" (3 memories)']


def test_a_name_that_a_text_begins_with_counts_three_times():
    _, evidence = read(["Lester Smith made it", "she knows Lester Smith"])
    assert shared(evidence, 0, 1) == shared(evidence, 1, 0) == 3


def test_a_name_that_more_share_than_may_is_not_rare():
    texts = ["to Kowloon"] * 13
    assert shared(read(texts)[1], 0, 1) == 0
    assert shared(read(texts[:12])[1], 0, 1) > 0
    assert shared(read(texts[:3], most_shared=2)[1], 0, 1) == 0


def test_the_first_word_of_a_sentence_is_a_name_where_another_text_shows_it():
    assert shared(read(["Coffee it was", "Coffee again"])[1], 0, 1) == 0
    assert shared(read(["Kowloon it was", "we saw Kowloon"])[1], 0, 1) > 0


def test_entities_that_callers_gave_are_names_in_any_script():
    entities = [json.dumps(["紅樓夢"]), json.dumps(["紅樓夢", "其他"]), "[]"]
    memories, evidence = read(["a", "b", "c"], entities=entities)
    assert shared(evidence, 0, 1) == 1
    assert evidence.in_words(memories, 0, 1) == ['both name "紅樓夢" (2 memories)']


def test_memories_that_recall_does_not_answer_with_are_not_read():
    columns = {"alive": [1, 0, 1], "roles": [0, 0, MEMORY_ROLE_FOLDED]}
    _, evidence = read(["to Kowloon"] * 3, **columns)
    assert (evidence.read, shared(evidence, 0, 1), shared(evidence, 0, 2)) == (1, 0, 0)


def test_only_the_most_important_are_read_where_there_are_too_many(monkeypatch):
    monkeypatch.setattr(text_evidence, "MOST_READ", 2)
    _, evidence = read(["to Kowloon"] * 3, importance=[0.9, 0.1, 0.5])
    assert evidence.read == 2
    assert shared(evidence, 0, 2) > 0
    assert shared(evidence, 0, 1) == 0


def test_beside_a_row_is_all_that_its_text_has_to_do_with():
    titles = ["Oslo", "", "", "Bergen", ""]
    texts = ["x", "to Oslo and Kowloon", "from Kowloon", "x", "nothing"]
    _, evidence = read(texts, titles=titles)
    owner, other = evidence.beside(np.array([1, 3]))
    assert set(zip(owner.tolist(), other.tolist(), strict=True)) - {(0, 1)} == {(0, 0), (0, 2)}


def test_without_memories_nothing_is_said():
    memories, evidence = read([])
    assert (evidence.read, len(evidence.mentions), len(evidence.names.numbers), len(memories.node_ids)) == (0, 0, 0, 0)
