"""`dreamsvc dream`, `abort`, `dreams` and `status`: what is sent, shown, and how they end."""

import json

import pytest

from dreamsvc.__main__ import main
from dreamsvc.cli.command import (
    EXIT_DREAM_BROKEN_OFF,
    EXIT_INTERRUPTED,
    EXIT_NOTHING_TO_DREAM,
    EXIT_OK,
)
from dreamsvc.v1.dream_pb2 import (
    DREAM_PHASE_FULL_CYCLE,
    DREAM_PHASE_NREM,
    SLEEP_STATE_AWAKE,
    SLEEP_STATE_NREM,
    SLEEP_STATE_WAKING,
    SUB_PHASE_HEBBIAN_REPLAY,
    WAKE_REASON_USER_QUERY,
    Dream,
    DreamReport,
    Progress,
)
from dreamsvc.v1.dream_service_pb2 import (
    AbortResponse,
    Closing,
    GetDreamResponse,
    GetStatusResponse,
    ListDreamsResponse,
    PresentState,
    ProgressMade,
    RevertResponse,
    StateChange,
    StreamStatusResponse,
    TriggerResponse,
    WakeLatency,
)
from dreamsvc.v1.memory_service_pb2 import GetStatsResponse
from tests.clients.fake_server import FakeServer

REPORT = DreamReport(nodes_replayed=7, edges_strengthened=5, edges_pruned=1, wakes=1, wake_latency_ms=3.2, device="cpu")


def dream(state: Dream.State.ValueType, fraction: float = 0.0) -> Dream:
    progress = Progress(
        phase=DREAM_PHASE_NREM, sub_phase=SUB_PHASE_HEBBIAN_REPLAY, done=12, total=40, fraction=fraction, eta_seconds=4
    )
    return Dream(id="d1", state=state, phase=DREAM_PHASE_NREM, seed=7, progress=progress, report=REPORT)


RUNNING = Dream.STATE_RUNNING
STATES = [
    (Dream.STATE_SUCCEEDED, EXIT_OK),
    (Dream.STATE_FAILED, EXIT_DREAM_BROKEN_OFF),
    (Dream.STATE_SUSPENDED, EXIT_DREAM_BROKEN_OFF),
    (Dream.STATE_DISCARDED, EXIT_DREAM_BROKEN_OFF),
    (Dream.STATE_SKIPPED, EXIT_NOTHING_TO_DREAM),
]


def night(end: Dream.State.ValueType) -> list[StreamStatusResponse]:
    waking = StateChange(to=SLEEP_STATE_AWAKE, wake_reason=WAKE_REASON_USER_QUERY, wake_latency_ms=3.14)
    setattr(waking, "from", SLEEP_STATE_WAKING)
    events = [
        StreamStatusResponse(dream=dream(RUNNING), present=PresentState()),
        StreamStatusResponse(dream=dream(RUNNING, 0.31), progress_made=ProgressMade()),
        StreamStatusResponse(dream=dream(RUNNING, 0.35), progress_made=ProgressMade()),
        StreamStatusResponse(dream=dream(RUNNING, 0.4), state_change=waking),
        StreamStatusResponse(dream=dream(end, 0.4), closing=Closing(reason=Closing.REASON_DREAM_ENDED)),
    ]
    for sequence, event in enumerate(events, 1):
        event.sequence = sequence
        event.time.seconds = 1_800_000_000 + sequence
        event.sleep_state = SLEEP_STATE_NREM
    return events


