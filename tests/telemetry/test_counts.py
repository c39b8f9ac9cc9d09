"""What is counted of calls, wakes and nights."""

from hypothesis import given
from hypothesis import strategies as st

from dreamsvc.telemetry.counts import ENDS, OTHER, Counts, NightEnd, Spaces
from dreamsvc.telemetry.histogram import Exemplar, Histogram
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Compression, Dream, DreamReport, Merging


def a_night(space: str = "default", state: int = Dream.STATE_SUCCEEDED, **fields: object) -> Dream:
    report = DreamReport(
        nodes_replayed=7,
        seconds=5,
        nrem_seconds=3,
        rem_seconds=2,
        compression=Compression(merging=[Merging(containers=2, members=9), Merging(containers=1, members=4)]),
    )
    return Dream(
        id="0",
        space=space,
        state=state,
        phase=dream_pb2.DREAM_PHASE_FULL_CYCLE,
        triggered_by=dream_pb2.TRIGGERED_BY_IDLE,
        end_reason=dream_pb2.END_REASON_CONVERGED,
        report=report,
        **fields,
    )


@given(st.lists(st.floats(0, 200)))
def test_every_value_is_in_one_bucket_and_none_is_lost(values: list[float]) -> None:
    histogram = Histogram((0.5, 1.0, 100.0))
    for value in values:
        histogram.note(value)
    buckets = list(histogram.buckets())
    assert [bucket.up_to for bucket in buckets] == [sum(v <= edge for v in values) for edge in (0.5, 1, 100, 1e9)]


def test_a_bucket_keeps_the_last_trace_that_fell_into_it() -> None:
    histogram = Histogram((1.0,))
    for trace in ("a", "b"):
        histogram.note(0.5, Exemplar(0.5, trace, 0))
    histogram.note(0.7)
    assert [bucket.exemplar and bucket.exemplar.trace_id for bucket in histogram.buckets()] == ["b", None]


def test_only_so_many_spaces_have_a_label_of_their_own() -> None:
    spaces = Spaces(2)
    assert [spaces.label(name) for name in ("a", "b", "c", "a", "d")] == ["a", "b", OTHER, "a", OTHER]


def test_a_night_that_succeeds_adds_up_what_it_did_by_its_space() -> None:
    counts = Counts(Spaces(1))
    for space in ("one", "one", "two"):
        counts.night_over(a_night(space))
    assert counts.dreamed["one"]["memories_replayed"] == 14
    assert counts.dreamed["one"]["nodes_merged"] == 26
    assert counts.dreamed[OTHER]["clusters_consolidated"] == 3
    assert counts.nights[NightEnd("succeeded", "idle")] == 3
    assert counts.end_reasons["converged"] == 3
    assert counts.night_s["rem"].sum == 6
    # There is no last night of spaces that are counted together.
    assert counts.last.keys() == {"one"}


def test_a_night_that_fails_is_counted_and_adds_nothing_and_a_dry_run_is_none() -> None:
    counts = Counts(Spaces(9))
    counts.night_over(a_night(state=Dream.STATE_FAILED))
    counts.night_over(a_night(dry_run=True))
    assert counts.nights[NightEnd("failed", "idle")] == counts.nights.total() == 1
    assert not counts.dreamed
    assert not counts.last


def test_every_state_that_a_night_can_end_in_stands_at_nought_from_the_start() -> None:
    ended = {name.removeprefix("STATE_").lower() for name in Dream.State.keys()[1:]}
    assert set(ENDS) == ended - {"running", "folding", "reverted", "reverting"}
    assert {end.state for end in Counts(Spaces(1)).nights} == set(ENDS)


def test_wakes_are_counted_by_reason_with_the_dreamers_that_were_killed() -> None:
    counts = Counts(Spaces(1))
    counts.woken(0.02, dream_pb2.WAKE_REASON_USER_QUERY, killed=False)
    counts.woken(0.09, dream_pb2.WAKE_REASON_USER_QUERY, killed=True)
    assert (counts.wakes["user_query"], counts.kills, round(counts.wake_s.sum, 6)) == (2, 1, 0.11)


def test_calls_are_counted_by_code_and_errors_by_reason() -> None:
    counts = Counts(Spaces(1))
    for code, reason in (("OK", ""), ("NOT_FOUND", "NOT_FOUND"), ("CANCELLED", "")):
        counts.call_ended("A/B", code, 0.01, reason, None)
    assert counts.calls == {("A/B", "OK"): 1, ("A/B", "NOT_FOUND"): 1, ("A/B", "CANCELLED"): 1}
    assert counts.errors == {("A/B", "NOT_FOUND"): 1}
    assert next(iter(counts.call_s["A/B"].buckets())).up_to == 0
