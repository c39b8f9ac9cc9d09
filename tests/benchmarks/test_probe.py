"""The truth that the probe is held against, by hand; and what the figures count."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import probe, scatter
from benchmarks.dream_arrays import dream_arrays
from benchmarks.evaluation_sets import EvaluationSet, Fact, Question
from benchmarks.probe import Asked, Point, Truth, Way
from dreamsvc import two_stage
from dreamsvc.dreamer import memories as memory_columns
from dreamsvc.dreamer.memories import Memories
from dreamsvc.two_stage import Index

# Four directions of a plane, as far from each other as they can be.
EAST, NORTH, WEST, SOUTH = (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)


def asked(told: Sequence[tuple[str, tuple[float, float]]], gold: Sequence[str], *, budget: int) -> Asked:
    """Facts of three tokens each, by key their text; one question that looks east."""
    facts = tuple(Fact(str(row), "", text, "") for row, (text, _) in enumerate(told))
    question = Question("", tuple((key,) for key in gold))
    vectors = np.array([vector for _, vector in told], np.float32)
    queries = np.array([[0.9, 0.436]], np.float32)
    return Asked(EvaluationSet("hand", facts, (question,), budget), "none", vectors, queries)


def memories_of(given: Asked) -> Memories:
    facts = given.given.facts
    arrays = dream_arrays([fact.title for fact in facts], [fact.text for fact in facts], given.vectors)
    return memory_columns.read(arrays)


def flat(memories: Memories, rows: Sequence[int]) -> Index:
    return two_stage.assemble(np.array(rows), memories.vectors[list(rows)], {}, len(memories.node_ids))


def share(given: Asked, rows: Sequence[int]) -> float:
    memories = memories_of(given)
    return Truth(memories, given, similar=0.85).share(flat(memories, rows), opened=20)


def test_a_fact_counts_if_its_text_is_read_before_the_budget_is_used() -> None:
    told = [("she likes tea", EAST), ("he likes rain", NORTH), ("they like snow", WEST), ("we like wind", SOUTH)]
    # From the east the rows are read in the order east, north, south, west.
    assert share(asked(told, ["0", "1"], budget=6), range(4)) == 1.0
    assert share(asked(told, ["0", "1"], budget=5), range(4)) == 0.5
    assert share(asked(told, ["3"], budget=9), range(4)) == 1.0
    assert share(asked(told, ["2"], budget=9), range(4)) == 0.0


def test_what_is_near_a_text_that_was_read_costs_no_budget_and_is_not_read() -> None:
    told = [("she likes tea", EAST), ("he likes rain", (0.99, 0.14)), ("they like snow", NORTH)]
    assert share(asked(told, ["2"], budget=6), range(3)) == 1.0
    # The nearer of the first two is the second one.
    assert share(asked(told, ["1"], budget=6), range(3)) == 1.0
    assert share(asked(told, ["0"], budget=6), range(3)) == 0.0


def test_a_copy_that_is_read_tells_the_fact_and_another_memory_does_not() -> None:
    told = [("she likes tea", EAST), ("She likes tea!", EAST), ("he likes rain", NORTH)]
    assert share(asked(told, ["0"], budget=6), [1, 2]) == 1.0
    assert share(asked(told, ["2"], budget=6), [0, 1]) == 0.0


def test_a_container_of_one_text_is_read_by_its_mean_alone() -> None:
    vectors = np.array([EAST, NORTH, (0.8, 0.6)], np.float32)
    block = probe.block_of(vectors, np.array([4, 7, 9]), Way("topics", 3, keeps="one"))
    assert block.rows.tolist() == [9]  # nearest to the mean
    index = two_stage.assemble(np.zeros(0, np.int64), np.zeros((0, 2), np.float32), {11: block}, 12)
    mean = vectors.mean(axis=0) / np.linalg.norm(vectors.mean(axis=0))
    assert two_stage.vectors_of(index, [9])[0] == pytest.approx(mean, abs=0.01)


@given(st.integers(1, 60), st.integers(2, 9))
def test_random_clusters_hold_every_memory_once(count: int, size: int) -> None:
    rows = np.arange(count) * 3
    clusters = probe.random_clusters(rows, size)
    assert np.array_equal(np.sort(np.concatenate(clusters)), rows)
    assert [len(cluster) for cluster in clusters[:-1]] == [size] * (len(clusters) - 1)
    assert all(np.all(np.diff(cluster) > 0) for cluster in clusters)


def point(true_after: float, probe_loss: float, loss_high: float) -> Point:
    """Of a set of which 0.5 was found before."""
    return Point("hand", "none", Way("topics", 2), 10, 5, 0.5, true_after, 0.6, 0.6, probe_loss, 0.0, loss_high)


def test_the_figures_count_what_the_gate_gets_wrong() -> None:
    points = [
        point(0.5, 0.0, 0.1),  # loses nothing, accepted
        point(0.4, 0.1, 0.14),  # loses 20 %, accepted wrongly
        point(0.45, 0.1, 0.2),  # loses 10 %, refused wrongly
        point(0.25, 0.6, 0.7),  # loses 50 %, refused
    ]
    figures = probe.figures_of(points, 0.15)
    assert figures["false_accept_pct"] == 25
    assert figures["false_reject_pct"] == 25
    assert figures["mae_pct"] == pytest.approx((0 + 10 + 0 + 10) / 4)
    assert figures["configurations"] == 4
    assert figures["pearson"] == pytest.approx(np.corrcoef([0, 0.1, 0.1, 0.6], [0, 0.2, 0.1, 0.5])[0, 1])


def test_a_gain_counts_as_no_loss_and_equal_losses_have_no_correlation() -> None:
    figures = probe.figures_of([point(0.6, 0.0, 0.1), point(0.7, 0.0, 0.1)], 0.15)
    assert figures["mae_pct"] == 0
    assert figures["pearson"] == 0


def test_a_drawing_has_a_dot_for_each_point_and_a_line_where_both_are_equal() -> None:
    dots = [scatter.Dot(0, 0, "a & b"), scatter.Dot(50, 100, "c"), scatter.Dot(-5, 120, "c")]
    drawing = ElementTree.fromstring(scatter.drawn(dots, x="true", y="told", most=100, bound=15))
    circles = drawing.findall("{http://www.w3.org/2000/svg}circle")
    # One for each group stands in the legend.
    assert [circle.get("cy") for circle in circles[2:]] == ["536.0", "56.0", "56.0"]
    assert [circle.get("cx") for circle in circles[2:]] == ["56.0", "296.0", "56.0"]
    texts = [text.text for text in drawing.findall("{http://www.w3.org/2000/svg}text")]
    assert "a & b" in texts
