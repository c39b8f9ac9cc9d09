import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc import contract
from dreamsvc.dreamer import linking, mentions, vocabulary
from dreamsvc.dreamer.linking import FOLLOWS, MENTIONS, SHARES_ENTITY, Link, find_links
from dreamsvc.dreamer.vocabulary import read_words
from dreamsvc.lexical.words import tokenize
from dreamsvc.v1.config_pb2 import LinkingConfig
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_FOLDED
from tests.dreamer.remembered import remembered, result

MINUTE_US = 60_000_000


def words_of(memories):
    return result(read_words(memories, np.flatnonzero(memories.findable)))


def found(memories, **settings):
    config = LinkingConfig(**settings)
    contract.fill(config)
    return result(find_links(memories, words_of(memories), config))


def titled(*memories, edges=(), vectors=None, **columns):
    """Memories of a title and a text each."""
    columns = {"titles": [title for title, _ in memories], **columns}
    return remembered([text for _, text in memories], edges=edges, vectors=vectors, columns=columns)


def said(links) -> list[tuple[int, int, str]]:
    return sorted((link.source, link.target, link.type) for link in links.links)


def stand_ins(count: int) -> list[tuple[str, str]]:
    """Memories that have nothing to do with each other."""
    return [("", f"plain{number} thing{number}") for number in range(count)]


# ── words ───────────────────────────────────────────────────────────────────────


@given(st.lists(st.text(st.sampled_from("aB Éß_.東京กขكД\n2"), max_size=30), min_size=1, max_size=6), st.data())
@settings(max_examples=60, deadline=None)
def test_words_are_those_of_the_index_in_their_order(texts, data):
    rows = sorted(data.draw(st.sets(st.sampled_from(range(len(texts))))))
    memories = titled(*((text[:5], text) for text in texts))
    words = result(read_words(memories, np.array(rows, np.int64)))
    for row, text in enumerate(texts):
        title, whole = [tokenize(text[:5]) if row in rows else [], tokenize(text) if row in rows else []]
        assert words.spelled(words.of(row)) == title + whole
        assert words.texts[row] - words.starts[row] == len(title)
    cut = [set(tokenize(texts[row][:5]) + tokenize(texts[row])) for row in rows]
    assert words.df.tolist() == [sum(word in one for one in cut) for word in words.words]
    assert words.memories == len(rows)


def test_a_word_is_a_name_if_nobody_writes_it_without_a_capital():
    words = words_of(
        remembered(["Kowloon is far, says IBM", "May we? may be.", "in KOWLOON Ärger, Мария и Ärger", "мария"])
    )

    def is_lower(word):
        return bool(words.lower[words.vocabulary[word]])

    assert [is_lower(word) for word in ("kowloon", "ibm", "ärger")] == [False] * 3
    assert [is_lower(word) for word in ("may", "far", "мария", "be")] == [True] * 4
    assert words.written[words.vocabulary["kowloon"]] == "Kowloon"
    by_row = [words.spelled(words.capitals[a:b]) for a, b in itertools.pairwise(words.capital_starts)]
    assert [sorted(row) for row in by_row] == [["ibm", "kowloon"], ["may"], ["kowloon", "ärger", "мария"], []]


def test_a_long_text_is_read_in_pieces_and_is_the_same(monkeypatch):
    text = " ".join(f"Word{number % 7} other" for number in range(200))
    whole = words_of(remembered([text]))
    monkeypatch.setattr(vocabulary, "READ", 64)
    pieces = words_of(remembered([text]))
    assert pieces.spelled(pieces.flat) == whole.spelled(whole.flat) == tokenize(text)
    assert pieces.lower.tolist() == whole.lower.tolist()


# ── names that are said ─────────────────────────────────────────────────────────


def test_a_memory_is_linked_to_the_one_whose_title_it_says():
    links = found(titled(("Oslo trip", "we went by train"), ("", "back from the oslo trip, tired")))
    assert links.links == [Link(1, 0, MENTIONS, 1.0, 3.0, 'says its title "Oslo trip"')]
    assert (links.mentions, links.shared, links.adjacent, links.read) == (1, 0, 0, 2)


