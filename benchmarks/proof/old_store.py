"""A store as the first version of the schema left it."""

import zlib
from importlib import resources
from pathlib import Path

import apsw
import numpy as np

from dreamsvc import entropy
from dreamsvc.memory import audit, sqlite

NOW_US = 1_600_000_000_000_000


def vector(number: int) -> bytes:
    return np.random.default_rng(number).normal(size=4).astype("<f2").tobytes()


def old_store(path: Path, version: int = 1) -> None:
    """As the first version wrote it: four memories, one of them forgotten, a vector for each, edges, a folded night."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = apsw.Connection(str(path))
    for pragma in ("page_size=8192", f"application_id={sqlite.APPLICATION_ID}", "journal_mode=WAL"):
        raw.execute(f"PRAGMA {pragma}").fetchall()
    raw.execute(resources.files("dreamsvc.memory.schema").joinpath("0001.sql").read_text(encoding="utf-8")).fetchall()
    raw.execute(f"PRAGMA user_version={version}").fetchall()
    raw.execute("INSERT INTO spaces VALUES (1, 'default', 4, 'client', 5, ?)", (NOW_US,))
    for row, key in enumerate("abcd", 1):
        uid = entropy.uuid_bytes(entropy.uuid_for("default", key))
        raw.execute(
            "INSERT INTO nodes (id, space, uid, key, kind, title, text, importance, created_us, updated_us, deleted_us,"
            " seq, user_seq) VALUES (?,1,?,?,'note','',?,0.5,?,?,?,1,1)",
            (row, uid, key, f"{key} text", NOW_US, NOW_US, NOW_US if key == "d" else None),
        )
        raw.execute("INSERT INTO vectors VALUES (?,?,?)", (row, vector(row), zlib.crc32(vector(row))))
    raw.execute("INSERT INTO edge_types VALUES (1, 'related')")
    raw.execute(
        "INSERT INTO edges (id, space, source, target, type, weight, confidence, origin, created_us, seq, user_seq)"
        " VALUES (1,1,1,2,1,0.25,1,1,?,1,1)",
        (NOW_US,),
    )
    raw.execute("UPDATE meta SET value = 5 WHERE key = 'next_node'")
    raw.execute("UPDATE meta SET value = 2 WHERE key = 'next_edge'")
    raw.execute("UPDATE meta SET value = 9 WHERE key = 'change_seq'")
    audit.record(raw, now_us=NOW_US, actor="user", action="remember", space=1, seq=1)  # pyright: ignore
    raw.close()
