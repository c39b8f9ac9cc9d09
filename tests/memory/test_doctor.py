"""Each damage is found and named, a clean store is told to be one, and nothing is ever written."""

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

from dreamsvc import entropy
from dreamsvc.dreamer.v1.operations_pb2 import Expansion, Expansions, Operations, Positions
from dreamsvc.memory import doctor
from dreamsvc.memory.doctor import Finding, examine
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.memory_pb2 import Edge, Memory


@pytest.fixture
def used(room: Any, part: Any) -> Any:
    """A store that has seen everything: updates, forgetting, imports, a folded and a dropped dream, REM phases."""
    room.remember(
        *(Memory(key=key, text=key, vector=[1, i]) for i, key in enumerate("abcd")),
        edges=[Edge(source=s, target=t) for s, t in ("ab", "bc", "cd", "da")],
    )
    room.remember(Memory(key="a", text="again", vector=[2, 2]))
    room.forget("d")
    room.import_(room.export(), space="copy")
    room.dream(part.weights(0, {1: 0.75, 2: 0.1}, pruned=[2]), part.marks(1, {1: 1}))
    change, dream = room.begin_dream()
    dream.state = Dream.STATE_DISCARDED
    room.journal.drop_dream(change, dream).result(10)
    found = Expansion(node=1, words=["b"], gains=[0.5], peers=[2], shares=[0.5], length=1)
    room.dream(
        Operations(part=0, expansions=Expansions(expansions=[found])),
        Operations(part=1, positions=Positions(node_ids=[1, 2], dimension=2, points=[0, 0.5, 0.25, 0])),
    )
    return room


def bad(path: Path) -> dict[str, str]:
    """Details by name; whatever is wrong, there is a way to mend it."""
    found = [one for one in examine(str(path)) if not one.ok]
    assert all(one.mend for one in found), found
    return {one.name: one.detail for one in found}


def raw(room: Any, *statements: str) -> None:
    """Changes the file as no dreamsvc would, and opens it again as it is."""
    room.close()
    connection = apsw.Connection(str(room.path))
    connection.execute("PRAGMA foreign_keys=OFF").fetchall()
    for statement in statements:
        connection.execute(statement).fetchall()
    connection.close()


@pytest.fixture
def damaged(used: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., dict[str, str]]]:
    def damage(*statements: str) -> dict[str, str]:
        raw(used, *statements)
        return bad(used.path)

    yield damage
    used.path = used.path.with_name("fresh.db")
    used.open()


def test_a_clean_store_is_told_to_be_one(used: Any) -> None:
    findings = examine(str(used.path))
    assert all(isinstance(found, Finding) and found.ok for found in findings), findings
    assert len(findings) == len(doctor.CHECKS) + 2
    assert not any(found.mend for found in findings)
    used.reopen()
    assert bad(used.path) == {}


def test_a_new_store_is_clean(room: Any) -> None:
    assert bad(room.path) == {}


def test_it_looks_beside_a_running_store_and_sees_its_last_write(used: Any) -> None:
    used.execute("UPDATE vectors SET crc = crc + 1 WHERE node = 2")
    assert "row 2" in bad(used.path)["vectors match their checksums and memories"]
    used.execute("UPDATE vectors SET crc = crc - 1 WHERE node = 2")
    assert bad(used.path) == {}


@pytest.mark.parametrize(
    ("statements", "name", "detail"),
    [
        (
            ["UPDATE vectors SET body = x'003c013c' WHERE node = 1"],
            "vectors match their checksums and memories",
            "row 1 does not match its checksum",
        ),
        (
            ["UPDATE vectors SET body = x'', crc = 0 WHERE node = 1", "UPDATE spaces SET dimension = 3"],
            "vectors match their checksums and memories",
            "row 2 has 2 values, its space 3",
        ),
        (
            ["INSERT INTO vectors VALUES (999, x'', 0)"],
            "vectors match their checksums and memories",
            "row 999 has no memory",
        ),
        (
            ["UPDATE nodes SET deleted_us = 1 WHERE id = 1"],
            "living edges have living ends",
            "edge 1 is alive and has a forgotten end",
        ),
        (
            ["UPDATE nodes SET deleted_us = NULL"],
            "living edges have living ends",
            "edge 3 waits for a memory that is not forgotten",
        ),
        (
            ["DROP TRIGGER audit_no_update", "UPDATE audit SET actor = 'nobody' WHERE id = 2"],
            "the audit chain is unbroken",
            "row 2",
        ),
        (["DROP TRIGGER audit_no_delete", "DELETE FROM audit WHERE id = 1"], "the audit chain is unbroken", "row 2"),
        (
            ["UPDATE change_parts SET reversal_hash = zeroblob(32) WHERE change = 2 AND part = 0"],
            "reversal hashes match",
            "part 0 of change 2",
        ),
        (
            ["UPDATE change_parts SET before = x'' WHERE change = 2 AND part = 1"],
            "reversal hashes match",
            "part 1 of change 2",
        ),
        (["UPDATE meta SET value = 3 WHERE key = 'next_node'"], "ids and change numbers only grow", "next_node"),
        (["UPDATE meta SET value = 1 WHERE key = 'next_edge'"], "ids and change numbers only grow", "next_edge"),
        (
            ["UPDATE meta SET value = 1 WHERE key = 'change_seq'"],
            "ids and change numbers only grow",
            "newer than the last change",
        ),
        (["DELETE FROM nodes WHERE id = 2"], "the database is whole", "points at nothing"),
        (
            ["UPDATE changes SET state = 'sealed' WHERE id = 2"],
            "no sealed work is left over",
            "change 2 is sealed and not yet folded",
        ),
        (
            ["UPDATE changes SET state = 'sealed' WHERE id = 1", "UPDATE change_parts SET crc = 1 WHERE change = 1"],
            "staged and sealed parts match their checksums",
            "part 0 of change 1 does not match its checksum",
        ),
    ],
)
def test_each_damage_is_found_and_named(
    damaged: Callable[..., dict[str, str]], statements: list[str], name: str, detail: str
) -> None:
    found = damaged(*statements)
    assert detail in found[name]


