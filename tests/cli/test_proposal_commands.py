"""`dreamsvc estimate`, `diff`, `approve`, `reject`, and a dream that waits."""

import json

import pytest
from google.rpc import code_pb2

from dreamsvc.__main__ import main
from dreamsvc.cli.command import EXIT_DREAM_BROKEN_OFF, EXIT_FAILED, EXIT_OK, EXIT_USAGE
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import (
    ApproveDreamResponse,
    Closing,
    DeleteDreamResponse,
    DiffDreamResponse,
    DreamEdit,
    EditedMemory,
    EstimateDreamResponse,
    GetDreamResponse,
    RejectDreamResponse,
    StreamStatusResponse,
    TriggerResponse,
)
from tests.clients.fake_server import FakeServer, Refusal

PROPOSED = Dream(id="d1", space="notes", state=Dream.STATE_PROPOSED)
PROPOSED.report.compression.nodes_before = 1200
PROPOSED.report.compression.nodes_after = 130
NEXT = (
    "nothing of it is applied yet:\n"
    "  dreamsvc diff d1 --space notes  # shows what it would do\n"
    "  dreamsvc approve d1 --space notes  # applies it\n"
    "  dreamsvc reject d1 --space notes  # gives it up\n"
)


def merged(number: int) -> DreamEdit:
    members = [EditedMemory(text=f"text {member}") for member in range(12)]
    return DreamEdit(kind=DreamEdit.KIND_MERGED, what=f"topic {number}", memories=members)


@pytest.mark.parametrize(("option", "asked"), [(["--propose"], True), (["--no-propose"], False), ([], None)])
def test_dream_asks_for_a_proposal(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], option: list[str], asked: bool | None
) -> None:
    running = Dream(id="d1", state=Dream.STATE_RUNNING, propose=bool(asked))
    fake.answers("Trigger", TriggerResponse(dream=running))
    assert main(["dream", *option, "--server", fake.target]) == EXIT_OK
    (sent,) = fake.sent("Trigger")
    assert sent.HasField("propose") == (asked is not None)
    assert sent.propose == bool(asked)
    assert ("it will wait to be approved" in capsys.readouterr().out) == bool(asked)


