"""Checks the invariants of a store and says how to mend what is broken; reads only, also beside a running server.

All checks see one moment of the store. Which invariant of the design a check is of stands in brackets: I1, I2, I8 and
I10 speak of what was before and cannot be seen in files alone, except that what they leave behind must agree.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path

from dreamsvc.errors import DreamsvcError, StoreCorrupt
from dreamsvc.memory import locking, replacing, sqlite
from dreamsvc.memory.doctor import changes, content, database, files
from dreamsvc.memory.doctor.finding import RESTORE, Check, Finding, Note, Place, Problem, Said

__all__ = ["CHECKS", "LEFT_OVER", "Finding", "examine"]

MOST_SHOWN = 5
AGAIN = "mend that, then look again"
OPENS = "the store opens"
LOG = "the log is whole"
LEFT_OVER = "no sealed work is left over"
"""The check that fails for a store which needs nothing but its next start."""

CHECKS: tuple[tuple[str, Check], ...] = (
    ("the database is whole", database.pages),
    ("tables, indexes and triggers are this version's", database.schema),
    ("what memories say can be read", content.written),
    ("vectors match their checksums and memories", content.vectors),  # I3, I4
    ("packed vectors match their checksums and memories", content.packed),  # I3, I4
    ("what stands for others lives", content.what_stands_for_others),
    ("what dreams derived matches its checksums and memories", content.what_dreams_derived),
    ("living edges have living ends", content.edges),  # I5
    ("what is forgotten is kept for its days and gone after", content.what_is_forgotten),  # I12
    ("the audit chain is unbroken", changes.chain),  # I6
    ("the end of the audit is there", changes.end_of_audit),  # I6
    ("reversal hashes match", changes.reversal),  # I7, I10
    ("staged and sealed parts match their checksums", changes.parts),  # I8
    (LEFT_OVER, changes.left_over),  # I8
    ("what was not sealed changed nothing", changes.unsealed),  # I2, I9
    ("records of dreams agree with what became of them", changes.records),
    ("checkpoints are whole and belong to dreams that can go on", changes.checkpoints),
    ("first answers to requests can be read", changes.answers),
    ("ids and change numbers only grow", database.counters),  # I11
    ("snapshots for the next start show what the rows say", files.snapshots),  # I11
    ("snapshots of dreams are whole", files.dream_snapshots),
    ("what lies beside the store is known", files.left_behind),
    ("one process serves it at most", files.server),
)


def examine(path: str, *, progress: Callable[[str, int, int], None] | None = None) -> list[Finding]:
    """All checks; the first ones alone where the store cannot be opened.

    progress hears the name of each check before it begins, its number and how many there are.
    """
    tell = progress or _nobody
    place = Path(path).expanduser()
    total = len(CHECKS) + 2
    tell(OPENS, 1, total)
    try:
        there = place.exists()
    except OSError as error:
        return [Finding(OPENS, False, f"{place}: {error.strerror}", AGAIN)]
    if not there or place.is_dir():
        what = "is a directory" if there else "does not exist"
        return [Finding(OPENS, False, f"{place} {what}", "name another file with --store")]
    real = replacing.real(place)
    holder = locking.holder(real)
    tell(LOG, 2, total)
    whole_log = _finding(LOG, lambda: files.log(real, holder))
    try:
        connection = sqlite.open_read_only(place)
    except DreamsvcError as error:
        closed = Finding(OPENS, False, error.message, RESTORE if isinstance(error, StoreCorrupt) else AGAIN)
        return [closed] if whole_log.ok else [closed, whole_log]
    found = [Finding(OPENS, True, str(place)), whole_log]
    with contextlib.closing(connection):
        here = Place(connection, real, holder)
        begun = _finding(OPENS, lambda: _one_moment(here))
        if not begun.ok:
            found[0] = begun
        for number, (name, check) in enumerate(CHECKS, 3):
            tell(name, number, total)
            found.append(_finding(name, lambda check=check: check(here)))
    return found


def _one_moment(place: Place) -> Said:
    place.connection.execute("BEGIN").fetchall()
    sqlite.change_seq(place.connection)
    yield Note(str(place.path))


def _finding(name: str, run: Callable[[], Said]) -> Finding:
    said: list[Problem | Note] = []
    try:
        with sqlite.translated():
            said.extend(run())
    except DreamsvcError as error:
        said.append(Problem(error.message, RESTORE if isinstance(error, StoreCorrupt) else AGAIN))
    except Exception as error:
        # A row that no check foresaw: whatever reads it stumbles over it too.
        said.append(Problem(f"{type(error).__name__}: {error}", RESTORE))
    problems = [one for one in said if isinstance(one, Problem)]
    shown = [one.what for one in problems or said]
    more = f" (and {len(shown) - MOST_SHOWN} more)" if len(shown) > MOST_SHOWN else ""
    mends = dict.fromkeys(one.mend for one in problems if one.mend)
    mend = "; ".join(list(mends)[:MOST_SHOWN]) + (" and so on" if len(mends) > MOST_SHOWN else "")
    return Finding(name, not problems, "; ".join(shown[:MOST_SHOWN]) + more, mend)


def _nobody(name: str, number: int, total: int) -> None:
    pass
