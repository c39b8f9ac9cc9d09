"""The score of a night, its criteria, and what it advises (REQ-DREAM-022)."""

import pytest

from dreamsvc import config
from dreamsvc.dream import quality
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Compression, DreamReport, Exploration, Lift, Linking, PseudoQueries, Retention

CONFIG = config.defaults().dream


def a_night(
    *, after: int = 100, loss: float = 0.02, loss_high: float = 0.04, finds: int = 8, queries: int = 100
) -> DreamReport:
    retention = Retention(measured=True, before=0.9, after=0.88, information_loss=loss, loss_high=loss_high)
    return DreamReport(
        compression=Compression(nodes_after=after, retention=retention),
        exploration=Exploration(queries=queries, verified=finds),
    )


def test_the_score_is_the_weighted_sum_of_its_criteria() -> None:
    found = quality.assess(a_night(after=125, finds=4), 1000, CONFIG)
    by_name = {one.name: one for one in found.criteria}
    assert [one.name for one in found.criteria] == ["compression", "exploration", "preservation"]
    assert by_name["compression"].value == pytest.approx(8)
    assert by_name["exploration"].score == pytest.approx(0.8)
    assert by_name["preservation"].score == pytest.approx(0.98)
    assert found.overall_score == pytest.approx(0.3 * 0.8 + 0.3 * 0.8 + 0.4 * 0.98)
    assert sum(one.share for one in found.criteria) == pytest.approx(1)
    assert (found.compression_achieved, found.exploration_adequate, found.information_preserved) == (True, False, True)


@pytest.mark.parametrize(
    ("after", "loss", "finds", "grade"),
    [
        (100, 0.0, 5, dream_pb2.QUALITY_GRADE_EXCELLENT),
        (250, 0.02, 5, dream_pb2.QUALITY_GRADE_GOOD),
        (500, 0.02, 2, dream_pb2.QUALITY_GRADE_FAIR),
        (1000, 0.1, 0, dream_pb2.QUALITY_GRADE_POOR),
    ],
)
def test_the_grade_follows_the_score(after: int, loss: float, finds: int, grade: int) -> None:
    assert quality.assess(a_night(after=after, loss=loss, finds=finds), 1000, CONFIG).grade == grade


def test_what_was_not_measured_counts_neither_for_nor_against() -> None:
    night = a_night(queries=0)
    found = quality.assess(night, 1000, CONFIG)
    assert list(found.not_measured) == ["exploration"]
    assert found.overall_score == pytest.approx((0.3 * 1 + 0.4 * 0.98) / 0.7)
    nothing = quality.assess(DreamReport(), 0, CONFIG)
    assert (nothing.grade, nothing.overall_score) == (dream_pb2.QUALITY_GRADE_UNSPECIFIED, 0)
    assert list(nothing.not_measured) == ["compression", "exploration", "preservation"]


def test_whatever_is_missed_has_advice_and_what_is_reached_has_none() -> None:
    assert list(quality.assess(a_night(), 1000, CONFIG).recommendations) == []
    bad = quality.assess(a_night(after=900, loss=0.2, loss_high=0.3, finds=1), 1000, CONFIG)
    assert len(bad.recommendations) == 3
    refused = a_night()
    refused.compression.retention.refused = True
    assert "facet_bits" in quality.assess(refused, 1000, CONFIG).recommendations[0]


def test_information_counts_as_preserved_by_the_upper_end_of_the_interval() -> None:
    assert not quality.assess(a_night(loss=0.1, loss_high=0.2), 1000, CONFIG).information_preserved


def probed(**changes: bool) -> DreamReport:
    probe = PseudoQueries(
        measured=True, single=100, single_before=0.9, single_after=0.9, pairs=300, pairs_before=0.5, pairs_after=0.7
    )
    return DreamReport(exploration=Exploration(linking=Linking(probe=probe, **changes)))


def test_the_improvement_is_what_the_probes_find_more_weighted_by_their_queries() -> None:
    assert quality.improvement(probed()) == pytest.approx(0.15)
    # Nothing of the links is kept then.
    assert quality.improvement(probed(refused=True)) == 0
    assert quality.improvement(DreamReport()) is None
    edges = Exploration(lift=Lift(measured=True, lift_points=1.5))
    assert quality.improvement(DreamReport(exploration=edges)) == pytest.approx(0.015)
    edges.edges_refused = True
    assert quality.improvement(DreamReport(exploration=edges)) == 0
    compression = Compression(lift=Lift(measured=True, lift_points=-2))
    assert quality.improvement(DreamReport(compression=compression)) == pytest.approx(-0.02)


def test_an_improvement_that_was_not_measured_is_absent_and_not_zero() -> None:
    assert not quality.assess(a_night(), 1000, CONFIG).HasField("quality_improvement")
    assert quality.assess(probed(), 1000, CONFIG).HasField("quality_improvement")