def test_waiting_for_a_proposal_ends_well_and_names_the_next_steps(
    fake: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers("Trigger", TriggerResponse(dream=PROPOSED))
    assert main(["dream", "--propose", "--wait", "--server", fake.target]) == EXIT_OK
    told = capsys.readouterr().out
    assert "1,200 -> 130 (9.2:1)" in told
    assert told.endswith(f"\n{NEXT}")


def test_watching_a_proposal_ends_well(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("Trigger", TriggerResponse(dream=Dream(id="d1", state=Dream.STATE_RUNNING)))
    last = StreamStatusResponse(sequence=1, dream=PROPOSED, closing=Closing(reason=Closing.REASON_DREAM_ENDED))
    fake.streams("StreamStatus", [last])
    assert main(["dream", "--propose", "--watch", "--server", fake.target]) == EXIT_OK
    assert capsys.readouterr().out.endswith(NEXT)


def test_a_dream_beside_a_proposal_is_refused_with_the_way_out(
    fake: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = Refusal(
        code_pb2.FAILED_PRECONDITION, "d1 waits", "ERROR_REASON_DREAM_PROPOSED", hint="Approve or reject."
    )
    fake.answers("Trigger", refusal)
    assert main(["dream", "--server", fake.target]) == EXIT_FAILED
    assert capsys.readouterr().err == "dreamsvc: DREAM_PROPOSED: d1 waits\n  hint: Approve or reject.\n"


def test_diff_shows_the_edits_and_how_to_see_more(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("GetDream", GetDreamResponse(dream=PROPOSED))
    fake.answers("DiffDream", DiffDreamResponse(edits=[merged(1), merged(2), merged(3)]))
    assert main(["diff", "d1", "--space", "notes", "--limit", "1", "--server", fake.target]) == EXIT_OK
    assert capsys.readouterr().out == (
        "dream d1, proposed: it would do this, and nothing of it is applied yet\n"
        "3 merged\n\n"
        "merged 12 memories into “topic 1”\n"
        + "".join(f"    “text {member}”\n" for member in range(10))
        + "    … and 2 more\n"
        "… and 2 more merged; `dreamsvc diff d1 --all --space notes` shows all\n\n"
        "edges of which only the weight changed are left out; --weights shows them\n\n" + NEXT
    )
    (sent,) = fake.sent("DiffDream")
    assert (sent.dream_id, sent.space, sent.with_weights, sent.page_size) == ("d1", "notes", False, 1000)


def test_diff_of_all_cuts_nothing(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("GetDream", GetDreamResponse(dream=Dream(id="d1", state=Dream.STATE_SUCCEEDED)))
    fake.answers("DiffDream", DiffDreamResponse(edits=[merged(number) for number in range(30)]))
    assert main(["diff", "d1", "--all", "--weights", "--server", fake.target]) == EXIT_OK
    told = capsys.readouterr().out
    assert told.startswith("dream d1, succeeded: it did this\n30 merged\n")
    assert told.count("    “text ") == 30 * 12
    assert "more" not in told
    assert "weight" not in told
    assert fake.sent("DiffDream")[0].with_weights


def test_diff_without_edits_says_so(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("GetDream", GetDreamResponse(dream=Dream(id="d1", state=Dream.STATE_REVERTED)))
    fake.answers("DiffDream", DiffDreamResponse())
    assert main(["diff", "d1", "--weights", "--server", fake.target]) == EXIT_OK
    assert capsys.readouterr().out == "dream d1, reverted: it had done this, and it is taken back\nno edits\n"


def test_diff_in_json_is_every_edit_on_a_line(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    first = DiffDreamResponse(edits=[merged(number) for number in range(30)], next_page_token="2")
    fake.answers("DiffDream", first, DiffDreamResponse(edits=[merged(30)]))
    assert main(["diff", "d1", "--json", "--server", fake.target]) == EXIT_OK
    edits = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [edit["what"] for edit in edits] == [f"topic {number}" for number in range(31)]
    assert edits[0]["kind"] == "KIND_MERGED"


def test_diff_takes_a_limit_or_all(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "d1", "--all", "--limit", "3", "--server", fake.target]) == EXIT_USAGE
    assert "not allowed with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dream", "code", "told"),
    [
        (
            Dream(id="d1", state=Dream.STATE_SUCCEEDED),
            EXIT_OK,
            "dream d1 is applied; `dreamsvc dreams d1` shows its report, `dreamsvc revert d1` takes it back\n",
        ),
        (
            Dream(id="d1", space="notes", state=Dream.STATE_FOLDING),
            EXIT_OK,
            "dream d1 is being applied; `dreamsvc dreams d1 --space notes` shows it\n",
        ),
        (
            Dream(id="d1", state=Dream.STATE_DISCARDED, message="the memory moved on"),
            EXIT_DREAM_BROKEN_OFF,
            "dream d1 is discarded: the memory moved on\n",
        ),
    ],
)
def test_approve_tells_what_became_of_the_dream(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], dream: Dream, code: int, told: str
) -> None:
    fake.answers("ApproveDream", ApproveDreamResponse(dream=dream))
    assert main(["approve", "d1", "--space", "s", "--server", fake.target]) == code
    assert capsys.readouterr().out == told
    (sent,) = fake.sent("ApproveDream")
    assert (sent.dream_id, sent.space) == ("d1", "s")


def test_reject_says_that_nothing_was_applied(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("RejectDream", RejectDreamResponse(dream=Dream(id="d1", state=Dream.STATE_DISCARDED)))
    assert main(["reject", "d1", "--server", fake.target]) == EXIT_OK
    assert main(["reject", "d1", "--json", "--server", fake.target]) == EXIT_OK
    first, second = capsys.readouterr().out.splitlines()
    assert first == "dream d1 is given up; nothing of it was applied"
    assert json.loads(second)["dream"]["state"] == "STATE_DISCARDED"


def test_a_record_is_deleted_by_its_id_alone(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("DeleteDream", DeleteDreamResponse(dream=Dream(id="d1", state=Dream.STATE_FAILED)))
    assert main(["dreams", "d1", "--delete", "--server", fake.target]) == EXIT_OK
    assert main(["dreams", "d1", "--delete", "--json", "--server", fake.target]) == EXIT_OK
    first, second = capsys.readouterr().out.splitlines()
    assert first == "the record of dream d1 (failed) is deleted"
    assert json.loads(second)["dream"]["id"] == "d1"
    assert main(["dreams", "--delete", "--server", fake.target]) == EXIT_USAGE
    assert "needs the id" in capsys.readouterr().err
    assert len(fake.sent("DeleteDream")) == 2


def test_an_estimate_is_told_in_units_of_people(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    estimate = EstimateDreamResponse(
        nodes=1200,
        nodes_touched=340,
        edges=8000,
        edges_touched=2100,
        snapshot_bytes=4_100_000,
        journal_bytes=1_200,
        memory_bytes=210_000_000,
        seconds=72.4,
        basis="the last dream",
        why_not_dreaming="the cooldown lasts 40 s more",
    )
    fake.answers("EstimateDream", estimate)
    assert main(["estimate", "--space", "notes", "--server", fake.target]) == EXIT_OK
    assert capsys.readouterr().out == (
        "memories        1,200 read, at most 340 changed\n"
        "edges           8,000 read, at most 2,100 changed\n"
        "time            at most 1 min 12 s, by the last dream\n"
        "snapshot        4.1 MB on the disk\n"
        "journal         at most 1.2 kB on the disk\n"
        "memory          at most 210.0 MB, of the process that dreams\n"
        "why not now     the cooldown lasts 40 s more\n"
    )
    assert fake.sent("EstimateDream")[0].space == "notes"
    assert main(["estimate", "--json", "--server", fake.target]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["nodes_touched"] == "340"
