"""`dreamsvc dreams --trend` and `--plot`: how nights went over time."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsvc.__main__ import main
from dreamsvc.cli import trend, trend_drawing
from dreamsvc.cli.command import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import (
    Compression,
    Criterion,
    Dream,
    DreamReport,
    Exploration,
    Linking,
    PseudoQueries,
    Quality,
    Retention,
)
from dreamsvc.v1.dream_service_pb2 import ListDreamsResponse
from tests.clients.fake_server import FakeServer

DAY_S = 86_400


def a_night(number: int, state: Dream.State.ValueType = Dream.STATE_SUCCEEDED, **report: Any) -> Dream:
    probe = PseudoQueries(
        measured=True, single=100, single_before=0.8, single_after=0.8, pairs=100, pairs_before=0.4, pairs_after=0.6
    )
    told = DreamReport(
        nodes_replayed=100 + number,
        edges_strengthened=10 * number,
        nrem_seconds=3,
        rem_seconds=2,
        busy_share=0.3,
        compression=Compression(retention=Retention(measured=True, before=0.9, after=0.88, information_loss=0.02)),
        exploration=Exploration(queries=100, verified=number, linking=Linking(links=5, probe=probe)),
        quality=Quality(
            overall_score=0.5 + number / 100,
            grade=dream_pb2.QUALITY_GRADE_FAIR,
            criteria=[Criterion(name="compression", measured=True, value=9.5, required=5)],
        ),
    )
    for name, value in report.items():
        setattr(told, name, value)
    night = Dream(id=f"d{number}", state=state, report=told)
    night.start_time.FromSeconds(1_790_000_000 + number * DAY_S)
    return night


def a_history(count: int = 5) -> list[Dream]:
    """The oldest first; the third one failed."""
    return [a_night(i, Dream.STATE_FAILED if i == 2 else Dream.STATE_SUCCEEDED) for i in range(count)]


@given(st.lists(st.none() | st.floats(-1e9, 1e9), max_size=60))
def test_a_sparkline_has_a_sign_for_each_night_the_higher_the_more(values: list[float | None]) -> None:
    line = trend.sparkline(values)
    assert len(line) == len(values)
    assert [sign == trend.ABSENT for sign in line] == [value is None for value in values]
    bars = sorted(
        (value, trend.BARS.index(sign)) for value, sign in zip(values, line, strict=True) if value is not None
    )
    assert [bar for _, bar in bars] == sorted(bar for _, bar in bars)
    if len({value for value, _ in bars}) > 1:
        assert bars[0][1] == 0
        assert bars[-1][1] == len(trend.BARS) - 1


def test_what_a_night_did_not_measure_is_absent_and_not_zero() -> None:
    (night,) = trend.nights_of([Dream(state=Dream.STATE_SUCCEEDED)])
    assert night.score is night.recall_before is night.retention_after is night.wake_latency_ms is night.links is None
    names = [row.name for row in trend.rows([night])]
    assert "score" not in names
    assert "replayed" in names


def test_recall_is_that_of_all_questions_together_and_stays_where_links_were_refused() -> None:
    (night,) = trend.nights_of([a_night(1)])
    assert (night.recall_before, night.recall_after) == (pytest.approx(0.6), pytest.approx(0.7))
    refused = a_night(1)
    refused.report.exploration.linking.refused = True
    (night,) = trend.nights_of([refused])
    assert night.recall_after == night.recall_before


def test_the_trend_has_a_row_for_each_metric_from_the_oldest_night_to_the_newest(
    fake: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    newest_first = a_history()[::-1]
    fake.answers(
        "ListDreams",
        ListDreamsResponse(dreams=newest_first[:3], next_page_token="t"),
        ListDreamsResponse(dreams=newest_first[3:]),
    )
    assert main(["dreams", "--trend", "--server", fake.target]) == EXIT_OK
    first, _, *rows = capsys.readouterr().out.splitlines()
    assert first == "5 nights from 2026-09-21 to 2026-09-25: 4 succeeded, 1 failed"
    score = next(row.split() for row in rows if row.startswith("score"))
    assert score[1:] == ["0.54", "0.52", "0.50", "0.54", "▁▃▇█"]
    assert next(row.split() for row in rows if row.startswith("recall@5 after"))[2:4] == ["70.0", "%"]
    assert [request.page_token for request in fake.sent("ListDreams")] == ["", "t"]


def test_the_trend_as_json_has_the_numbers_of_each_night(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("ListDreams", ListDreamsResponse(dreams=a_history()[::-1]))
    assert main(["dreams", "--trend", "--json", "--server", fake.target]) == EXIT_OK
    nights = json.loads(capsys.readouterr().out)["nights"]
    assert [night["dream_id"] for night in nights] == ["d0", "d1", "d3", "d4"]
    assert (nights[0]["score"], nights[0]["wake_latency_ms"]) == (0.5, None)


@pytest.mark.parametrize(("name", "magic"), [("nights.png", b"\x89PNG"), ("nights.svg", b"<?xml")])
def test_a_plot_is_a_picture(fake: FakeServer, tmp_path: Path, name: str, magic: bytes) -> None:
    fake.answers("ListDreams", ListDreamsResponse(dreams=a_history()[::-1]))
    assert main(["dreams", "--plot", str(tmp_path / name), "--server", fake.target]) == EXIT_OK
    assert (tmp_path / name).read_bytes().startswith(magic)


@pytest.mark.parametrize(
    "dreams",
    [
        [a_night(0)],
        [Dream(state=Dream.STATE_SUCCEEDED)],
        [
            Dream(state=Dream.STATE_SUCCEEDED),
            a_night(1, Dream.STATE_FAILED),
            a_night(300, wakes=1, wake_latency_ms=900),
        ],
        [a_night(i, edges_pruned=i * 1000) for i in range(120)],
    ],
    ids=["one", "nothing measured", "years and a failure", "many"],
)
def test_any_history_can_be_drawn_and_equal_ones_are_drawn_equal(dreams: list[Dream]) -> None:
    assert trend_drawing.draw(dreams, "default", "svg") == trend_drawing.draw(dreams, "default", "svg")


def test_a_picture_says_what_failed_and_which_days_it_is_of() -> None:
    drawn = trend_drawing.draw(a_history(), "notes", "svg").decode()
    for text in ("Nights of the space notes", "1 failed; bands are nights that failed", "09-21", "budget, 100 ms"):
        assert text in drawn


def test_where_nothing_was_applied_there_is_no_trend(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("ListDreams", ListDreamsResponse(dreams=[a_night(0, Dream.STATE_FAILED)]))
    assert main(["dreams", "--trend", "--server", fake.target]) == EXIT_FAILED
    assert "no night was applied yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [["--plot", "nights.gif"], ["--trend", "--state", "failed"], ["--trend", "--page-token", "t"]]
)
def test_what_makes_no_sense_is_wrong_usage(fake: FakeServer, options: list[str]) -> None:
    assert main(["dreams", *options, "--server", fake.target]) == EXIT_USAGE
    assert not fake.sent("ListDreams")


def test_times_are_sent_as_they_were_told_and_stay_on_the_next_page(
    fake: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers("ListDreams", ListDreamsResponse(dreams=[a_night(0)], next_page_token="t2"))
    assert main(["dreams", "--after", "2026-09-01", "--limit", "1", "--server", fake.target]) == EXIT_OK
    (request,) = fake.sent("ListDreams")
    assert (request.after.seconds, request.HasField("before")) == (1_788_220_800, False)
    more = capsys.readouterr().out.splitlines()[-1]
    assert more == "more: dreamsvc dreams --after 2026-09-01T00:00:00.000000Z --page-token t2"
