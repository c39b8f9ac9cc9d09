"""`dreamsvc backup` and both ways of `dreamsvc restore`, on a real store."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dreamsvc import config
from dreamsvc.__main__ import main
from dreamsvc.app import App
from dreamsvc.cli.command import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from dreamsvc.v1.memory_pb2 import Memory
from dreamsvc.v1.memory_service_pb2 import RememberRequest, RestoreResponse
from tests.clients.fake_server import FakeServer

type Said = pytest.CaptureFixture[str]


def remember(path: Path, *keys: str) -> None:
    """As a service does that is started and stopped."""
    app = App(config.parse({"store": {"path": str(path)}, "embedder": {"kind": "none"}}))
    memories = [Memory(key=key, text=f"text of {key}", importance=0.5) for key in keys]
    app.store.remember(RememberRequest(space="default", memories=memories)).result(10)
    app.close()


def told(said: Said) -> dict[str, Any]:
    return json.loads(said.readouterr().out)


def keys_of(path: Path) -> set[str]:
    app = App(config.parse({"store": {"path": str(path)}, "embedder": {"kind": "none"}}))
    found = {line["key"] for part in app.store.export("default") if isinstance(part, bytes) for line in lines(part)}
    app.close()
    return found


def lines(part: bytes) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, part.splitlines()) if line["type"] == "memory"]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    remember(tmp_path / "memory.db", "a", "b")
    return tmp_path / "memory.db"


def test_a_backup_is_made_beside_the_store_listed_checked_and_brought_back(store: Path, capsys: Said) -> None:
    assert main(["backup", "--store", str(store)]) == EXIT_OK
    line = capsys.readouterr().out
    assert "2 memories, 0 edges" in line
    assert line.endswith("; verified\n")
    (made,) = (store.parent / "backups").iterdir()
    assert line.startswith(f"{store.parent}/backups/memory.db-20")
    assert main(["backup", "--list", "--store", str(store)]) == EXIT_OK
    listed = capsys.readouterr().out
    assert made.name in listed
    assert listed.startswith(f"in {store.parent}/backups\n")
    assert main(["backup", "--check", str(made)]) == EXIT_OK
    assert "is whole: 2 memories" in capsys.readouterr().out
    remember(store, "late")
    assert main(["restore", "--backup", str(made), "--store", str(store)]) == EXIT_OK
    said = capsys.readouterr().out
    assert f"{store} is again what it was at 20" in said
    assert f"is kept as {store}.before-restore-1" in said
    assert keys_of(store) == {"a", "b"}
    assert keys_of(Path(f"{store}.before-restore-1")) == {"a", "b", "late"}


def test_everything_is_told_as_json(store: Path, capsys: Said) -> None:
    target = store.parent / "one"
    assert main(["backup", str(target), "--store", str(store), "--json"]) == EXIT_OK
    made = told(capsys)
    assert (made["backup"], made["store"], made["removed"]) == (str(target), str(store), [])
    assert made["spaces"][0]["memories"] == 2
    assert main(["backup", "--check", str(target), "--json"]) == EXIT_OK
    assert told(capsys)["sha256"] == made["sha256"]
    assert main(["backup", "--list", str(store.parent), "--json"]) == EXIT_OK
    (one,) = told(capsys)["backups"]
    assert (one["backup"], one["problem"], one["bytes"]) == (str(target), "", made["bytes"])
    assert main(["restore", "--backup", str(target), "--store", str(store), "--json"]) == EXIT_OK
    restored = told(capsys)
    assert (restored["store"], restored["kept"]) == (str(store), f"{store}.before-restore-1")
    assert restored["backup"]["sha256"] == made["sha256"]


def test_only_so_many_are_kept(store: Path, capsys: Said) -> None:
    for name in ("one", "two"):
        assert main(["backup", str(store.parent / "b" / name), "--store", str(store)]) == EXIT_OK
    assert main(["backup", str(store.parent / "b" / "three"), "--store", str(store), "--keep", "2"]) == EXIT_OK
    assert f"removed {store.parent}/b/one\n" in capsys.readouterr().out
    assert {path.name for path in (store.parent / "b").iterdir()} == {"two", "three"}
    # One that fails removes nothing.
    assert main(["backup", str(store.parent / "b" / "two"), "--store", str(store), "--keep", "1"]) == EXIT_FAILED
    assert {path.name for path in (store.parent / "b").iterdir()} == {"two", "three"}


def test_a_damaged_backup_is_told_with_the_reason_and_the_way(store: Path, capsys: Said) -> None:
    target = store.parent / "one"
    assert main(["backup", str(target), "--store", str(store)]) == EXIT_OK
    body = bytearray((target / "memory.db").read_bytes())
    body[len(body) // 2] ^= 1
    (target / "memory.db").write_bytes(body)
    capsys.readouterr()
    assert main(["backup", "--check", str(target)]) == EXIT_FAILED
    said = capsys.readouterr().err
    assert f"STORE_CORRUPT: {target}/memory.db is damaged" in said
    assert main(["restore", "--backup", str(target), "--store", str(store), "--json"]) == EXIT_FAILED
    assert json.loads(capsys.readouterr().err)["error"]["reason"] == "STORE_CORRUPT"
    assert keys_of(store) == {"a", "b"}
    (target / "manifest.json").write_text("{}")
    assert main(["backup", "--list", str(store.parent)]) == EXIT_OK
    assert f"{target}/manifest.json is damaged; use another backup\n" in capsys.readouterr().out


def test_without_backups_a_list_says_so(store: Path, capsys: Said) -> None:
    assert main(["backup", "--list", "--store", str(store)]) == EXIT_OK
    assert capsys.readouterr().out == "no backups\n"


def test_a_store_that_is_not_there_is_named(tmp_path: Path, capsys: Said) -> None:
    assert main(["backup", "--store", str(tmp_path / "gone.db")]) == EXIT_FAILED
    assert f"there is no store at {tmp_path}/gone.db; name it with --store" in capsys.readouterr().err
    assert not (tmp_path / "backups").exists()


def test_memories_are_restored_by_the_server_as_ever(fake: FakeServer, capsys: Said) -> None:
    fake.answers("Restore", RestoreResponse(restored=1))
    assert main(["restore", "a", "--server", fake.target]) == EXIT_OK
    assert capsys.readouterr().out == "restored: 1, were there: 0\n"


@pytest.mark.parametrize(
    ("arguments", "what", "hint"),
    [
        (["restore"], "nothing to restore", "name memories, or a backup with --backup"),
        (["restore", "BACKUP"], "BACKUP is a backup and no memory", "dreamsvc restore --backup BACKUP"),
        (["restore", "a", "--store", "x"], "--store goes with --backup", "by the server that has them"),
        (["restore", "a", "--backup", "BACKUP"], "no memories to name", "leave out either"),
        (["restore", "--backup", "BACKUP", "--space", "work"], "a backup holds all spaces", "leave out --space"),
        (["restore", "--backup", "BACKUP"], "BACKUP is of STORE, and without --store it would replace", "--store PATH"),
        (["backup", "--keep", "0"], "--keep 0 would leave no backup", "keep at least 1"),
        (["backup", "TARGET", "--check", "BACKUP"], "--check makes no backup", ""),
    ],
)
def test_what_could_be_meant_two_ways_is_asked_about_and_nothing_is_done(
    store: Path, arguments: list[str], what: str, hint: str, capsys: Said
) -> None:
    target = str(store.parent / "one")
    assert main(["backup", target, "--store", str(store)]) == EXIT_OK
    capsys.readouterr()

    def here(text: str) -> str:
        return text.replace("BACKUP", target).replace("STORE", str(store))

    assert main([here(argument) for argument in arguments]) == EXIT_USAGE
    said = capsys.readouterr().err
    assert here(what) in said
    assert here(hint) in said
    assert keys_of(store) == {"a", "b"}


@pytest.mark.parametrize("options", [["--list", "--check", "x"], ["--keep", "-1"], ["--keep", "2", "--list"]])
def test_options_that_do_not_go_together_are_refused(options: list[str], capsys: Said) -> None:
    assert main(["backup", *options]) == EXIT_USAGE
    assert "usage: dreamsvc backup" in capsys.readouterr().err


def test_help_says_how_to_make_one_a_night(capsys: Said) -> None:
    assert main(["backup", "--help"]) == EXIT_OK
    said = capsys.readouterr().out
    assert "0 3 * * *  nice dreamsvc backup --keep 7" in said
    assert "OnCalendar=03:00" in said


def test_a_command_that_calls_the_server_does_not_load_it() -> None:
    code = (
        "import sys; from dreamsvc.__main__ import main; main(['restore', 'a', '--server', '127.0.0.1:1']);"
        " print('dreamsvc.app' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("command", ["doctor", "backup", "salvage"])
def test_what_needs_no_service_does_not_load_it(store: Path, tmp_path: Path, command: str) -> None:
    code = (
        "import sys; from dreamsvc.__main__ import main; status = main(sys.argv[1:]);"
        " print(status, *{'dreamsvc.app', 'dreamsvc.dream', 'dreamsvc.server'} & sys.modules.keys())"
    )
    target = [] if command == "doctor" else [str(tmp_path / "made")]
    arguments = [sys.executable, "-c", code, command, *target, "--store", str(store)]
    told = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    assert told.splitlines()[-1] == "0"


def test_a_space_of_a_backup_is_exported_without_a_server(store: Path, capsys: Said) -> None:
    target = store.parent / "one"
    assert main(["backup", str(target), "--store", str(store)]) == EXIT_OK
    remember(store, "late")
    capsys.readouterr()
    for source, keys in ((target, {"a", "b"}), (store, {"a", "b", "late"})):
        file = store.parent / "space.jsonl"
        assert main(["export", str(file), "--from", str(source)]) == EXIT_OK
        assert capsys.readouterr().out.startswith(f"{len(keys)} memories, 0 edges; SHA-256 ")
        assert {line["key"] for line in lines(file.read_bytes())} == keys
        file.unlink()
    assert main(["export", "-", "--from", str(target), "--space", "other", "--json"]) == EXIT_FAILED
    assert json.loads(capsys.readouterr().err)["error"]["reason"] == "NOT_FOUND"
    assert main(["backup", "--check", str(target)]) == EXIT_OK


def test_a_damaged_store_is_salvaged(store: Path, capsys: Said) -> None:
    raw = bytearray(store.read_bytes())
    # The checksum at the end of the second page.
    raw[2 * 8192 - 1] ^= 1
    store.write_bytes(raw)
    assert main(["doctor", "--store", str(store)]) == EXIT_FAILED
    assert "dreamsvc salvage" in capsys.readouterr().out
    assert main(["salvage", str(store.parent / "new.db"), "--store", str(store)]) == EXIT_OK
    said = capsys.readouterr().out
    assert "2 memories, 0 edges; the doctor finds nothing wrong" in said
    assert "1 of " in said
    assert "pages had no checksum that fits" in said
    assert keys_of(store.parent / "new.db") == {"a", "b"}
