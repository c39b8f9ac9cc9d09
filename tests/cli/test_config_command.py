"""`dreamsvc config`."""

import json
import tomllib
from pathlib import Path

import pytest

from dreamsvc import config
from dreamsvc.__main__ import main
from dreamsvc.cli.command import EXIT_FAILED, EXIT_OK
from dreamsvc.cli.config_text import to_toml


def test_the_printed_defaults_read_back_as_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "defaults"]) == EXIT_OK
    printed = capsys.readouterr().out
    assert config.parse(tomllib.loads(printed)) == config.defaults()
    assert "# default 3 min; 0.001 to 30\nduration_minutes = 3.0\n" in printed


def test_every_key_is_printed_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    main(["config", "defaults"])
    lines = capsys.readouterr().out.splitlines()
    keys = [number for number, line in enumerate(lines) if " = " in line]
    assert len(keys) > 40
    assert all(lines[number - 1].startswith("# default ") for number in keys)


@pytest.mark.parametrize("path", ['a"b\\c', "tab\tnew\nline\x7f", "ünï ☾", "C:\\store.db"])
def test_any_text_survives_the_way_through_toml(path: str) -> None:
    settings = config.defaults()
    settings.store.path = path
    assert config.parse(tomllib.loads(to_toml(settings))) == settings


def test_a_list_is_written_as_toml_reads_it() -> None:
    settings = config.defaults()
    settings.dream.hold_spaces.extend(["notes", 'a"b'])
    written = to_toml(settings)
    assert tomllib.loads(written)["dream"]["hold_spaces"] == ["notes", 'a"b']
    assert "# default []\nhold_spaces = [" in written


def test_show_lays_a_file_over_the_defaults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "dreamsvc.toml"
    file.write_text("[server]\nport = 1234\n")
    assert main(["config", "show", "--config", str(file), "--json"]) == EXIT_OK
    shown = json.loads(capsys.readouterr().out)
    assert shown["server"]["port"] == 1234
    assert shown["server"]["host"] == "127.0.0.1"


def test_check_accepts_a_good_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "dreamsvc.toml"
    file.write_text("[dream.nrem]\nbatch_size = 32\n")
    assert main(["config", "check", str(file)]) == EXIT_OK
    assert capsys.readouterr().out == f"{file}: ok\n"


def test_check_names_each_mistake_by_its_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "dreamsvc.toml"
    file.write_text("[dream.nrem]\nbatch_sise = 32\n[sever]\nport = 1\n")
    assert main(["config", "check", str(file)]) == EXIT_FAILED
    told = capsys.readouterr().err
    assert "  dream.nrem.batch_sise: is unknown; did you mean batch_size?\n" in told
    assert "  sever: is unknown; did you mean server?\n" in told
    assert main(["config", "check", str(file), "--json"]) == EXIT_FAILED
    violations = json.loads(capsys.readouterr().err)["error"]["violations"]
    assert [violation["field"] for violation in violations] == ["dream.nrem.batch_sise", "sever"]
