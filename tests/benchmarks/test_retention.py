"""How a loss is counted, by hand."""

import numpy as np
import pytest

from benchmarks import asking, retention
from benchmarks.asking import Asked, Night, Read, found_share, interval, loss_pct, nodes_of, products
from benchmarks.evaluation_sets import EvaluationSet, Fact, Question
from benchmarks.retention import FLAT_ONLY, PLANS, Compared
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.memory_service_pb2 import GetStatsResponse

BEFORE = np.array([1.0, 1.0, 0.5, 0.0])
FACT = Fact("a", "Otter", "It sleeps.", "")
SET = EvaluationSet("locomo_dev", (FACT,) * 100, (Question("?", (("a",),)),), 512)
FLAT = GetStatsResponse(memories=100, vectors=100, vector_bytes=102_400)
# 4 stand for themselves, 96 lie in 6 containers.
PACKED = GetStatsResponse(memories=100, vectors=100, facets=96, containers=6, vector_bytes=20_480)


def test_a_loss_is_the_share_of_what_was_found_that_is_not_any_more() -> None:
    assert loss_pct(BEFORE, np.array([1.0, 0.5, 0.25, 0.0])) == pytest.approx(30)
    assert loss_pct(BEFORE, np.array([1.0, 1.0, 0.5, 0.5])) == pytest.approx(-20)
    assert loss_pct(np.zeros(4), BEFORE) == 0.0


def test_the_interval_holds_the_loss_and_is_a_point_where_questions_agree() -> None:
    low, high = interval(BEFORE, np.array([1.0, 0.5, 0.25, 0.0]))
    assert low < 30 < high
    assert interval(np.ones(9), np.full(9, 0.75)) == pytest.approx((25, 25))


def test_a_fact_counts_once_whichever_of_its_tellings_is_returned() -> None:
    said = {"a": ("Otter", "It sleeps."), "a#2": ("Otter", "it sleeps"), "b": ("Lynx", "It sleeps.")}
    question = Question("who sleeps?", (("a", "a#2"), ("b",)))
    assert found_share(question, said, {("Otter", "it sleeps"), ("Otter", "It sleeps.")}) == 0.5
    assert found_share(question, said, {("Otter", "it sleeps"), ("Lynx", "It sleeps.")}) == 1.0
    assert found_share(question, said, {("Raven", "It sleeps.")}) == 0.0


def test_a_query_costs_one_product_a_slot_and_one_a_facet_that_is_looked_into() -> None:
    assert products(FLAT) == 100
    assert nodes_of(PACKED) == 10
    # All 6 containers are opened, as there are fewer than 20.
    assert products(PACKED) == 10 + 96
    many = GetStatsResponse(memories=1000, vectors=1000, facets=1000, containers=100)
    assert products(many) == 100 + 20 * 10


def test_figures_compare_with_the_better_of_the_memory_as_it_was_and_less_its_copies() -> None:
    whole, less_copies = Read(BEFORE, [1.0]), Read(np.array([1.0, 1.0, 1.0, 0.0]), [1.0])
    night = Night(Dream(), 10)
    by_name = {plan.name: plan for plan in PLANS}
    after = Asked(Read(np.array([1.0, 1.0, 0.25, 0.0]), [1.0]), Read(BEFORE, [1.0]))
    compared = [
        Compared(by_name["10"], SET, Asked(whole, whole), after, [night], FLAT, PACKED),
        Compared(by_name[FLAT_ONLY], SET, Asked(whole, whole), Asked(less_copies, less_copies), [night], FLAT, FLAT),
    ]
    assert retention.figures_of(compared) == pytest.approx(
        {
            "loss_pct_10_locomo_dev": 10,
            "loss_pct_dense_10_locomo_dev": 0,
            "bytes_ratio_10_locomo_dev": 5,
            "query_cost_ratio_10_locomo_dev": 100 / 106,
            "loss_vs_dedup_pct_10_locomo_dev": 25,
        }
    )
    assert compared[0].shown()["node_ratio"] == 10


def test_plans_differ_in_what_their_configuration_says() -> None:
    configs = [plan.config("") for plan in PLANS]
    assert len(set(configs)) == len(PLANS)
    assert "facet_bits = 2" in next(plan for plan in PLANS if plan.name == "10_2bit").config("")
    assert "topics = false" in next(plan for plan in PLANS if plan.name == FLAT_ONLY).config("")
    assert '[embedder]\npath = "/a b"' in retention.MINILM_PLAN.config("/a b")


def test_an_answer_has_room_for_all_that_fits_the_budget() -> None:
    # The shortest chat turn is three tokens with its speaker's name.
    assert max(retention.TOKEN_BUDGETS["locomo_dev"] / 3, retention.TOKEN_BUDGETS["hotpotqa"] / 11) < asking.LIMIT
