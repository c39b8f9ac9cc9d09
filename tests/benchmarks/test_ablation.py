"""What a variant switches on and off, and how what it found is counted, by hand."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

from benchmarks import ablation
from benchmarks.ablation import QUICK, Found, Slept
from benchmarks.ablation_variants import ALL, ALWAYS, EVERYTHING, NOTHING, VARIANTS, Variant
from benchmarks.asking import Night
from benchmarks.evaluation_sets import EvaluationSet, Fact, Question
from benchmarks.lifts import Recalls
from dreamsvc import config
from dreamsvc.cli import output
from dreamsvc.v1.dream_pb2 import DREAM_PHASE_FULL_CYCLE, DREAM_PHASE_NREM, DREAM_PHASE_REM, Dream
from dreamsvc.v1.memory_service_pb2 import GetStatsResponse
from tests.benchmarks.small_sets import write_lines

BY_NAME = {variant.name: variant for variant in VARIANTS}
SET = EvaluationSet(
    "hotpotqa",
    (Fact("a", "Otter", "It sleeps.", ""),) * 100,
    tuple(Question(f"{number}?", (("a",),)) for number in range(50)),
    1024,
)
BEFORE = np.array([1.0, 0.5, 0.5, 0.0])
AFTER = np.array([1.0, 1.0, 0.5, 0.5])


def slept(variant: Variant, first: np.ndarray, text: np.ndarray, stats: GetStatsResponse) -> Slept:
    return Slept(variant, SET, Night(Dream(), 30), stats, Found(Recalls({2: first, 5: first, 10: first}), text))


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_the_service_takes_the_configuration_of_every_variant(variant: Variant) -> None:
    read = config.parse(tomllib.loads(variant.config()))
    assert not read.dream.trigger.automatic
    assert read.dream.resources.max_gpu_usage == 1
    assert read.dream.linking.enabled == bool(variant.parts & {"mentions", "entities", "adjacency"})
    assert read.dream.consolidation.topics == ("topics" in variant.parts)
    assert (read.recall.walk_weight > 0) == ("walk" in variant.parts)
    assert (read.dream.nrem.learning_rate > 0) == ("replay" in variant.parts)


def test_all_leaves_everything_as_it_comes() -> None:
    assert BY_NAME[ALL].parts == EVERYTHING
    assert BY_NAME[ALL].settings == ALWAYS


def test_no_two_nights_are_the_same() -> None:
    assert len(BY_NAME) == len(VARIANTS)
    assert len({(variant.config(), variant.phase, variant.after, variant.used) for variant in VARIANTS}) == len(
        VARIANTS
    )


def test_every_part_stands_alone_somewhere_with_no_more_than_it_needs() -> None:
    for part in EVERYTHING - {"index"}:
        assert part in BY_NAME[f"only_{part}"].parts
    assert BY_NAME["only_redundancy"].parts == {"redundancy", "index", "walk"}
    assert BY_NAME["only_mentions"].parts == {"mentions", "words", "vectors", "index", "walk"}
    assert BY_NAME["only_words"].parts == {"mentions", "entities", "adjacency", "words", "index"}


def test_what_is_left_out_is_all_that_is_missing() -> None:
    assert BY_NAME["no_topics"].parts == EVERYTHING - {"topics"}
    assert BY_NAME["no_walk"].settings == {**ALWAYS, "recall.walk_weight": 0}
    assert EVERYTHING - BY_NAME["no_linking"].parts == {"mentions", "entities", "adjacency", "words", "vectors"}


def test_a_variant_sleeps_the_phases_that_its_parts_are_of() -> None:
    assert BY_NAME[NOTHING].phase is None
    assert BY_NAME[ALL].phase == DREAM_PHASE_FULL_CYCLE
    assert {BY_NAME[f"only_{part}"].phase for part in ("replay", "topics", "schemas")} == {DREAM_PHASE_NREM}
    assert {BY_NAME[f"only_{part}"].phase for part in ("linking", "walk", "exploring")} == {DREAM_PHASE_REM}
    assert BY_NAME["no_linking"].phase == DREAM_PHASE_FULL_CYCLE
    assert BY_NAME["then_replay"].phase == DREAM_PHASE_NREM
    assert BY_NAME["then_walk"].phase is None


SECOND = ["then_walk", "then_replay", "used_replay", "then_shortcuts"]


def test_what_comes_second_comes_after_a_variant_before_it() -> None:
    names = [variant.name for variant in VARIANTS]
    assert [variant.name for variant in VARIANTS if variant.after] == SECOND
    for variant in VARIANTS:
        assert not variant.after or variant.after in names[: names.index(variant.name)]


def test_a_difference_is_in_points_and_its_interval_is_over_questions() -> None:
    points, low, high = ablation.difference(BEFORE, AFTER)
    assert points == pytest.approx(25)
    # Of four questions two rose by a half: no draw rises by more than 50 points, or falls.
    assert 0 <= low < 25 < high <= 50
    assert ablation.difference(np.zeros(9), np.full(9, 0.25)) == pytest.approx((25, 25, 25))
    assert ablation.difference(AFTER, BEFORE)[0] == pytest.approx(-25)


def test_figures_are_shares_in_percent_and_nodes_over_those_before() -> None:
    # 20 stand for themselves, 80 lie in 10 containers.
    packed = GetStatsResponse(memories=100, facets=80, containers=10, edges=7)
    nothing = slept(BY_NAME[NOTHING], BEFORE, BEFORE, GetStatsResponse(memories=100))
    whole = slept(BY_NAME[ALL], AFTER, np.ones(4), packed)
    assert ablation.figures_of([nothing, whole]) == pytest.approx(
        {
            "r5_pct_nothing_hotpotqa": 50,
            "text_pct_nothing_hotpotqa": 50,
            "nodes_ratio_nothing_hotpotqa": 1,
            "r5_pct_all_hotpotqa": 75,
            "text_pct_all_hotpotqa": 100,
            "nodes_ratio_all_hotpotqa": 0.3,
        }
    )
    told = ablation.shown(whole, nothing)
    assert (told["r5_points"], told["text_points"]) == (25, 50)
    assert (told["questions_better"], told["questions_worse"]) == (2, 0)
    assert told["edges"] == 7


def test_questions_are_drawn_the_same_each_time_and_stay_in_order() -> None:
    drawn = ablation.sampled(SET, 10)
    assert drawn == ablation.sampled(SET, 10)
    places = [SET.questions.index(question) for question in drawn.questions]
    assert places == sorted(set(places))
    assert len(places) == 10
    assert ablation.sampled(SET, 50) is SET


def write_linked_set(directory: Path, name: str) -> None:
    """20 towns with a river each, and 20 people, whose texts name the town they were born in."""
    places = [
        f"{start}{end}" for start in ("Bel", "Cor", "Dun", "Fal", "Gor") for end in ("mira", "vek", "toth", "una")
    ]
    towns = [
        {
            "id": f"t{number}",
            "title": place,
            "text": f"A town at the river Ald{place.lower()}, with a market on Mondays.",
        }
        for number, place in enumerate(places)
    ]
    people = [
        {
            "id": f"p{number}",
            "title": f"Ana {place[::-1].title()}",
            "text": f"Painter, born in {place}, plays the flute.",
        }
        for number, place in enumerate(places)
    ]
    questions = [
        {
            "id": f"q{number}",
            "question": f"at which river was {one['title']} born?",
            "gold": [f"p{number}", f"t{number}"],
        }
        for number, one in enumerate(people)
    ]
    write_lines(directory / f"{name}.corpus.jsonl.gz", towns + people)
    write_lines(directory / f"{name}.queries.jsonl.gz", questions)


@pytest.mark.integration
def test_a_quick_run_measures_a_whole_night_and_one_after_it(tmp_path: Path) -> None:
    write_linked_set(tmp_path, "hotpotqa")
    measured = ablation.run(True, output.console(), tmp_path)
    figures, optional = set(measured.figures), set(ablation.BENCHMARK.optional)
    assert figures == {f"{what}_{name}_hotpotqa" for what in ("r5_pct", "text_pct", "nodes_ratio") for name in QUICK}
    assert figures | optional == set(ablation.FIGURES)
    assert not figures & optional
    assert measured.figures["nodes_ratio_nothing_hotpotqa"] == 1
    assert measured.figures["nodes_ratio_all_hotpotqa"] < 0.5
    # People are found by their names, and towns by their links to them.
    assert measured.figures["r5_pct_nothing_hotpotqa"] < 75
    assert measured.figures["r5_pct_all_hotpotqa"] > 90
    nights = measured.detail["sets"]["hotpotqa"]
    assert list(nights) == list(QUICK)
    assert "phase" not in nights[NOTHING]
    assert nights[NOTHING]["edges"] == 0
    assert nights[ALL]["phase"] == "DREAM_PHASE_FULL_CYCLE"
    assert nights[ALL]["links"]["mentions"] == 20
    # The second night goes on with what the first one made.
    assert nights["then_replay"]["phase"] == "DREAM_PHASE_NREM"
    assert nights["then_replay"]["nodes"] == nights[ALL]["nodes"]
    assert nights["then_replay"]["replays"] == 40
    assert nights["then_replay"]["edges"] == nights[ALL]["edges"]
