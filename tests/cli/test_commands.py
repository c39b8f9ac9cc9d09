"""The frame of the command line: how commands are found, options read, errors told."""

import argparse
import json
import subprocess
import sys

import pytest
from google.rpc import code_pb2

from dreamsvc.__main__ import ENTRIES, main
from dreamsvc.cli import command, output
from dreamsvc.cli.command import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from dreamsvc.v1.dream_service_pb2 import GetStatusResponse, ListDreamsResponse
from dreamsvc.v1.memory_service_pb2 import GetStatsResponse
from tests.clients.fake_server import FakeServer, Refusal


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("3m", 180), ("1h30m", 5400), ("500ms", 0.5), ("2.5s", 2.5), ("1m500ms", 60.5), ("90", 90)],
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert command.duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-3s", "3x", "3 m", "1h30", "1e3s", "nan", "3mm"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no time"):
        command.duration_s(text)


def test_moments_are_utc_unless_they_say_otherwise() -> None:
    assert command.moment("2026-03-01").seconds == command.moment("2026-03-01T01:00:00+01:00").seconds
    with pytest.raises(argparse.ArgumentTypeError):
        command.moment("yesterday")


@pytest.mark.parametrize("text", ["-1", "1.5", "1e3", str(1 << 64), "", "²"])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        command.count(text)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == EXIT_OK
    listed = capsys.readouterr().out
    assert all(f"\n  {name} " in listed for name in ENTRIES)


@pytest.mark.parametrize("name", ENTRIES)
def test_help_of_each_command_has_an_example_and_its_exit_codes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == EXIT_OK
    told = capsys.readouterr().out
    assert f"examples:\n  dreamsvc {name}" in told
    assert "exit codes:" in told
    assert "--json" in told or name in ("config", "token")  # they have it behind their verbs


@pytest.mark.parametrize("arguments", [[], ["sleep"], ["--json", "status"], ["recall"], ["dream", "--budget", "x"]])
def test_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == EXIT_USAGE
    captured = capsys.readouterr()
    assert "usage: dreamsvc" in captured.out + captured.err


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == EXIT_OK
    assert capsys.readouterr().out.startswith("dreamsvc ")


def test_serve_starts_without_what_only_clients_need() -> None:
    code = """
import sys
from dreamsvc.__main__ import main
assert main(["serve", "--port", "-1"]) == 2
print(sorted({name.partition(".")[0] for name in sys.modules} & {"rich", "dreamsvc_client", "grpc", "jax", "tenacity"}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert "server.port: is -1" in done.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--port", "70000"], "server.port: is 70000; must be at most 65535"),
        (["--embedder", "word2vec"], 'embedder.kind: is "word2vec"; must be one of auto'),
        (["--config", "/nowhere.toml"], "/nowhere.toml: cannot be read"),
    ],
)
def test_serve_with_a_wrong_option_names_the_field(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *options]) == EXIT_USAGE
    assert told in capsys.readouterr().err


def test_a_missing_server_is_told_with_the_way_to_start_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--server", "127.0.0.1:1"]) == EXIT_FAILED
    told = capsys.readouterr().err
    assert "no server answers at 127.0.0.1:1" in told
    assert "dreamsvc serve" in told


def test_the_server_is_named_by_the_environment(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DREAMSVC_SERVER", fake.target)
    fake.answers("GetStatus", GetStatusResponse(version="9.9"))
    fake.answers("GetStats", GetStatsResponse())
    fake.answers("ListDreams", ListDreamsResponse())
    assert main(["status", "--space", "notes"]) == EXIT_OK
    assert "dreamsvc 9.9" in capsys.readouterr().out
    assert [request.space for _, request in fake.requests] == ["notes"] * 3


REFUSAL = Refusal(
    code_pb2.INVALID_ARGUMENT,
    "limit: is 0",
    "ERROR_REASON_INVALID_FIELD",
    hint="Correct the fields that are listed.",
    violations=[("limit", "is 0; must be at least 1")],
    retry_after_s=2,
    trace_id="4bf9",
)


def test_an_error_says_what_where_and_what_to_do(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("Recall", REFUSAL)
    assert main(["recall", "x", "--limit", "0", "--server", fake.target]) == EXIT_FAILED
    assert capsys.readouterr().err == (
        "dreamsvc: INVALID_FIELD: some fields are wrong\n"
        "  limit: is 0; must be at least 1\n"
        "  hint: Correct the fields that are listed.\n"
        "  try again in: 2 s\n"
        "  trace id: 4bf9\n"
    )


def test_an_error_is_json_where_json_was_asked_for(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("Recall", REFUSAL)
    assert main(["recall", "x", "--json", "--server", fake.target]) == EXIT_FAILED
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["error"] == {
        "reason": "INVALID_FIELD",
        "message": "limit: is 0",
        "hint": "Correct the fields that are listed.",
        "violations": [{"field": "limit", "message": "is 0; must be at least 1"}],
        "retry_after_s": 2.0,
        "trace_id": "4bf9",
    }


def test_a_call_without_an_answer_in_time_says_how_to_wait_longer(
    fake: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers("GetStats", Refusal(code_pb2.DEADLINE_EXCEEDED, "Deadline Exceeded"))
    assert main(["stats", "--timeout", "2s", "--server", fake.target]) == EXIT_FAILED
    told = capsys.readouterr().err
    assert "did not answer within 2 s" in told
    assert "--timeout" in told


def test_a_text_cannot_steer_the_terminal() -> None:
    assert output.plain("a\x1b[2Jb\rc\td\ne\x9b1m") == "a[2Jbc\td\ne1m"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (185, "3 min 05 s"), (7260, "2 h 01 min")]
)
def test_seconds_are_told_for_people(seconds: float, text: str) -> None:
    assert output.seconds_text(seconds) == text
