"""Pseudo-queries, by hand: what lifts them, what does not, and what they must not know while they are asked."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamsvc import config
from dreamsvc.dreamer.memories import Bodies
from dreamsvc.dreamer.probes import asked_words, pseudo_queries
from dreamsvc.dreamer.probes.asked_words import Postings, Without, bm25
from dreamsvc.dreamer.probes.pseudo_queries import passes
from dreamsvc.dreamer.reading_index import index_before
from dreamsvc.dreamer.v1.operations_pb2 import Expansion
from dreamsvc.lexical.index import LexicalIndex
from dreamsvc.v1.dream_pb2 import PseudoQueries
from tests.dreamer.remembered import remembered, result

RECALL = config.defaults().recall
N = 40
WORDS = ("otter", "river", "snow", "the", "lynx", "fish")


def told(row):
    """Two sentences of three words that no other pair has, and all of them in one sentence."""
    words = [f"w{row}{letter}" for letter in "abcdef"]
    return f"{' '.join(words[:3])}. {' '.join(words[3:])}.", " ".join(words)


def pairs_of_memories():
    """N memories of two sentences, and behind them N that say the same in one."""
    both = [told(row) for row in range(N)]
    return [two for two, _ in both] + [one for _, one in both]


def probed(memories, links=(), made=(), *, queries=100, seed=3):
    src, dst = np.array(links, np.int32).reshape(-1, 2).T
    index = result(index_before(memories))
    weights = np.ones(len(src), np.float32)
    return result(
        pseudo_queries.probe(memories, index, src, dst, weights, list(made), RECALL, queries=queries, seed=seed)
    )


TRUE = [(row, N + row) for row in range(N)]
SHUFFLED = [(row, N + (row + 7) % N) for row in range(N)]


def test_true_links_lift_what_is_found_and_others_do_not():
    memories = remembered(pairs_of_memories())
    lifted, not_lifted = probed(memories, TRUE), probed(memories, SHUFFLED)
    # Less the sentence a memory says nothing of it: only the link leads there.
    assert (lifted.single, lifted.single_before, lifted.single_after) == (N, 0, 1)
    assert (not_lifted.single_before, not_lifted.single_after) == (0, 0)
    assert passes(lifted)


def test_what_the_index_learns_of_neighbours_lifts_too():
    memories = remembered(pairs_of_memories())
    ids = memories.node_ids.tolist()
    learnt = [Expansion(node=ids[row], words=told(row)[1].split(), gains=[0.5] * 6) for row in range(N)]
    assert probed(memories, made=learnt).single_after == 1
    nothing = [Expansion(node=ids[row], words=["w0a"], gains=[0.5]) for row in range(N)]
    assert probed(memories, made=nothing).single_after <= 5 / N


def test_what_the_index_knew_before_counts_before_and_goes_where_it_is_replaced():
    memories = remembered(pairs_of_memories())
    ids = memories.node_ids.tolist()
    bodies = [
        Expansion(node=ids[row], words=told(row)[1].split(), gains=[0.5] * 6).SerializeToString() for row in range(N)
    ]
    ends = np.cumsum([*(len(body) for body in bodies), *([0] * N)])
    memories = memories._replace(expansions=Bodies(np.frombuffer(b"".join(bodies), np.uint8), ends))
    found = probed(memories, made=[Expansion(node=ids[row]) for row in range(N // 2)])
    assert (found.single_before, found.single_after) == (1, 0.5)
    assert not passes(found)


def test_neighbours_are_not_found_by_the_sentence_that_is_cut_out():
    # Only these sentences say the words, and what the index knows of a neighbour comes from them.
    memories = remembered([told(row)[0] for row in range(N)] + [f"other{row}" for row in range(N)])
    ids = memories.node_ids.tolist()
    learnt = [Expansion(node=ids[N + row], words=told(row)[1].split(), gains=[0.5] * 6) for row in range(N)]
    assert probed(memories, TRUE, learnt).single_after == 0


def test_a_query_has_a_vector_of_what_others_say_by_its_words():
    rng = np.random.default_rng(0)
    near = rng.standard_normal((N, 64))
    alike, apart = np.concatenate([near, near]), np.concatenate([near, rng.standard_normal((N, 64))])
    texts = pairs_of_memories()
    assert probed(remembered(texts, vectors=alike)).single_before == 1
    # Nothing of its own vector is in the query: it is found by chance, 5 of 80.
    assert probed(remembered(texts, vectors=apart)).single_before < 0.25
    alone = [told(row)[0] for row in range(N)]
    assert probed(remembered(alone, vectors=near)).single_before == 0


def test_vectors_drawn_towards_neighbours_are_read():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((2 * N, 64))
    memories = remembered(pairs_of_memories(), vectors=vectors)
    ids = memories.node_ids.tolist()
    made = []
    for row in range(N):
        drawn = memories.vectors[row] + 0.5 * memories.vectors[N + row]
        made.append(Expansion(node=ids[row], peers=[ids[N + row]], shares=[0.5], length=float(np.linalg.norm(drawn))))
    found = probed(memories, made=made)
    assert found.single_after > found.single_before + 0.5


def test_pairs_are_links_that_no_dream_made():
    texts = [f"one{row} two{row} three{row} four{row}" for row in range(2 * N)]
    edges = [(row, N + row, "links") for row in range(N)]
    memories = remembered(texts, edges=edges)
    found = probed(memories, queries=25)
    assert (found.measured, found.single, found.pairs, found.pairs_before) == (True, 0, 25, 1)
    assert not probed(memories._replace(trusted=np.zeros(N, np.bool_))).measured
    assert not probed(memories._replace(edges_alive=np.zeros(N, np.bool_))).measured


def test_words_of_titles_are_not_asked_for():
    # Beside its title a memory says too little.
    edges = [(row, N + row, "links") for row in range(N)]
    texts = [f"name{row} one{row} two{row}" for row in range(2 * N)]
    titles = [f"name{row}" for row in range(2 * N)]
    assert not probed(remembered(texts, edges=edges, columns={"titles": titles})).measured
    assert probed(remembered(texts, edges=edges)).measured


def test_a_few_queries_measure_nothing():
    few = pseudo_queries.FEWEST - 1
    assert not probed(remembered([told(row)[0] for row in range(few)])).measured
    assert probed(remembered([told(row)[0] for row in range(few + 1)])).measured


def test_memories_that_cannot_be_found_are_neither_asked_about_nor_answered():
    memories = remembered(pairs_of_memories())
    alive = memories.alive.copy()
    alive[N // 2 : N] = False
    assert probed(memories._replace(alive=alive), TRUE).single == N // 2
    alive = memories.alive.copy()
    alive[N:] = False
    assert probed(memories._replace(alive=alive), TRUE).single_after == 0


def test_asked_about_is_what_links_change():
    assert probed(remembered(pairs_of_memories()), TRUE[:25]).single == 25


def test_equal_seeds_measure_equally():
    memories = remembered(pairs_of_memories(), vectors=np.random.default_rng(1).standard_normal((2 * N, 8)))
    assert probed(memories, SHUFFLED, queries=30) == probed(memories, SHUFFLED, queries=30)


def test_where_few_can_be_asked_a_night_stays_if_it_does_not_fall():
    few = pseudo_queries.ENOUGH - 1
    measured = PseudoQueries(measured=True, single=few, single_before=0.5, single_after=0.5)
    assert passes(measured)
    measured.single_after = 0.4
    assert not passes(measured)
    measured.single, measured.single_after = few + 1, 0.5
    assert not passes(measured)


@pytest.mark.parametrize(
    ("single", "pairs", "stays"),
    [
        ((0.50, 0.50), (0.50, 0.52), True),  # together a point
        ((0.50, 0.50), (0.50, 0.505), False),  # together a quarter
        ((0.50, 0.475), (0.50, 0.90), False),  # one falls too far
        ((0.50, 0.49), (0.50, 0.51), False),  # together nothing
        ((0.50, 0.53), None, True),
        ((0.50, 0.515), None, False),  # one alone may rise so far by chance
        ((0.95, 0.95), None, True),  # no room
        ((0.95, 0.92), None, False),
        (None, (0.50, 0.60), True),
    ],
)
def test_a_night_stays_if_more_is_found_and_nothing_falls_far(single, pairs, stays):
    measured = PseudoQueries(measured=True)
    if single:
        measured.single, (measured.single_before, measured.single_after) = 200, single
    if pairs:
        measured.pairs, (measured.pairs_before, measured.pairs_after) = 200, pairs
    assert passes(measured) == stays


# ── the words ───────────────────────────────────────────────────────────────────

TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join), min_size=1, max_size=8)
GAINS = st.dictionaries(st.integers(0, 7), st.dictionaries(st.sampled_from(WORDS), st.floats(0.1, 3)), max_size=4)


def read(texts):
    return result(asked_words.read_words(remembered(texts), set(WORDS)))


def scored(query, words, gains=None, weight=1.0, **rest):
    return result(bm25(Counter(query.split()), words, gains or {}, weight, **rest))


@settings(deadline=None, max_examples=60)
@given(
    TEXTS,
    GAINS,
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join),
    st.sampled_from([0.0, 1.0, 2.5]),
)
def test_words_are_scored_as_queries_score_them(texts, gains, query, weight):
    gains = {row: some for row, some in gains.items() if row < len(texts)}
    index = LexicalIndex()
    index.add_many(range(len(texts)), texts, [[] for _ in texts])
    index.expand(list(gains), [list(some) for some in gains.values()], [list(some.values()) for some in gains.values()])
    memories = remembered(texts)
    ids = memories.node_ids.tolist()
    made = [Expansion(node=ids[row], words=list(some), gains=list(some.values())) for row, some in gains.items()]
    _, after = result(asked_words.read_added(memories, made, set(WORDS)))
    wanted = index.scores(query, len(texts), expansion=weight)
    assert scored(query, read(texts), after.gains, weight) == pytest.approx(wanted, abs=1e-4)


def test_less_a_sentence_a_memory_scores_as_if_it_had_never_said_it():
    whole, less = read(["otter river. snow fish fish", "otter lynx"]), read(["snow fish fish", "otter lynx"])
    cut = Counter(["otter", "river"])
    found = scored("otter river snow", whole, without=Without(0, cut, 2))
    assert found == pytest.approx(scored("otter river snow", less._replace(mean_length=whole.mean_length)))
    assert scored("otter river", whole, without=Without(0, cut, 2))[0] == 0


def test_gains_of_silent_rows_do_not_count():
    words = read(["otter", "river", "snow"])
    gains = {"otter": Postings(np.array([1, 2], np.int32), np.array([1.0, 1.0], np.float32))}
    found = scored("otter", words, gains, silent=np.array([1], np.int32))
    assert found[1] == 0
    assert found[2] > 0