def stored(expansion: Expansion, node: int = 1) -> str:
    """A statement that stores an expansion, with a checksum that fits."""
    body = expansion.SerializeToString()
    return f"UPDATE expansions SET node = {node}, body = x'{body.hex()}', crc = {zlib.crc32(body)}"


def placed(*point: float) -> str:
    body = np.array(point, "<f4").tobytes()
    return f"UPDATE positions SET body = x'{body.hex()}', crc = {zlib.crc32(body)} WHERE node = 1"


@pytest.mark.parametrize(
    ("statement", "detail"),
    [
        ("UPDATE expansions SET crc = crc + 1", "the expansion of memory row 1 does not match its checksum"),
        ("UPDATE expansions SET node = 99", "the expansion of row 99 has no memory"),
        (stored(Expansion(node=1, peers=[99], shares=[0.5], length=1)), "row 1 names row 99 as a peer"),
        (stored(Expansion(node=1, words=["b"], gains=[float("nan")])), "row 1 is of another or cannot be counted with"),
        (stored(Expansion(node=1, words=["b"])), "row 1 is of another or cannot be counted with"),
        (stored(Expansion(node=2, words=["b"], gains=[0.5])), "row 1 is of another or cannot be counted with"),
        ("UPDATE positions SET crc = crc + 1 WHERE node = 2", "the position of row 2 does not match its checksum"),
        ("UPDATE positions SET node = 99 WHERE node = 1", "the position of row 99 has no memory"),
        (placed(0.8, 0.6), "the position of row 1 is not inside the ball"),
        (placed(0.1, float("nan")), "the position of row 1 is not inside the ball"),
        (placed(float("inf"), 0), "the position of row 1 is not inside the ball"),
        (placed(), "the position of row 1 is not inside the ball"),
    ],
)
def test_each_damage_to_what_dreams_derived_is_found_and_named(
    damaged: Callable[..., dict[str, str]], statement: str, detail: str
) -> None:
    assert detail in damaged(statement)["what dreams derived matches its checksums and memories"]


@pytest.fixture
def compressed(room: Any, part: Any) -> Any:
    """a and b in a container (row 6), d folded into c."""
    room.remember(*(Memory(key=key, text=key, vector=[1, i]) for i, key in enumerate("abcde")))
    room.dream(
        part.eliminations(0, (3, [4])),
        part.containers(1, part.container(1, room.vectors([1, 2]))),
        part.marks(2, {1: 1}),
    )
    assert bad(room.path) == {}
    return room


FORGOTTEN = "what is forgotten is kept for its days and gone after"
PACKED, STANDING = "packed vectors match their checksums and memories", "what stands for others lives"


