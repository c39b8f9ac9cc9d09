"""BM25 against a float64 oracle, and one writer beside readers that must never see half a change."""

import math
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dreamsvc.lexical import index as lexical
from dreamsvc.lexical import layers, postings
from dreamsvc.lexical.index import LexicalIndex
from dreamsvc.lexical.words import tokenize

type TraceFunction = Callable[[FrameType, str, Any], TraceFunction | None]

WORDS = ["ant", "bee", "cat", "dog", "elk", "fox"]
QUERY = "ant bee bee fox unheard"


type Gains = dict[str, float]


def oracle(
    documents: dict[int, str], query: str, n_rows: int, expansions: dict[int, Gains] | None = None, weight: float = 1
) -> NDArray[np.float64]:
    """BM25 as in the paper, one document and one word at a time; gains are added to how often a document says it."""
    out = np.zeros(n_rows)
    bags = {row: Counter(text.split()) for row, text in documents.items()}
    mean = sum(bag.total() for bag in bags.values()) / max(len(bags), 1)
    for word in query.split():
        df = sum(word in bag for bag in bags.values())
        idf = math.log(1 + (len(bags) - df + 0.5) / (df + 0.5))
        for row, bag in bags.items() if df else ():
            tf = bag[word] + weight * (expansions or {}).get(row, {}).get(word, 0)
            if tf:
                out[row] += idf * tf * 2.2 / (tf + 1.2 * (0.6 + 0.4 * bag.total() / mean))
    return out


def fresh(documents: dict[int, tuple[str, str]]) -> LexicalIndex:
    index = LexicalIndex()
    for row, (text, alias) in documents.items():
        index.add(row, text, [alias])
    return index


def expand(index: LexicalIndex, expansions: dict[int, Gains]) -> None:
    index.expand(
        list(expansions), [list(one) for one in expansions.values()], [list(e.values()) for e in expansions.values()]
    )


def bonus(index: LexicalIndex, query: str, n_rows: int = 1000) -> dict[int, float]:
    hits = index.aliases(query, n_rows)
    assert len(set(hits.rows.tolist())) == len(hits.rows)
    return dict(zip(hits.rows.tolist(), hits.bonus.tolist(), strict=True))