def test_dream_sends_what_its_options_say(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("Trigger", TriggerResponse(dream=dream(RUNNING)))
    options = "--space s --phase full --budget 1m30s --seed 0 --queries 50 --dry-run --fresh --no-abort-on-query --wait"
    assert main(["dream", *options.split(), "--server", fake.target]) == EXIT_OK
    (sent,) = fake.sent("Trigger")
    assert (sent.space, sent.phase, sent.budget.seconds) == ("s", DREAM_PHASE_FULL_CYCLE, 90)
    assert (sent.seed, sent.synthetic_query_count, sent.abort_on_query) == (0, 50, False)
    assert sent.HasField("seed")
    assert sent.HasField("abort_on_query")
    assert sent.dry_run
    assert sent.fresh
    assert sent.blocking


def test_dream_without_options_leaves_the_choice_to_the_server(
    fake: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers("Trigger", TriggerResponse(dream=dream(RUNNING), resumed=True))
    assert main(["dream", "--server", fake.target]) == EXIT_OK
    (sent,) = fake.sent("Trigger")
    assert not any(sent.HasField(name) for name in ("budget", "seed", "synthetic_query_count", "abort_on_query"))
    told = capsys.readouterr().out
    assert "dream d1 goes on (seed 7" in told
    assert "dreamsvc abort" in told


@pytest.mark.parametrize(("state", "code"), STATES)
def test_waiting_ends_with_the_code_of_the_dreams_end(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], state: Dream.State.ValueType, code: int
) -> None:
    fake.answers("Trigger", TriggerResponse(dream=dream(state)))
    assert main(["dream", "--wait", "--json", "--server", fake.target]) == code
    answer = json.loads(capsys.readouterr().out)
    assert answer["dream"]["state"] == f"STATE_{Dream.State.Name(state).removeprefix('STATE_')}"
    assert answer["dream"]["report"]["edges_weakened"] == "0"


@pytest.mark.parametrize(("state", "code"), STATES)
def test_watching_ends_with_the_code_of_the_dreams_end(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], state: Dream.State.ValueType, code: int
) -> None:
    fake.answers("Trigger", TriggerResponse(dream=dream(RUNNING)))
    fake.streams("StreamStatus", night(state))
    assert main(["dream", "--watch", "--server", fake.target]) == code
    assert fake.sent("StreamStatus")[0].dream_id == "d1"


def test_a_watch_into_a_file_prints_a_line_for_each_change_and_the_report(
    fake: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers("Trigger", TriggerResponse(dream=dream(RUNNING)))
    fake.streams("StreamStatus", night(Dream.STATE_SUCCEEDED))
    main(["dream", "--watch", "--server", fake.target])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:4] == [
        "08:00:01  running: nrem, hebbian replay, 12/40, 0 %, 4.0 s left",
        "08:00:02  running: nrem, hebbian replay, 12/40, 31 %, 4.0 s left",
        "08:00:04  waking -> awake (user query, 3.1 ms)",
    ]
    assert any(line.split() == ["strengthened", "5"] for line in lines)


def test_a_watch_in_json_prints_every_event_on_a_line(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("Trigger", TriggerResponse(dream=dream(RUNNING)))
    fake.streams("StreamStatus", night(Dream.STATE_SUCCEEDED))
    assert main(["dream", "--watch", "--json", "--server", fake.target]) == EXIT_OK
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["sequence"] for event in events] == ["1", "2", "3", "4", "5"]
    assert events[3]["state_change"]["wake_latency_ms"] == 3.14
    assert events[4]["dream"]["report"]["nodes_replayed"] == "7"