@pytest.mark.parametrize(
    ("statement", "name", "detail"),
    [
        ("UPDATE packed_vectors SET body = x'11' WHERE node = 1", PACKED, "row 1 does not match its checksum"),
        ("UPDATE packed_vectors SET scale = 9 WHERE node = 6", PACKED, "row 6 does not match its checksum"),
        (
            "UPDATE packed_vectors SET bits = 8 WHERE node = 1",
            PACKED,
            "row 1 has 1 bytes of 8 bits, its space 2 values",
        ),
        ("UPDATE packed_vectors SET bits = 8 WHERE node = 1", PACKED, "container 6 have codes of several widths"),
        ("UPDATE packed_vectors SET bits = 4 WHERE node = 6", PACKED, "row 6 has 2 bytes of 4 bits"),
        ("DELETE FROM packed_vectors WHERE node = 6", PACKED, "row 6 lies in a container or is one"),
        ("DELETE FROM packed_vectors WHERE node = 2", PACKED, "row 2 lies in a container or is one"),
        ("INSERT INTO packed_vectors VALUES (5, 4, 1, x'11', 0)", PACKED, "row 5 has no memory that needs one"),
        ("INSERT INTO packed_vectors VALUES (99, 4, 1, x'11', 0)", PACKED, "row 99 has no memory that needs one"),
        ("INSERT INTO vectors SELECT 6, body, crc FROM vectors WHERE node = 5", PACKED, "row 6 is a container and has"),
        ("UPDATE nodes SET merged_into = 5 WHERE id = 1", STANDING, "facet 1 lies in no living container"),
        ("UPDATE nodes SET deleted_us = 1 WHERE id = 6", STANDING, "facet 2 lies in no living container"),
        (
            "UPDATE nodes SET deleted_us = NULL WHERE id = 4",
            STANDING,
            "row 4 is stood for by another and is not hidden",
        ),
        ("UPDATE nodes SET merged_into = NULL WHERE id = 4", STANDING, "row 4 does not say what stands for it"),
        (
            "UPDATE nodes SET merged_into = 1 WHERE id = 5",
            STANDING,
            "row 5 does not say what stands for it, or says so",
        ),
        ("UPDATE nodes SET merged_into = 4 WHERE id = 4", STANDING, "row 4 stands for itself in the end"),
        ("UPDATE nodes SET role = 3, deleted_us = 1, merged_into = 9 - id WHERE id IN (4, 5)", STANDING, "in the end"),
        ("UPDATE nodes SET purged = 1 WHERE id = 4", FORGOTTEN, "row 4 was purged and still has content"),
        ("UPDATE nodes SET purged = 1, text = '' WHERE id = 4", FORGOTTEN, "purged while it could still be restored"),
        (
            "UPDATE change_parts SET before = NULL, reversal_hash = NULL WHERE part = 1",
            "reversal hashes match",
            "part 1 of change 1 was applied and has no image",
        ),
        (
            "UPDATE changes SET state = 'reverting'",
            "no sealed work is left over",
            "change 1 is taken back in part",
        ),
    ],
)
def test_each_damage_to_what_was_merged_is_found_and_named(
    compressed: Any, statement: str, name: str, detail: str
) -> None:
    raw(compressed, statement)
    assert detail in bad(compressed.path)[name]
    compressed.path = compressed.path.with_name("fresh.db")
    compressed.open()


def test_a_torn_page_is_found(used: Any) -> None:
    used.close()
    data = bytearray(used.path.read_bytes())
    page = 8192
    root = apsw.Connection(str(used.path))
    ((number,),) = root.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'edges'").fetchall()
    root.close()
    data[(number - 1) * page : number * page] = b"\xa5" * page
    used.path.write_bytes(data)
    assert "the database is whole" in bad(used.path)
    used.path = used.path.with_name("fresh.db")
    used.open()


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"no database at all " * 1000, "damaged"), (None, "does not exist"), ("dir", "is a directory")],
)
def test_what_is_no_store_is_told(tmp_path: Path, content: Any, why: str) -> None:
    path = tmp_path / "memory.db"
    if content == "dir":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    (found,) = examine(str(path))
    assert (found.name, found.ok) == ("the store opens", False)
    assert why in found.detail


def test_a_place_that_cannot_be_looked_at_is_told(tmp_path: Path) -> None:
    (found,) = examine(str(tmp_path / ("x" * 300)))
    assert (found.name, found.ok, found.mend) == ("the store opens", False, "mend that, then look again")
    assert "File name too long" in found.detail


def test_a_database_of_another_program_is_told(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    (found,) = examine(str(path))
    assert not found.ok
    assert "another program" in found.detail


def test_many_problems_are_counted_and_few_are_shown(room: Any) -> None:
    room.remember(*(Memory(text=str(i), vector=[1, i]) for i in range(20)))
    room.execute("UPDATE vectors SET crc = crc + 1")
    detail = bad(room.path)["vectors match their checksums and memories"]
    assert detail.endswith("(and 15 more)")
    assert detail.count("checksum") == 5


def test_it_never_writes(used: Any) -> None:
    raw(used, "UPDATE vectors SET crc = 1", "UPDATE changes SET state = 'sealed'", "UPDATE meta SET value = 1")
    before = {path.name: path.read_bytes() for path in used.path.parent.iterdir() if path.is_file()}
    assert len(bad(used.path)) >= 3
    after = {path.name: path.read_bytes() for path in used.path.parent.iterdir() if path.is_file()}
    assert after[used.path.name] == before[used.path.name]
    # SQLite may leave an empty log and its index beside a database that it only read.
    assert after.keys() - before.keys() <= {f"{used.path.name}-wal", f"{used.path.name}-shm"}
    assert not after.get(f"{used.path.name}-wal")
    used.path = used.path.with_name("fresh.db")
    used.open()


@pytest.mark.parametrize("node", [1, 6])
def test_a_damaged_packed_vector_is_mended_by_taking_its_container_apart(compressed: Any, node: int) -> None:
    compressed.execute("UPDATE packed_vectors SET crc = crc + 1 WHERE node = ?", node)
    (found,) = [one for one in examine(str(compressed.path)) if not one.ok]
    assert "dreamsvc unmerge" in found.mend
    (uid,) = compressed.rows("SELECT uid FROM nodes WHERE id = 6")[0]
    compressed.unmerge(entropy.uuid_text(uid))
    assert bad(compressed.path) == {}
    compressed.in_order()