@pytest.fixture
def eager_merges(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tail of 40 postings and blocks of 16 terms, so that small stores go through every path."""
    monkeypatch.setattr(layers, "_TAIL_MIN", 40)
    monkeypatch.setattr(postings, "_BLOCK", 16)


def test_three_documents_by_hand() -> None:
    index = LexicalIndex()
    index.add_many([0, 1, 2], ["cat sat mat", "cat cat dog", "bird"], [[], [], []])
    # N 3, df 2: idf = ln 1.6 = 0.470004; lengths 3, 3, 1, mean 7/3; k1 (1 - b + b 9/7) = 1.337143
    # row 0: 0.470004 * 2.2 / 2.337143; row 1: 0.470004 * 4.4 / 3.337143
    np.testing.assert_allclose(index.scores("Cat?", 4), [0.442424, 0.619695, 0, 0], atol=2e-6)
    np.testing.assert_allclose(index.scores("cat cat", 4), [0.884848, 1.239390, 0, 0], atol=4e-6)
    assert index.scores("Cat?", 4).dtype == np.float32


def test_scores_follow_the_oracle_through_changes() -> None:
    index = LexicalIndex()
    documents = {0: "ant bee", 1: "bee bee cat dog", 4: "fox", 5: ""}
    for row, text in documents.items():
        index.add(row, text)
    np.testing.assert_allclose(index.scores(QUERY, 6), oracle(documents, QUERY, 6), rtol=1e-5)
    index.merge()
    index.remove(1)
    index.add(7, "ant elk elk")
    documents = {0: "ant bee", 4: "fox", 5: "", 7: "ant elk elk"}
    np.testing.assert_allclose(index.scores(QUERY, 8), oracle(documents, QUERY, 8), rtol=1e-5)
    assert index.live == 4


def test_an_expansion_adds_to_how_often_a_row_says_a_word_by_hand() -> None:
    index = LexicalIndex()
    index.add_many([0, 1, 2], ["cat sat mat", "cat cat dog", "bird"], [[], [], []])
    plain = index.scores("cat dog", 3)
    expand(index, {0: {"cat": 0.5, "dog": 2.0}, 2: {"cat": 1.0, "unheard": 3.0}})
    # As above, tf 1.5 and 2 in row 0, and 1 in row 2, whose length is 1: k1 (1 - b + b 3/7) = 0.925714
    # idf of dog, df 1: ln(1 + 2.5/1.5) = 0.980829
    cat, dog, long, short = 0.470004, 0.980829, 1.337143, 0.925714
    expected = [cat * 3.3 / (1.5 + long) + dog * 4.4 / (2 + long), plain[1], cat * 2.2 / (1 + short)]
    np.testing.assert_allclose(index.scores("cat dog", 3), expected, atol=2e-6)
    half = cat * 2.75 / (1.25 + long) + dog * 2.2 / (1 + long)
    np.testing.assert_allclose(index.scores("cat dog", 3, expansion=0.5)[0], half, atol=2e-6)
    np.testing.assert_array_equal(index.scores("cat dog", 3, expansion=0), plain)
    # No memory says it, so there is no telling how rare it is.
    assert not index.scores("unheard", 3).any()


def test_an_expansion_takes_the_place_of_the_one_before_and_goes_with_its_memory() -> None:
    index = fresh({0: ("ant", ""), 1: ("bee", ""), 2: ("cat", "")})
    plain = index.scores(QUERY, 3)
    expand(index, {0: {"bee": 1.0}, 7: {"bee": 1.0}})
    expand(index, {0: {"cat": 1.0}})
    assert index.scores("bee", 8).nonzero()[0].tolist() == [1]
    assert index.scores("cat", 3).nonzero()[0].tolist() == [0, 2]
    index.replace(0, "fox")
    assert index.scores("cat fox", 3).nonzero()[0].tolist() == [0, 2]
    assert index.scores("ant", 3).nonzero()[0].tolist() == []
    index.replace(0, "ant")
    index.remove(0)
    index.add(0, "ant")
    np.testing.assert_array_equal(index.scores(QUERY, 3), plain)
    expand(index, {1: {"ant": 1.0}})
    expand(index, {1: {}})
    np.testing.assert_array_equal(index.scores(QUERY, 3), plain)
    index.add(7, "elk")  # what was given to a row without a memory was passed over
    assert index.scores("bee", 8).nonzero()[0].tolist() == [1]


def test_a_refused_expansion_changes_nothing() -> None:
    index = fresh({0: ("ant", ""), 1: ("bee", "")})
    expand(index, {0: {"bee": 1.0}})
    before = index.scores(QUERY, 2)
    with pytest.raises(ValueError, match="twice"):
        index.expand([0, 0], [["ant"], ["ant"]], [[1.0], [1.0]])
    with pytest.raises(ValueError, match="argument"):
        index.expand([0], [["ant", "bee"]], [[1.0]])
    with pytest.raises(ValueError, match="argument"):
        index.expand([0, 1], [["ant"]], [[1.0]])
    np.testing.assert_array_equal(index.scores(QUERY, 2), before)


texts = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)
gains = st.dictionaries(st.sampled_from([*WORDS, "unheard"]), st.sampled_from([0.25, 0.5, 1.0, 3.0]), max_size=5)
operations = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 12), texts, st.sampled_from(WORDS)),
    st.tuples(st.just("remove"), st.integers(0, 12)),
    st.tuples(st.just("merge")),
    st.tuples(st.just("bulk"), st.integers(20, 60), st.lists(texts, min_size=1, max_size=30)),
    st.tuples(st.just("reload")),
    st.tuples(st.just("replace"), st.integers(0, 12), texts, st.sampled_from(WORDS)),
    st.tuples(st.just("expand"), st.dictionaries(st.integers(0, 30), gains, max_size=20)),
)


@pytest.mark.usefixtures("eager_merges")
@settings(max_examples=120, deadline=None)
@given(st.lists(operations, max_size=25), st.sampled_from([0.0, 0.5, 1.0]))
def test_any_history_scores_like_a_fresh_build(history: list[tuple[object, ...]], weight: float) -> None:
    index, documents, expansions = LexicalIndex(), dict[int, tuple[str, str]](), dict[int, Gains]()
    for operation in history:
        match operation:
            case ("add", int(row), str(text), str(alias)):
                index.remove(row)
                index.add(row, text, [alias])
                expansions.pop(row, None)
                documents[row] = (text, alias)
            case ("replace", int(row), str(text), str(alias)):
                index.replace(row, text, [alias])
                documents[row] = (text, alias)
            case ("expand", dict(given_)):
                expand(index, given_)
                expansions |= {row: one for row, one in given_.items() if row in documents}
            case ("remove", int(row)):
                index.remove(row)
                documents.pop(row, None)
                expansions.pop(row, None)
            case ("bulk", int(first), list(many)):
                rows = [row for row in range(first, first + len(many)) if row not in documents]
                batch = dict(zip(rows, many, strict=False))
                index.add_many(list(batch), list(batch.values()), [["ant"]] * len(batch))
                documents |= {row: (text, "ant") for row, text in batch.items()}
            case ("merge",):
                index.merge()
            case _:
                index = LexicalIndex.from_arrays(index.to_arrays())
    rebuilt = fresh(documents)
    expand(rebuilt, expansions)
    assert index.live == rebuilt.live == len(documents)
    scores = index.scores(QUERY, 100, weight)
    np.testing.assert_array_equal(scores, rebuilt.scores(QUERY, 100, weight))
    plain = {row: text for row, (text, _) in documents.items()}
    np.testing.assert_allclose(scores, oracle(plain, QUERY, 100, expansions, weight), rtol=1e-5, atol=1e-6)
    assert bonus(index, QUERY) == pytest.approx(bonus(rebuilt, QUERY))
    assert all((row in index) == (row in documents) for row in range(100))


def test_a_view_stays_as_it_was_taken() -> None:
    index = fresh({0: ("ant bee", "ant"), 1: ("bee", "bee")})
    index.merge()
    expand(index, {0: {"fox": 1.0}, 1: {"ant": 1.0}})
    view, unasked = index.view(), index.view()
    before = view.scores(QUERY, 4)
    expand(index, {1: {"bee": 1.0}})
    index.remove(0)
    index.add(0, "fox fox")
    index.add(2, "ant ant ant", ["ant"])
    index.merge()
    index.remove(2)
    for old in (view, unasked):
        np.testing.assert_array_equal(old.scores(QUERY, 4), before)
        assert old.aliases("ant", 4).rows.tolist() == [0]
    assert index.aliases("ant", 4).rows.tolist() == []


def changes(index: LexicalIndex) -> Iterator[None]:
    """A fixed history of 320 changes; each `next` makes one."""
    rng = np.random.default_rng(5)
    for row in range(160):
        index.add(row, " ".join(rng.choice(WORDS, 5)))
        yield
        if row % 2:
            index.remove(row // 2)
            yield
            # Of two rows at once, one of which may have had another before.
            words = rng.choice(WORDS, (2, 3)).tolist()
            index.expand([row, row - 2], words, rng.random((2, 3)).tolist())
            yield


@pytest.mark.usefixtures("eager_merges")
def test_a_query_at_any_line_of_a_change_sees_the_state_before_or_after() -> None:
    index, everything = LexicalIndex(), " ".join(WORDS)
    seen = Counter[bytes]()

    def look(frame: FrameType, event: str, argument: object) -> TraceFunction | None:
        if frame.f_code.co_filename not in (lexical.__file__, layers.__file__):
            return None
        seen[index.scores(everything, 60).tobytes()] += 1  # not traced itself: tracing rests within a trace function
        return look

    history, before, debugger = changes(index), index.scores(everything, 60).tobytes(), sys.gettrace()
    for _ in range(60):
        seen.clear()
        sys.settrace(look)
        try:
            next(history)
        finally:
            sys.settrace(debugger)
        after = index.scores(everything, 60).tobytes()
        assert seen.keys() <= {before, after}
        assert seen.total() > 10
        before = after


@pytest.mark.usefixtures("eager_merges")
def test_readers_beside_merges_see_whole_states_in_order() -> None:
    alone, everything = LexicalIndex(), " ".join(WORDS)
    moment = {alone.scores(everything, 160).tobytes(): 0}
    bases = set[tuple[int, int]]()
    for i, _ in enumerate(changes(alone), 1):
        moment[alone.scores(everything, 160).tobytes()] = i
        bases.add((alone._state.own.base.rows.size, alone._state.more.base.rows.size))
    assert len(moment) == 321, "each state must be told apart by its scores"
    assert all(len(set(sizes)) > 10 for sizes in zip(*bases, strict=True)), "the history must merge many times"

    index = LexicalIndex()
    seen: list[list[int | None]] = [[], []]
    over = threading.Event()

    def read(mine: list[int | None]) -> None:
        while not over.is_set():
            mine.append(moment.get(index.scores(everything, 160).tobytes()))

    readers = [threading.Thread(target=read, args=(mine,)) for mine in seen]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # many more chances to interrupt a change in its middle
    try:
        for reader in readers:
            reader.start()
        for i, _ in enumerate(changes(index)):
            if i % 4 == 0:
                time.sleep(1e-3)  # lets the readers see what they interrupt
    finally:
        over.set()
        for reader in readers:
            reader.join()
        sys.setswitchinterval(interval)
    for mine in seen:
        assert len(set(mine)) > 20
        assert None not in mine
        assert mine == sorted(mine, key=lambda i: i or 0)


def test_copy_and_reload_is_exact() -> None:
    index = fresh({3: ("東京都 is big", "Tokyo"), 1: ("ant bee", "The Ant"), 9: ("", "")})
    index.remove(1)
    index.add(2, "naïve café", ["Café"])
    expand(index, {2: {"東京": 0.5, "big": 1.0}, 3: {"big": 2.0}})
    saved = index.to_arrays()
    for array in saved.values():
        array.flags.writeable = False  # as a file mapped for reading is
    loaded = LexicalIndex.from_arrays(saved)
    again = loaded.to_arrays()
    assert {name: array.dtype for name, array in saved.items()} == {name: array.dtype for name, array in again.items()}
    for name, array in saved.items():
        np.testing.assert_array_equal(array, again[name])
    for query in ("東京", "café tokyo", "ant"):
        np.testing.assert_array_equal(loaded.scores(query, 10), index.scores(query, 10))
        assert bonus(loaded, query) == bonus(index, query)
    loaded.remove(3)
    loaded.add(3, "ant")
    assert loaded.scores("ant", 4)[3] > 0
    assert LexicalIndex.from_arrays(LexicalIndex().to_arrays()).live == 0


def test_a_refused_batch_changes_nothing() -> None:
    index = fresh({1: ("ant", "ant")})
    for rows in ([2, 1], [2, 2], [2, -1], [2, 1 << 31]):
        with pytest.raises(ValueError, match="row"):
            index.add_many(rows, ["bee", "bee"], [[], []])
    with pytest.raises(ValueError, match="argument"):
        index.add_many([2, 3], ["bee"], [[], []])
    assert index.live == 1
    assert not index.scores("bee", 5).any()


def test_rows_the_reader_does_not_hold_yet_are_left_out() -> None:
    index = fresh({0: ("ant", "ant"), 5: ("ant", "ant")})
    assert index.scores("ant", 3).shape == (3,)
    assert bonus(index, "ant", 3) == {0: 0.25}
    assert index.scores("ant", 0).shape == (0,)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't use os.path.join(my_var)", ["don", "t", "use", "os", "path", "join", "my", "var"]),
        ("camelCase v2 3.14", ["camelcase", "v2", "3", "14"]),
        ("Straße ﬁle ① Ｆｕｌｌ", ["strasse", "file", "1", "full"]),
        ("cafe\u0301", ["café"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("私は猫。東京都 GPU3台", ["私は", "は猫", "東京", "京都", "gpu3", "台"]),
        ("猫", ["猫"]),
        ("ไทย", ["ไท", "ทย"]),
        ("", []),
        ("_._ \0 👍", []),
        ("x" * 130, ["x" * 64, "x" * 64, "xx"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert tokenize(text) == words


def test_long_texts_are_cut_between_words_only() -> None:
    assert tokenize("harmless words\n" * 40_000) == ["harmless", "words"] * 40_000
    assert len(tokenize("y" * 1_000_000)) == 15_625
    assert len(tokenize("猫" * 200_000)) >= 199_990  # no space to cut at: a pair is lost every 65,536 characters


def test_chinese_is_found_without_spaces() -> None:
    index = fresh({0: ("我在東京都開會", "東京都"), 1: ("我在京都開會", "京都")})
    scores = index.scores("東京", 2)
    assert scores[0] > 0
    assert scores[1] == 0
    assert bonus(index, "去東京都了") == {0: 0.5, 1: 0.5}  # 京都 stands in 東京都 as a pair of characters


def test_function_words_count_only_alone() -> None:
    index = fresh({0: ("the who", ""), 1: ("an ant", ""), 2: ("will will", "")})
    np.testing.assert_array_equal(index.scores("what is the ant", 3), index.scores("ant", 3))
    assert index.scores("the who", 3)[0] > 0
    assert index.scores("will", 3)[2] > 0


def test_an_alias_counts_when_its_words_stand_together() -> None:
    index = LexicalIndex()
    index.add(0, "x", ["Ada Lovelace", "Countess of Lovelace", "ada  LOVELACE"])
    index.add(1, "y", ["Ada Lovelace"])
    index.add(2, "z", ["Lovelace Ada", "", "!?"])
    assert bonus(index, "When did Ada Lovelace die? Ada Lovelace!") == {0: 0.25, 1: 0.25}
    assert bonus(index, "Ada, Countess of Lovelace") == {0: 0.5}
    assert bonus(index, "ada lovelace, the countess of lovelace") == {0: 0.75, 1: 0.25}
    assert bonus(index, "Ada B. Lovelace") == {}
    index.remove(1)
    assert bonus(index, "ada lovelace") == {0: 0.5}


def test_an_alias_shared_by_twenty_says_nothing() -> None:
    index = LexicalIndex()
    index.add_many(range(20), ["hello"] * 20, [["Caroline"]] * 20)
    assert bonus(index, "caroline") == {}
    index.remove(7)
    assert bonus(index, "caroline") == pytest.approx({row: 0.5 / 19 for row in range(20) if row != 7})


def test_one_common_word_as_an_alias_does_not_flood() -> None:
    index = LexicalIndex()
    index.add_many(range(199), ["may be"] * 10 + ["ant"] * 189, [["May"], ["Rare"], *[[]] * 197])
    assert bonus(index, "may") == {0: 0.5}  # 199 memories say little about how common a word is
    index.add(199, "ant", [])
    assert bonus(index, "may") == {}  # in 10 of 200 memories: 5 %
    assert bonus(index, "rare") == {1: 0.5}
    index.add(200, "ant", ["may be"])
    assert bonus(index, "may be") == {0: 0.5, 200: 0.5}  # 10 of 201
    index.add(201, "may", [])
    assert bonus(index, "may be") == {200: 0.5}


def test_a_title_too_long_to_occur_is_no_alias() -> None:
    index = fresh({0: ("x", " ".join("abcdefghijklmnop")), 1: ("x", " ".join("abcdefghijklmnopq"))})
    assert bonus(index, " ".join("abcdefghijklmnopqr")) == {0: 0.5}


def test_a_query_is_read_to_its_2048th_word() -> None:
    index = fresh({0: ("ant", "ant"), 1: ("bee", "bee")})
    query = "cat " * 2047 + "ant bee"
    assert index.scores(query, 2).nonzero()[0].tolist() == [0]
    assert bonus(index, query) == {0: 0.5}


def test_an_empty_index_answers() -> None:
    index = LexicalIndex()
    assert index.scores("ant", 3).tolist() == [0, 0, 0]
    assert bonus(index, "ant") == {}
    index.add(0, "", [])
    index.remove(0)
    index.remove(0)
    index.merge()
    index.add_many([], [], [])
    assert index.scores("ant", 1).tolist() == [0]