def test_a_title_is_known_without_its_brackets_and_a_memory_by_its_aliases():
    memories = titled(
        ("Mercury rising (film)", "a film"),
        ("The lab", "a house"),
        ("", "we saw mercury rising"),
        ("", "in building seven"),
        names=["[]", json.dumps(["Building Seven"]), "[]", "[]"],
    )
    by_source = {link.source: link for link in found(memories).links}
    assert (by_source[2].target, by_source[2].evidence) == (0, 'says its title "Mercury rising"')
    assert (by_source[3].target, by_source[3].evidence) == (1, 'says its name "Building Seven"')


def test_words_that_stand_apart_and_the_title_of_the_sayer_itself_do_not_count():
    apart = titled(("Oslo trip", "x"), ("", "a trip to oslo"), ("my oslo trip", "y"), ("", "oslo"), ("", "trip"))
    assert found(apart).links == []


def test_a_name_does_not_reach_from_one_text_into_the_next():
    assert found(titled(("red harbour", "x"), ("", "it was red"), ("", "harbour"))).links == []


def test_a_shared_title_speaks_less_for_each_of_its_owners():
    memories = titled(("Red harbour", "x"), ("Red harbour", "y"), ("", "at the red harbour"))
    links = found(memories, links_per_memory=5, shared_entities=False)
    assert [(link.source, link.target, link.weight) for link in links.links] == [(2, 0, 0.5), (2, 1, 0.5)]


def test_a_title_that_twenty_memories_have_says_nothing_about_any():
    def links(count):
        return found(titled(*[("red harbour", "x")] * count, ("", "red harbour")), links_per_memory=5).mentions

    assert (links(19), links(20)) == (19, 0)


def test_a_word_of_every_day_is_no_name():
    crowd = [("", f"we may go there {number}") for number in range(200)]
    assert found(titled(("May", "a month"), *crowd)).mentions == 0
    assert found(titled(("The", "an article"), ("", "the end"))).mentions == 0
    assert found(titled(("It is", "words"), ("", "so it is"))).mentions == 0
    assert found(titled(("ab", "short"), ("", "so ab is"))).mentions == 0
    assert found(titled(("quay", "rare"), ("", "at the quay"), *stand_ins(300))).mentions == 1


def test_names_are_found_in_scripts_without_spaces_and_without_capitals():
    memories = titled(
        ("東京", "首都"),
        ("", "昨日は東京に行った"),
        ("กรุงเทพ", "เมือง"),
        ("", "ฉันไปกรุงเทพเมื่อวาน"),
        ("Красная площадь", "место"),
        ("", "мы были на красная площадь вчера"),
        ("القاهرة الكبرى", "مدينة"),
        ("", "زرنا القاهرة الكبرى أمس"),
    )
    assert said(found(memories)) == [(odd, odd - 1, MENTIONS) for odd in (1, 3, 5, 7)]


def test_titles_without_words_or_with_fifty_and_a_title_that_is_the_whole_text_are_borne():
    long = " ".join(f"w{number}" for number in range(50))
    memories = titled(("", ""), ("🙂", "🙂 🙂"), (long, long), ("", long), ("...", "..."), ("Kowloon", "Kowloon"))
    assert found(memories).mentions == 0


@given(st.lists(st.tuples(st.text("ab .", max_size=6), st.text("ab .", max_size=12)), max_size=6))
@settings(max_examples=100, deadline=None)
def test_names_are_found_as_a_search_word_by_word_finds_them(pairs):
    memories = titled(*pairs)
    words = words_of(memories)
    names = result(mentions.read_names(memories, words, np.arange(len(pairs))))
    kept = [words.spelled(names.words(name)) for name in range(len(names.starts) - 1)]
    out = result(mentions.find_sayings(words, names))
    texts = [f"  {'  '.join(tokenize(text))}  " for _, text in pairs]
    wanted = [(row, place) for row, text in enumerate(texts) for place, name in enumerate(kept) if _says(text, name)]
    assert list(zip(out.rows.tolist(), out.names.tolist(), strict=True)) == wanted


