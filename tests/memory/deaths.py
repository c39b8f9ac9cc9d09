"""Ends a process before each step that it would take on the disk, and looks at what it leaves behind.

Run as a program of its own (`python -m tests.memory.deaths WORK DIRECTORY STRIDE`): it forks, and nothing else may run
beside that. Steps are what Python tells its audit hooks of files, every sync, and every changing statement of SQLite.
"""

import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import apsw.sqlite_extra

from dreamsvc import contract
from dreamsvc.clock import Clock
from dreamsvc.memory import backup, manifest, replacing, shelf, sqlite
from dreamsvc.memory.doctor import examine
from dreamsvc.memory.store import Store
from dreamsvc.v1.config_pb2 import StoreConfig
from dreamsvc.v1.memory_pb2 import Memory
from dreamsvc.v1.memory_service_pb2 import ExportSummary, RememberRequest

EFFECTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "shutil.rmtree")
CHANGES = re.compile(r"(?!SELECT|WITH|PRAGMA)|PRAGMA (journal_mode|user_version|application_id|page_size|auto_vacuum)=")
DIED = 9


class Work(NamedTuple):
    """What to do to a directory that `prepare` filled, and what must hold wherever it ended."""

    prepare: Callable[[Path], None]
    run: Callable[[Path], None]
    # Gives what is wrong.
    judge: Callable[[Path], list[str]]


def digest(path: Path) -> str:
    """Of the store, as the next start finds it."""
    store = opened(path)
    *_, last = store.export("default")
    store.close()
    assert isinstance(last, ExportSummary)
    return last.digest


def opened(path: Path) -> Store:
    config = StoreConfig()
    contract.fill(config)
    config.path = str(path)
    return Store(config, Clock())


def remember(store: Store, *keys: str) -> None:
    request = RememberRequest(space="default", memories=[Memory(key=key, text=f"text of {key}") for key in keys])
    contract.fill(request)
    store.remember(request).result(10)


# ── restore ─────────────────────────────────────────────────────────────────────


def two_stores(directory: Path) -> None:
    """A backup, and a store that went on: its last change lies in the log alone, as a crash leaves it."""
    path = directory / "memory.db"
    store = opened(path)
    remember(store, "a", "b")
    backup.make(path, directory / "old", now_us=1)
    store.close()
    store = opened(path)
    remember(store, "c")
    crashed = {name: path.with_name(name).read_bytes() for name in ("memory.db", "memory.db-wal")}
    store.close()
    for name, content in crashed.items():
        path.with_name(name).write_bytes(content)
    (directory / "now").write_text(digest(shutil.copytree(directory, directory / "copy") / "memory.db"))
    shutil.rmtree(directory / "copy")


def restore(directory: Path) -> None:
    backup.restore(directory / "old", directory / "memory.db", now_us=2)


def old_or_new_by_a_start(directory: Path) -> list[str]:
    path, kept = directory / "memory.db", directory / "memory.db.before-restore-1"
    begun = replacing.is_under_way(path)
    if not begun and not path.exists():
        return ["there is no store, and nothing says why"]
    new = manifest.read(directory / "old").content.spaces[0].digest
    found, now = digest(path), (directory / "now").read_text()
    wrong = [f.detail for f in examine(str(path)) if not f.ok]
    if found == new:
        if not kept.exists() or digest(kept) != now:
            wrong.append("the store that was there is not kept")
    elif found != now:
        wrong.append("it is neither the old store nor the new one")
    elif kept.exists() or begun:
        wrong.append("the restore is said to be done, and was not")
    wrong += [f"{left.name} is left" for left in directory.glob("memory.db.restor*")]
    return wrong


def new_by_another_restore(directory: Path) -> list[str]:
    restore(directory)
    new = manifest.read(directory / "old").content.spaces[0].digest
    wrong = [] if digest(directory / "memory.db") == new else ["it is not the new store"]
    # However often it was begun, what was there first is there.
    now = (directory / "now").read_text()
    if now not in {digest(kept) for kept in directory.glob("*.before-restore-?")}:
        wrong.append("the store that was there is not kept")
    return wrong


# ── backup ──────────────────────────────────────────────────────────────────────


def one_store(directory: Path) -> None:
    two_stores(directory)
    shelf_of(directory).mkdir()
    (directory / "old").rename(shelf_of(directory) / "old")


def shelf_of(directory: Path) -> Path:
    return directory / "backups"


def back_up(directory: Path) -> None:
    made = shelf_of(directory) / "new"
    backup.make(directory / "memory.db", made, now_us=3)
    shelf.drop_older(made, 1)


def whole_backups_or_none(directory: Path) -> list[str]:
    there = [path for path in shelf_of(directory).iterdir() if not path.name.endswith(shelf.ASIDE)]
    wrong = [] if there else ["there is no backup at all"]
    for path in there:
        backup.check(path)
    backup.make(directory / "memory.db", shelf_of(directory) / "next", now_us=4)
    wrong += [f"{left.name} is left" for left in shelf_of(directory).iterdir() if left.name.endswith(shelf.ASIDE)]
    if digest(directory / "memory.db") != (directory / "now").read_text():
        wrong.append("the store changed")
    return wrong


