"""`dreamsvc config`."""

import json
import os
import tomllib
from pathlib import Path

import pytest
from google.rpc import code_pb2

from dreamsvc import config
from dreamsvc.__main__ import main
from dreamsvc.cli.command import EXIT_FAILED, EXIT_OK
from dreamsvc.cli.config_text import to_toml
from dreamsvc.config_sources import default_store
from dreamsvc.v1.admin_pb2 import ConfigOrigin, ConfigProblem, ConfigReload, ConfigSource
from dreamsvc.v1.admin_service_pb2 import GetConfigResponse, ReloadConfigRequest, ReloadConfigResponse
from dreamsvc.v1.dream_service_pb2 import GetStatusResponse, ListDreamsResponse
from dreamsvc.v1.memory_service_pb2 import GetStatsResponse
from tests.clients.fake_server import FakeServer, Refusal


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


# ── sources ─────────────────────────────────────────────────────────────────────


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("DREAMSVC_") or name in ("DREAMS_ENABLED", "PARALLEL_DREAMS_ENABLED"):
            monkeypatch.delenv(name)


def test_show_tells_where_each_value_comes_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "dreamsvc.toml"
    file.write_text("[server]\nport = 1234\ngrace_seconds = 3\n")
    monkeypatch.setenv("DREAMSVC_SERVER__GRACE_SECONDS", "4")
    arguments = ["config", "show", "--config", str(file), "--host", "::1", "--origin"]
    assert main(arguments) == EXIT_OK
    shown = capsys.readouterr().out
    assert f"port = 1234  # file: {file}\n" in shown
    assert "grace_seconds = 4.0  # environment: DREAMSVC_SERVER__GRACE_SECONDS\n" in shown
    assert 'host = "::1"  # command line: --host\n' in shown
    assert "enabled = true  # default\n" in shown
    assert config.parse(tomllib.loads(shown)).server.grace_seconds == 4
    assert main([*arguments, "--json"]) == EXIT_OK
    told = json.loads(capsys.readouterr().out)
    assert told["server.port"] == {"value": 1234, "source": "file", "name": str(file)}
    assert told["server.host"] == {"value": "::1", "source": "command_line", "name": "--host"}
    assert told["dream.hold_spaces"] == {"value": [], "source": "default", "name": ""}


def test_defaults_are_the_defaults_whatever_the_environment_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DREAMSVC_DREAM__ENABLED", "false")
    main(["config", "defaults"])
    assert config.parse(tomllib.loads(capsys.readouterr().out)) == config.defaults()


def test_a_key_that_needs_a_restart_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    main(["config", "defaults"])
    assert "# default 50051; 0 to 65535; changed by a restart only\nport = 50051\n" in capsys.readouterr().out


def test_serve_refuses_what_the_environment_says_wrongly(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DREAMSVC_SERVER__PORT", "many")
    assert main(["serve"]) != EXIT_OK
    assert "server.port: is 'many'; must be a whole number (told by DREAMSVC_SERVER__PORT)" in capsys.readouterr().err


def test_who_names_no_store_has_that_of_the_environment() -> None:
    assert default_store({}) == config.defaults().store.path
    assert default_store({"DREAMSVC_STORE__PATH": "/x/m.db"}) == "/x/m.db"


# ── a running service ───────────────────────────────────────────────────────────


def in_force(**reload: object) -> GetConfigResponse:
    found = config.defaults()
    found.server.port = 77
    origin = ConfigOrigin(path="server.port", source=ConfigSource.CONFIG_SOURCE_FILE, name="/etc/d.toml")
    last = ConfigReload(**reload) if reload else None  # type: ignore[arg-type]
    return GetConfigResponse(config=found, origins=[origin], file="/etc/d.toml", last_reload=last)


def test_show_asks_a_running_service(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("GetConfig", in_force(ok=True, changed=["recall.similar"], needs_restart=["server.port"]))
    assert main(["config", "show", "--server", fake.target, "--origin"]) == EXIT_OK
    shown = capsys.readouterr().out
    assert f"# of the service at {fake.target}; file: /etc/d.toml\n" in shown
    assert "changed: recall.similar\n# waits for a restart: server.port\n" in shown
    assert "port = 77  # file: /etc/d.toml\n" in shown
    assert config.parse(tomllib.loads(shown)).server.port == 77


def test_show_asks_the_service_of_all_commands_where_none_is_named(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DREAMSVC_SERVER", fake.target)
    fake.answers("GetConfig", in_force())
    assert main(["config", "show", "--json", "--server"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["server"]["port"] == 77
    # Without the option nobody is asked.
    assert main(["config", "show", "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["server"]["port"] == 50051
    assert len(fake.sent("GetConfig")) == 1


@pytest.mark.parametrize("dry_run", [False, True])
def test_reload_says_what_changed_and_what_waits(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], dry_run: bool
) -> None:
    done = ConfigReload(ok=True, changed=["dream.enabled", "recall.similar"], needs_restart=["server.port"])
    fake.answers("ReloadConfig", ReloadConfigResponse(reload=done))
    arguments = ["config", "reload", "--server", fake.target, *(["--dry-run"] if dry_run else [])]
    assert main(arguments) == EXIT_OK
    shown = capsys.readouterr().out
    assert "changed: dream.enabled, recall.similar\nwaits for a restart: server.port\n" in shown
    assert main([*arguments, "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["needs_restart"] == ["server.port"]
    assert fake.sent("ReloadConfig") == [ReloadConfigRequest(validate_only=dry_run)] * 2


def test_a_rejected_reload_shows_every_mistake_though_an_error_has_room_for_few(
    fake: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    problems = [ConfigProblem(path=f"recall.key_{i}", message="is unknown") for i in range(30)]
    refusal = Refusal(code_pb2.INVALID_ARGUMENT, "...", "INVALID_FIELD", violations=[("recall.key_0", "is unknown")])
    fake.answers("ReloadConfig", refusal)
    fake.answers("GetConfig", in_force(ok=False, problems=problems))
    assert main(["config", "reload", "--server", fake.target]) == EXIT_FAILED
    told = capsys.readouterr().err
    assert all(f"  recall.key_{i}: is unknown\n" in told for i in range(30))
    assert "Nothing was changed" in told
    assert main(["config", "show", "--server", fake.target]) == EXIT_OK
    assert "#   recall.key_29: is unknown\n" in capsys.readouterr().out


def test_what_is_not_in_force_is_part_of_the_status(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    fake.answers("GetStatus", GetStatusResponse(config_notice="new values wait for a restart: server.port"))
    fake.answers("GetStats", GetStatsResponse())
    fake.answers("ListDreams", ListDreamsResponse())
    assert main(["status", "--server", fake.target]) == EXIT_OK
    assert "configuration     new values wait for a restart: server.port\n" in capsys.readouterr().out