def _says(text: str, name: list[str]) -> bool:
    return f"  {'  '.join(name)}  " in text


def test_a_text_that_is_longer_than_one_step_says_each_name_once(monkeypatch):
    monkeypatch.setattr(mentions, "LOOKED_AT", 4)
    memories = titled(("red harbour", "x"), ("", "red harbour " * 20), ("", "the red harbour"))
    words = words_of(memories)
    names = result(mentions.read_names(memories, words, np.arange(3)))
    assert result(mentions.find_sayings(words, names)).rows.tolist() == [1, 2]


def test_a_name_that_all_say_is_linked_to_the_farthest_only(monkeypatch):
    monkeypatch.setattr(linking, "MOST_AT_ONE", 3)
    turns = np.linspace(0.1, 1.5, 8)
    vectors = [[1, 0], *([math.cos(turn), math.sin(turn)] for turn in turns)]
    memories = titled(("Red harbour", "x"), *[("", "red harbour")] * 8, vectors=vectors)
    assert [link.source for link in found(memories).links] == [8, 7, 6]


# ── names that are shared ───────────────────────────────────────────────────────


def test_memories_that_alone_share_a_name_are_linked_from_the_later_one():
    links = found(remembered(["the ferry to Kowloon", "Kowloon at night", "a ferry"]))
    assert links.links == [Link(1, 0, SHARES_ENTITY, pytest.approx(1 / 3), pytest.approx(1.0), 'both name "Kowloon"')]


def test_a_name_counts_less_the_more_share_it_and_nothing_beyond_the_limit():
    texts = [f"{word}{number} at Kowloon" for number, word in enumerate("abcd")]
    links = found(remembered(texts), links_per_memory=10).links
    wanted = math.log(1 + 4 / 4) / math.log(1 + 4 / 2) / 3
    assert [link.weight for link in links] == [pytest.approx(wanted / 3)] * 6
    assert found(remembered(texts), max_document_frequency=3).links == []


def test_a_word_that_anybody_writes_small_is_no_name():
    assert found(remembered(["Mangoes are ripe", "Mangoes again", "we ate mangoes"])).links == []


def test_what_callers_say_that_memories_are_about_counts_whatever_its_case():
    memories = remembered(
        ["first", "second", "about project falcon, this"],
        columns={"entities": [json.dumps(["project falcon"]), json.dumps(["Project Falcon"]), "[]"]},
    )
    links = found(memories, links_per_memory=5)
    assert said(links) == [(1, 0, SHARES_ENTITY), (2, 0, SHARES_ENTITY), (2, 1, SHARES_ENTITY)]
    assert [link.weight for link in links.links] == [pytest.approx(1 / 3)] * 3
    assert {link.evidence for link in links.links} == {'both name "project falcon"'}


def test_rare_words_of_scripts_without_capitals_count_a_quarter():
    (link,) = found(remembered(["天安", "天安", "平和", "静か"])).links
    assert (link.source, link.target, link.type) == (1, 0, SHARES_ENTITY)
    assert link.value == pytest.approx(0.25)


def test_a_mention_and_shared_names_are_told_together():
    memories = titled(("Oslo trip", "with Maria"), ("", "oslo trip, Maria was ill"))
    (link,) = found(memories).links
    assert link.evidence == 'says its title "Oslo trip"; both name "Maria"'
    assert (link.weight, link.value) == (1.0, pytest.approx(4.0))


# ── neighbours in time ──────────────────────────────────────────────────────────


def next_to(memories, **settings):
    links = found(memories, **settings).links
    return {(link.source, link.target): link.weight for link in links if link.type == FOLLOWS}