# ── upgrade ─────────────────────────────────────────────────────────────────────


def store_of_the_first_version(directory: Path) -> None:
    raw = apsw.Connection(str(directory / "memory.db"))
    for pragma in ("page_size=8192", f"application_id={sqlite.APPLICATION_ID}", "journal_mode=WAL"):
        raw.execute(f"PRAGMA {pragma}").fetchall()
    raw.execute(resources.files("dreamsvc.memory.schema").joinpath("0001.sql").read_text(encoding="utf-8")).fetchall()
    raw.execute("PRAGMA user_version=1").fetchall()
    raw.execute("INSERT INTO spaces (id, name, created_us) VALUES (1, 'default', 1)")
    for row in range(1, 41):
        raw.execute(
            "INSERT INTO nodes (id, space, uid, key, kind, title, text, importance, created_us, updated_us, seq,"
            " user_seq) VALUES (?,1,?,?,'note','',?,0.5,1,1,1,0)",
            (row, row.to_bytes(16), f"k{row}", "word " * 200),
        )
    raw.execute("UPDATE meta SET value = 41 WHERE key = 'next_node'")
    raw.execute("UPDATE meta SET value = 1 WHERE key = 'change_seq'")
    raw.close()


def upgrade(directory: Path) -> None:
    opened(directory / "memory.db").close()


def all_of_it_at_some_version(directory: Path) -> list[str]:
    path = directory / "memory.db"
    wrong: list[str] = []
    # What opens a store without them would move pages of its log into it whose checksums are old.
    apsw.sqlite_extra.load(apsw.Connection(":memory:"), "cksumvfs")
    # As it was left, then as the next start leaves it.
    for _ in range(2):
        raw = apsw.Connection(str(path))
        if raw.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            wrong.append("the file is torn")
        if raw.execute("SELECT count(*), sum(length(text)) FROM nodes").fetchall() != [(40, 40_000)]:
            wrong.append("memories are gone")
        raw.close()
        upgrade(directory)
    copy = apsw.Connection(str(path.with_name("memory.db.schema1.bak")), flags=apsw.SQLITE_OPEN_READONLY)
    if copy.execute("SELECT count(*) FROM nodes").fetchall() != [(40,)]:
        wrong.append("the copy of before is not whole")
    copy.close()
    return wrong + [finding.detail for finding in examine(str(path)) if not finding.ok]


WORKS = {
    "restore": Work(two_stores, restore, old_or_new_by_a_start),
    "restore-again": Work(two_stores, restore, new_by_another_restore),
    "backup": Work(one_store, back_up, whole_backups_or_none),
    "upgrade": Work(store_of_the_first_version, upgrade, all_of_it_at_some_version),
}


# ── dying ───────────────────────────────────────────────────────────────────────


class Steps:
    """Counts the steps of this process and ends it before one of them."""

    def __init__(self, last: int) -> None:
        self._left = last

    def begin(self) -> None:
        sys.addaudithook(self._heard)
        for name in ("fsync", "fdatasync"):
            setattr(os, name, self._counted(getattr(os, name)))
        apsw.connection_hooks.append(lambda connection: connection.set_exec_trace(self._statement))

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in EFFECTS:
            self._step()

    def _statement(self, _: object, sql: str, __: object) -> bool:
        if CHANGES.match(sql):
            self._step()
        return True

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            self._step()
            return call(*arguments)

        return counted

    def _step(self) -> None:
        if self._left == 0:
            os._exit(DIED)
        self._left -= 1


def in_child(work: Callable[[], int]) -> int:
    """The exit code of a process that does some work and ends."""
    pid = os.fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(BaseException):
            code = work()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(name: str, base: Path, stride: int) -> dict[str, Any]:
    """Every `stride`-th step, and how many there are."""
    work = WORKS[name]
    template, place = base / "template", base / "place"
    template.mkdir()
    said = base / "said"

    def prepare() -> int:
        work.prepare(template)
        return 0

    def live(last: int) -> int:
        Steps(last).begin()
        work.run(place)
        return 0

    def judge() -> int:
        try:
            wrong = work.judge(place)
        except Exception as error:
            wrong = [f"{type(error).__name__}: {error}"]
        said.write_text(json.dumps(wrong))
        return 0

    # Threads of a store must not be there when the next process is forked.
    assert in_child(prepare) == 0
    found: list[str] = []
    for deaths in range(10_000):
        step = deaths * stride
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(template, place)
        code = in_child(lambda step=step: live(step))
        assert in_child(judge) == 0
        found += [f"before step {step}: {wrong}" for wrong in json.loads(said.read_text())]
        if code != DIED:
            return {"deaths": deaths, "ended": code, "wrong": found}
    raise AssertionError("it never came to its end")


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))
