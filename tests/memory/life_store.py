"""The store of a life: a room that is killed, backed up and put back, and whose rows go by the names of the model."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from dreamsvc import entropy
from dreamsvc.memory import backup
from dreamsvc.v1.memory_pb2 import MemoryRole
from tests.memory.conftest import Room
from tests.memory.life_model import Link, Name


class LifeStore:
    def __init__(self) -> None:
        shm = Path("/dev/shm")
        self.place = Path(tempfile.mkdtemp(prefix="dreamsvc-life-", dir=shm if shm.is_dir() else None))
        self.room = Room(self.place / "0" / "memory.db")

    def remove(self) -> None:
        self.room.close()
        shutil.rmtree(self.place)

    def row(self, name: Name) -> int:
        query = "SELECT id FROM nodes WHERE key = ?1 OR (key IS NULL AND hex(uid) = ?1)"
        return int(self.room.rows(query, name)[0][0])

    def edge_row(self, link: Link) -> int:
        query = (
            "SELECT e.id FROM edges e JOIN edge_types k ON k.id = e.type WHERE e.source = ? AND e.target = ?"
            " AND k.name = ?"
        )
        return int(self.room.rows(query, self.row(link[0]), self.row(link[1]), link[2])[0][0])

    def id_of(self, name: Name) -> str:
        return entropy.uuid_text(self.room.rows("SELECT uid FROM nodes WHERE id = ?", self.row(name))[0][0])

    def memories(self) -> dict[Name, tuple[Any, ...]]:
        """Text, importance, whether it lives, role and what stands for it, of all that has content."""
        query = (
            "SELECT ifnull(n.key, hex(n.uid)), n.text, n.importance, n.deleted_us IS NULL, n.role,"
            " (SELECT ifnull(m.key, hex(m.uid)) FROM nodes m WHERE m.id = n.merged_into) FROM nodes n WHERE n.purged=0"
        )
        return {
            name: (text, importance, bool(alive), _role(role), into or "")
            for name, text, importance, alive, role, into in self.room.rows(query)
        }

    def kill(self) -> None:
        """The next start finds the files as they are now, with the snapshot of an earlier end."""
        old = self.room.path.parent
        directory = self.place / str(int(old.name) + 1)
        shutil.copytree(old, directory, ignore=shutil.ignore_patterns("*.lock", "*-shm"))
        self.room.close()
        shutil.rmtree(old)
        self.room.path = directory / self.room.path.name
        self.room.open()

    def reads_back(self) -> bool:
        """Whether an export is read back to an equal one."""
        data = self.room.export()
        other = Room(self.place / "other" / "memory.db")
        try:
            other.import_(data)
            return other.export() == data
        finally:
            other.close()
            shutil.rmtree(self.place / "other")

    def back_up(self) -> None:
        target = self.place / "backup"
        shutil.rmtree(target, ignore_errors=True)
        backup.make(self.room.path, target, now_us=self.room.clock.now_us())

    def put_the_backup_back(self) -> None:
        self.room.close()
        backup.restore(self.place / "backup", self.room.path, now_us=self.room.clock.now_us())
        self.room.open()


def _role(role: int) -> str:
    return MemoryRole.Name(role).removeprefix("MEMORY_ROLE_").lower().replace("unspecified", "plain")