def test_memories_of_a_session_follow_each_other_by_event_time_and_then_by_row():
    plain = remembered(["a", "b", "c", "d"], columns={"sessions": [0, 1, 0, 0]})
    assert next_to(plain) == {(2, 0): 1.0, (3, 2): 1.0, (3, 0): 0.5}
    told = remembered(["a", "b", "c"], columns={"sessions": [0, 0, 0], "event_us": [3, 1, 2]})
    assert next_to(told) == {(2, 1): 1.0, (0, 2): 1.0, (0, 1): 0.5}


def test_a_memory_without_an_event_time_stands_where_it_was_remembered():
    memories = remembered(["a", "b", "c"], columns={"sessions": [0, 0, 0], "event_us": [10, -1, 5]})
    assert next_to(memories) == {(0, 2): 1.0, (1, 0): 1.0, (1, 2): 0.5}


def test_outside_of_sessions_only_event_times_that_are_close_count():
    times = np.array([0, 10, 41, 50]) * MINUTE_US
    memories = remembered(["a", "b", "c", "d"], columns={"event_us": times})
    assert next_to(memories) == {(1, 0): 1.0, (3, 2): 1.0}
    assert next_to(memories, session_gap_minutes=31) == {(1, 0): 1, (2, 1): 1, (3, 2): 1, (2, 0): 0.5, (3, 1): 0.5}
    kinds = remembered(["a", "b"], kinds=["note", "plan"], columns={"event_us": times[:2], "kinds": [0, 1]})
    assert next_to(kinds) == {}
    assert next_to(remembered(["a", "b"])) == {}


def test_no_gap_divides_a_session():
    memories = remembered(["a", "b"], columns={"sessions": [0, 0], "event_us": [0, 500 * MINUTE_US]})
    assert next_to(memories) == {(1, 0): 1.0}


# ── which of them ───────────────────────────────────────────────────────────────


def test_the_best_links_are_kept_and_neighbours_come_on_top():
    vectors = [[1, 0], [1, 0], [0, 1]]
    memories = titled(
        ("Red harbour", "x"), ("", "red harbour"), ("", "red harbour"), vectors=vectors, sessions=[0, 0, 0]
    )
    links = found(memories, links_per_memory=1 / 3)
    assert [(link.source, link.target, link.value) for link in links.links if link.type == MENTIONS] == [(2, 0, 3.0)]
    assert links.adjacent == 3
    values = [link.value for link in links.links]
    assert values == sorted(values, reverse=True)


def test_only_pairs_with_a_memory_that_is_new_or_changed_are_linked():
    pairs = [("Red harbour", "x"), ("", "red harbour"), ("", "red harbour"), ("", "in Kowloon"), ("", "in Kowloon")]
    links = found(titled(*pairs, changed=[False, False, True, False, False]))
    assert (said(links), links.read) == ([(2, 0, MENTIONS)], 1)
    assert said(found(titled(*pairs, changed=[True, *[False] * 4]), links_per_memory=2)) == [
        (1, 0, MENTIONS),
        (2, 0, MENTIONS),
    ]


def test_pairs_that_are_joined_already_or_that_somebody_rejected_are_left_out():
    pairs = [("Red harbour", "x"), ("", "red harbour"), ("", "in Kowloon"), ("", "in Kowloon")]
    assert found(titled(*pairs, edges=[(0, 1, MENTIONS), (2, 3, SHARES_ENTITY)])).links == []
    other = titled(*pairs, edges=[(0, 1, "near"), (2, 3, MENTIONS)])
    assert said(found(other)) == [(1, 0, MENTIONS), (3, 2, SHARES_ENTITY)]
    assert said(found(titled(*pairs, rejected=[[1, 0]]))) == [(3, 2, SHARES_ENTITY)]
    following = remembered(["a", "b"], edges=[(1, 0, FOLLOWS)], columns={"sessions": [0, 0]})
    assert found(following).links == []


