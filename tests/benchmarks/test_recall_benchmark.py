"""How a lift is counted and what it is compared with, by hand; and the whole benchmark on small sets."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import evaluation_sets, exported, lifts, recall, recall_figures
from benchmarks.asking import Night, write
from benchmarks.evaluation_sets import EvaluationSet, Fact, Question
from benchmarks.exported import Edge
from benchmarks.lifts import Pair, Recalls
from benchmarks.recall_figures import SETS, Measures, Outcome
from dreamsvc.v1.dream_pb2 import Dream
from tests.benchmarks.small_sets import write_lines

FACTS = (
    Fact("a", "Otter", "It sleeps by the river.", ""),
    Fact("b", "Lynx", "It likes the snow.", "", "chat/1"),
    Fact("c", "Raven", "It steals from the otter.", "", "chat/1"),
)
QUESTIONS = (
    Question("who sleeps by the river?", (("a",),), "1"),
    Question("who steals, and who likes the snow?", (("b",), ("c",)), "2"),
)
GIVEN = EvaluationSet("hotpotqa", FACTS, QUESTIONS, 0)
VECTORS = np.eye(3, dtype=np.float32)


def pair(before: list[float], after: list[float]) -> Pair:
    return Pair(np.array(before), np.array(after))


def five(*shares: float) -> Recalls:
    return Recalls({count: np.array(shares) for count in lifts.AT})


# ── what is counted ─────────────────────────────────────────────────────────────


def test_recall_is_the_share_of_a_questions_facts_among_its_first_hits() -> None:
    hits = [fact.said for fact in FACTS]
    found = lifts.recalls(GIVEN, [[hits[1], hits[2], hits[0]], [hits[0], hits[2], hits[1]]])
    assert found.at[2].tolist() == [0.0, 0.5]
    assert found.at[5].tolist() == [1.0, 1.0]
    assert found.shown() == {"recall_at_2": 25.0, "recall_at_5": 100.0, "recall_at_10": 100.0}


def test_a_lift_is_told_of_what_was_found_and_counts_the_questions_it_costs() -> None:
    lifted = pair([0.5, 0.5, 1.0, 0.0], [1.0, 0.5, 0.5, 1.0])
    assert lifts.lift_pct(lifted) == pytest.approx(50)
    assert lifts.worse_pct(lifted) == 25
    assert lifts.lift_pct(pair([0.0, 0.0], [1.0, 1.0])) == 0
    assert lifts.shown(lifted)["questions_better"] == 2


def test_a_macro_counts_every_set_the_same_and_its_interval_holds_it() -> None:
    small, large = pair([0.5] * 4, [1.0, 1.0, 0.5, 0.5]), pair([0.5] * 40, [0.55] * 40)
    mean = lifts.macro(map(lifts.lift_pct, (small, large)))
    assert mean == pytest.approx((50 + 10) / 2)
    low, high = lifts.macro_interval([small, large])
    assert low < mean < high
    assert lifts.macro_interval([large]) == pytest.approx((10, 10))


def test_questions_are_told_apart_by_the_kind_that_their_set_names() -> None:
    kinds = lifts.by_kind(GIVEN, pair([0.0, 0.5], [1.0, 0.5]))
    assert {kind: (one.before.tolist(), one.after.tolist()) for kind, one in kinds.items()} == {
        "1": ([0.0], [1.0]),
        "2": ([0.5], [0.5]),
    }
    unnamed = GIVEN._replace(questions=tuple(question._replace(kind="") for question in QUESTIONS))
    assert lifts.by_kind(unnamed, pair([0.0, 0.5], [1.0, 0.5])) == {}


def test_without_the_service_vectors_words_and_both_find_what_they_say() -> None:
    strangers = tuple(Fact(str(number), "", f"x{number}", "") for number in range(20))
    vectors = np.eye(23, dtype=np.float32)
    # Nearest to the lynx and then to a stranger; of the words of the second question the raven says one.
    query = vectors[1] + np.float32(0.15) * vectors[9]
    found = lifts.baselines(GIVEN._replace(facts=FACTS + strangers), vectors, np.stack([query, query]))
    assert {name: one.at[2].tolist() for name, one in found.items()} == {
        "dense": [0.0, 0.5],
        "bm25": [1.0, 1.0],
        "plain": [1.0, 1.0],
    }


# ── files ───────────────────────────────────────────────────────────────────────


def test_sessions_and_kinds_are_read_where_a_set_has_them(tmp_path: Path) -> None:
    facts = [{"id": "a", "text": "x", "conv": "c-1", "session": 2}, {"id": "b", "text": "y"}]
    queries = [{"id": "q", "question": "?", "gold": ["a"], "type": 3}, {"id": "r", "question": "?", "gold": ["b"]}]
    write_lines(tmp_path / "chat.corpus.jsonl.gz", facts)
    write_lines(tmp_path / "chat.queries.jsonl.gz", queries)
    read = evaluation_sets.read(tmp_path, "chat", 0)
    assert [fact.session for fact in read.facts] == ["c-1/2", ""]
    assert [question.kind for question in read.questions] == ["3", ""]


def test_a_file_has_the_session_and_gives_its_vectors_back_at_unit_length(tmp_path: Path) -> None:
    file = tmp_path / "memories.jsonl"
    write(GIVEN, "client", 2 * VECTORS, file)
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [line.get("metadata") for line in lines[1:]] == [None, {"session": "chat/1"}, {"session": "chat/1"}]
    assert np.array_equal(exported.vectors(file), VECTORS)


def test_edges_go_into_a_file_and_come_back(tmp_path: Path) -> None:
    plain, joined = tmp_path / "plain.jsonl", tmp_path / "joined.jsonl"
    write(GIVEN, "client", VECTORS, plain)
    edges = [Edge("a", "c", 0.5), Edge("c", "b", 1.0)]
    exported.write(plain, edges, joined)
    lines = [json.loads(line) for line in joined.read_text(encoding="utf-8").splitlines()]
    assert [line["origin"] for line in lines if line["type"] == "edge"] == ["USER_CREATED"] * 2
    # An export names memories by their ids.
    by_id = [{**line, "id": f"id-{line['key']}"} if line["type"] == "memory" else line for line in lines]
    by_id = [
        {**line, "source": f"id-{line['source']}", "target": f"id-{line['target']}"} if line["type"] == "edge" else line
        for line in by_id
    ]
    joined.write_text("".join(json.dumps(line) + "\n" for line in by_id), encoding="utf-8")
    assert exported.read(joined) == edges


def test_shuffled_edges_keep_their_sources_and_weights_and_join_nobody_to_himself() -> None:
    edges = [Edge(str(n), str(n + 100), n / 100) for n in range(50)]
    mixed = exported.shuffled(edges, seed=1)
    assert len(mixed) == 50
    assert [(edge.source, edge.weight) for edge in mixed] == [(edge.source, edge.weight) for edge in edges]
    assert sorted(edge.target for edge in mixed) == sorted(edge.target for edge in edges)
    assert sum(edge == other for edge, other in zip(mixed, edges, strict=True)) < 5
    circle = [Edge("a", "b", 1), Edge("b", "a", 1)]
    assert exported.shuffled(circle, seed=0) in ([circle[0]], [])


def test_nearest_edges_join_the_nearest_first_and_no_two_twice() -> None:
    units = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8]], np.float32)
    # b and c are nearest to each other (.96), a is nearest to b (.8).
    assert exported.nearest(GIVEN, units, 9) == [Edge("b", "c", 1), Edge("a", "b", 1)]
    assert exported.nearest(GIVEN, units, 1) == [Edge("b", "c", 1)]


# ── figures ─────────────────────────────────────────────────────────────────────


def outcome(way: str, name: str, after: Recalls, before: Recalls | None = None, nodes: int = 3) -> Outcome:
    edges = [Edge("a", "b", 1.0)] * 4
    return Outcome(way, GIVEN._replace(name=name), after, [Night(Dream(), nodes)], edges, before)


def measured() -> Measures:
    outcomes = [outcome("after", name, five(1.0, 0.5), five(0.5, 0.5)) for name in SETS]
    outcomes += [outcome("shuffled", name, five(0.5, 0.0)) for name in SETS]
    outcomes.append(outcome("cycle5", SETS[0], five(0.5, 0.25), nodes=1))
    columns = {"dense": five(0.25, 0.25), "bm25": five(0.0, 0.5), "plain": five(0.5, 0.0)}
    return Measures(dict.fromkeys(SETS, columns), {(one.way, one.given.name): one for one in outcomes})


def test_figures_are_counted_against_the_service_before_any_dream() -> None:
    found = recall_figures.figures_of(measured())
    assert found["r5_fair_2wiki"] == 50
    assert found["r5_before_2wiki"] == 25
    assert found["r5_after_2wiki"] == 75
    assert found["lift_pct_macro"] == found["lift_pct_2wiki"] == pytest.approx(50)
    assert found["shuffled_pct_macro"] == pytest.approx(-50)
    assert found["worse_pct_macro"] == 0
    assert found["r5_cycle5_hotpotqa"] == 37.5
    assert found["loss_pct_cycle5_hotpotqa"] == pytest.approx(25)
    assert found["memories_a_node_cycle5_hotpotqa"] == 3
    assert found.keys() <= set(recall_figures.FIGURES)
    second = recall_figures.figures_of(measured(), recall_figures.SECOND)
    assert second["lift_pct_macro_minilm"] == pytest.approx(50)


def test_a_macro_is_told_only_of_all_sets() -> None:
    whole = measured()
    some = {key: one for key, one in whole.outcomes.items() if key[1] != "2wiki"}
    found = recall_figures.figures_of(Measures(whole.baselines, some))
    assert "lift_pct_hotpotqa" in found
    assert not [key for key in found if "macro" in key or "2wiki" in key]


def test_what_an_edge_is_worth_is_told_of_the_edges_that_there_are() -> None:
    one = outcome("links50", "2wiki", five(1.0, 0.5))
    assert one.points_per_edge(five(0.5, 0.5)) == pytest.approx(25 / 4)
    assert one.shown(five(0.5, 0.5))["points_per_100_edges"] == pytest.approx(625)


def test_ways_differ_in_what_their_configuration_says() -> None:
    assert "links_per_memory = 0.0505" in recall.few_links(50, 1000).config
    assert "target_compression_ratio = 10" in recall.cycle(10).config
    assert "[dream.linking]" not in recall.WHOLE_NIGHT.config
    assert '[embedder]\npath = "/a b"' in recall.WHOLE_NIGHT.whole_config("/a b")