def test_ctrl_c_stops_watching_only_and_says_how_to_abort(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dreamsvc_client.Client.watch", interrupted)
    fake.answers("Trigger", TriggerResponse(dream=dream(RUNNING)))
    assert main(["dream", "--watch", "--server", fake.target]) == EXIT_INTERRUPTED
    assert "`dreamsvc abort` ends it" in capsys.readouterr().err
    assert fake.sent("Abort") == []


def test_status_can_watch_whatever_dreams(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.streams("StreamStatus", night(Dream.STATE_SUCCEEDED))
    assert main(["status", "--watch", "--server", fake.target]) == EXIT_OK
    assert fake.sent("StreamStatus")[0].dream_id == ""


def test_status_tells_why_it_does_not_dream(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    status = GetStatusResponse(
        sleep_state=SLEEP_STATE_AWAKE,
        why_not_dreaming="a call came 3 s ago",
        suspended_dream=dream(Dream.STATE_SUSPENDED, 0.5),
        embedder="none",
        embedder_notice="wordllama is not installed",
        wake_latency=WakeLatency(count=2, p50_ms=3, p95_ms=4, p99_ms=4, max_ms=4.25),
    )
    fake.answers("GetStatus", status)
    fake.answers("GetStats", GetStatsResponse(memories=1, on_hold=True))
    fake.answers("ListDreams", ListDreamsResponse())
    assert main(["status", "--server", fake.target]) == EXIT_OK
    told = capsys.readouterr().out
    assert "\nmemories          1\n" in told
    assert "dreams and purges leave this space alone" in told
    assert "\nproposal" not in told
    assert "a call came 3 s ago" in told
    assert "d1, suspended: nrem, hebbian replay, 12/40, 50 %" in told
    assert "none (wordllama is not installed)" in told
    assert "2: p50 3.0, p95 4.0, p99 4.0, max 4.2 ms" in told


def test_status_shows_a_proposal_that_waits_and_what_containers_hold(
    fake: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = Dream(id="d2", state=Dream.STATE_PROPOSED)
    waiting.end_time.seconds = 1_800_000_000
    fake.answers("GetStatus", GetStatusResponse(last_dream=waiting))
    fake.answers("GetStats", GetStatsResponse(memories=1330, containers=130, facets=1100))
    fake.answers("ListDreams", ListDreamsResponse(dreams=[waiting]))
    assert main(["status", "--server", fake.target]) == EXIT_OK
    told = capsys.readouterr().out
    assert "waits to be approved since 2027-01-15 08:00:00Z; `dreamsvc diff d2` shows what it would do" in told
    assert "d2, proposed: nothing of it is applied yet" in told
    assert "1,330; 130 containers hold 1,100 of them as facets" in told
    assert list(fake.sent("ListDreams")[0].states) == [Dream.STATE_PROPOSED]


def test_status_in_json_is_the_status_alone(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("GetStatus", GetStatusResponse(version="9.9"))
    assert main(["status", "--json", "--server", fake.target]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["version"] == "9.9"
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            RevertResponse(dream=Dream(id="d1"), edges_restored=1, memories_restored=1200),
            "dream d1 is taken back: 1,200 memories and 1 edge are as before\n",
        ),
        (
            RevertResponse(dream=Dream(id="d1"), memories_removed=2, edges_removed=1),
            "dream d1 is taken back: 0 memories and 0 edges are as before; 2 memories and 1 edge that it had made "
            "are gone\n",
        ),
        (
            RevertResponse(dream=Dream(id="d1"), edges_removed=3),
            "dream d1 is taken back: 0 memories and 0 edges are as before; 3 edges that it had made are gone\n",
        ),
    ],
)
def test_revert_tells_what_is_back_and_what_is_gone(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], answer: RevertResponse, told: str
) -> None:
    fake.answers("Revert", answer)
    assert main(["revert", "d1", "--server", fake.target]) == EXIT_OK
    assert capsys.readouterr().out == told


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (AbortResponse(), "nothing dreamed\n"),
        (
            AbortResponse(was_dreaming=True, wake_latency_ms=3.21, dream=dream(Dream.STATE_SUSPENDED)),
            "awake after 3.2 ms; dream d1: the next trigger goes on with it\n",
        ),
        (
            AbortResponse(was_dreaming=True, wake_latency_ms=99, killed=True, dream=dream(Dream.STATE_DISCARDED)),
            "awake after 99.0 ms; the dreamer missed its time and was killed; dream d1: it is given up\n",
        ),
    ],
)
def test_abort_tells_the_latency_and_what_is_kept(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], answer: AbortResponse, told: str
) -> None:
    fake.answers("Abort", answer)
    assert main(["abort", "--discard", "--server", fake.target]) == EXIT_OK
    assert capsys.readouterr().out == told
    assert fake.sent("Abort")[0].discard


def test_dreams_lists_the_nights_and_names_the_next_page(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("ListDreams", ListDreamsResponse(dreams=[dream(Dream.STATE_SUCCEEDED)], next_page_token="t2"))
    assert main(["dreams", "--state", "succeeded", "--limit", "1", "--server", fake.target]) == EXIT_OK
    told = capsys.readouterr().out
    assert "d1" in told
    # A token holds for the same filters only.
    assert told.splitlines()[-1] == "more: dreamsvc dreams --state succeeded --page-token t2"
    (sent,) = fake.sent("ListDreams")
    assert (list(sent.states), sent.page_size) == ([Dream.STATE_SUCCEEDED], 1)


def test_dreams_shows_one_night_with_its_report(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("GetDream", GetDreamResponse(dream=dream(Dream.STATE_SUCCEEDED)))
    assert main(["dreams", "d1", "--server", fake.target]) == EXIT_OK
    assert "1, the last in 3.2 ms" in capsys.readouterr().out


def test_a_watch_whose_service_shuts_down_says_so(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    last = StreamStatusResponse(sequence=9, closing=Closing(reason=Closing.REASON_SHUTTING_DOWN))
    fake.streams("StreamStatus", [*night(Dream.STATE_SUCCEEDED)[:2], last])
    assert main(["status", "--watch", "--server", fake.target]) == EXIT_DREAM_BROKEN_OFF
    assert "the service shut down" in capsys.readouterr().err
