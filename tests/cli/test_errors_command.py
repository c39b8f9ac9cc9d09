"""`dreamsvc errors`, and the page that it prints."""

import json
from pathlib import Path

import pytest

from dreamsvc.__main__ import main
from dreamsvc.cli import errors
from dreamsvc.cli.command import EXIT_FAILED, EXIT_OK
from dreamsvc.v1.error_reason_pb2 import ErrorReason

ROOT = Path(__file__).resolve().parents[2]

type Said = pytest.CaptureFixture[str]


def test_the_page_of_the_documentation_is_what_the_catalogue_says() -> None:
    assert (ROOT / "docs" / "errors.md").read_text() == errors.page(), "dreamsvc errors --markdown > docs/errors.md"
    assert errors.page().count("\n| `") == len(ErrorReason.values()) - 1


def test_an_error_is_looked_up_by_its_name_and_by_its_code(capsys: Said) -> None:
    assert main(["errors", "dream_cooldown"]) == EXIT_OK
    by_name = capsys.readouterr().out
    assert by_name.startswith("DREAM_COOLDOWN  (JSON-RPC -32101, gRPC FAILED_PRECONDITION, HTTP 409)\n")
    assert main(["errors", "-32101"]) == EXIT_OK
    assert capsys.readouterr().out == by_name
    assert main(["errors", "DREAM_COOLDOWN", "--json"]) == EXIT_OK
    (told,) = json.loads(capsys.readouterr().out)["errors"]
    assert (told["reason"], told["json_rpc"], told["http"]) == ("DREAM_COOLDOWN", -32101, 409)


def test_an_error_that_is_none_is_told_with_those_that_are(capsys: Said) -> None:
    assert main(["errors", "NAP"]) == EXIT_FAILED
    said = capsys.readouterr().err
    assert "there is no error NAP" in said
    assert "ON_HOLD" in said