def test_a_common_word_is_no_name_where_it_is_written_small():
    pairs = [("Will", "the intern"), ("", "Petra will have the pipes"), ("", "Ask Will about the pipes")]
    assert said(found(titled(*pairs))) == [(2, 0, MENTIONS)]
    # What a caller writes small as a name is one however a text writes it.
    small = titled(*pairs, names=['["will"]', "[]", "[]"])
    assert {link[:2] for link in said(found(small, links_per_memory=3))} >= {(1, 0), (2, 0)}


def test_a_word_that_only_begins_sentences_is_no_rare_name():
    assert found(remembered(["Bring two boats.", "Quiet now. Bring the nets."])).links == []
    assert found(remembered(["We met Bring there.", "Quiet now. Bring sings."])).shared == 1


def test_an_edge_that_died_does_not_stand_in_the_way():
    memories = remembered(["in Kowloon", "in Kowloon"], edges=[(0, 1, SHARES_ENTITY)], dead_edges=[0])
    assert found(memories).shared == 1


def test_retired_memories_are_not_linked_and_pinned_ones_are():
    pairs = [("Red harbour", "x"), ("", "red harbour"), ("", "red harbour")]
    gone = titled(*pairs, sessions=[0, 0, 0], roles=[0, MEMORY_ROLE_FOLDED, 0])
    assert said(found(gone)) == [(2, 0, FOLLOWS), (2, 0, MENTIONS)]
    assert said(found(titled(*pairs, untouchable=[True, True, True]))) == [(1, 0, MENTIONS), (2, 0, MENTIONS)]


def test_each_kind_of_evidence_can_be_left_out():
    memories = titled(("Oslo trip", "Maria"), ("", "oslo trip, Maria"), sessions=[0, 0])
    assert said(found(memories, mentions=False)) == [(1, 0, FOLLOWS), (1, 0, SHARES_ENTITY)]
    assert said(found(memories, adjacency=False)) == [(1, 0, MENTIONS)]
    assert said(found(memories, mentions=False, shared_entities=False)) == [(1, 0, FOLLOWS)]
    assert said(found(memories, links_per_memory=0)) == [(1, 0, FOLLOWS)]


def test_nothing_to_read_gives_no_links():
    assert found(remembered([])).links == []
    assert found(remembered(["a"], columns={"changed": [False]})) == linking.Links([], 0, 0, 0, 0)


def test_the_same_memories_get_the_same_links():
    rng = np.random.default_rng(0)
    names = [f"Name{number} Two" for number in range(30)]
    pairs = [(names[row], f"of {names[rng.integers(30)]} and Other{rng.integers(40)}") for row in range(30)]
    memories = titled(*pairs, vectors=rng.standard_normal((30, 4)))
    assert found(memories) == found(memories)


# ── bounds ──────────────────────────────────────────────────────────────────────


def steps(search) -> int:
    count = 0
    try:
        while True:
            next(search)
            count += 1
    except StopIteration:
        return count


def test_twenty_thousand_memories_of_one_title_cost_one_look_each():
    count = 20_000
    memories = remembered([""] * count, columns={"titles": ["May"] * count})
    links = found(memories)
    assert (links.links, links.read) == ([], count)


def test_a_text_of_a_megabyte_is_read_in_many_steps_and_linked():
    text = "Oslo Trip was long. " * 40_000 + "at the red harbour"
    memories = titled(("red harbour", "x"), ("", text), ("", "東" * 100_000))
    assert steps(read_words(memories, np.arange(3))) > 50
    assert (1, 0, MENTIONS) in said(found(memories))


def test_names_that_are_said_together_everywhere_give_no_more_pairs_than_are_looked_at(monkeypatch):
    monkeypatch.setattr(mentions, "MOST_NAMED", 2)
    titles = [f"red harbour{letter}" for letter in "abcdef"]
    memories = titled(*((title, "x") for title in titles), ("", ", ".join(titles)))
    assert said(found(memories, links_per_memory=9)) == [(6, 0, MENTIONS), (6, 1, MENTIONS)]
