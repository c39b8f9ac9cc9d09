"""The life of a small store: whole acts of every kind, and a ledger of what the store must hold because of them.

Each act is done first to a twin, a copy of the store beside it that meets no fault, so that the ledger knows the
digest that the export has once the act has happened. A fault-injecting VFS must leave `twin_path` alone.
Equal seeds and equal acts give equal stores; the clock moves only between acts.
"""

import contextlib
import hashlib
import shutil
from pathlib import Path
from random import Random

import apsw

from benchmarks.proof import acts
from benchmarks.proof.acts import Act, Impossible
from benchmarks.proof.jumping_clock import BEGINNING_US, DAY, SECOND, JumpingClock
from benchmarks.proof.ledger import REFUSED, Expected, Ledger
from benchmarks.proof.opened import SPACE, Opened
from benchmarks.proof.verifying import last_audited, settle, verify
from dreamsvc.errors import ChangedLater
from dreamsvc.memory import export, spaces
from dreamsvc.memory.sqlite import open_read_only

__all__ = ["ACTS", "Expected", "Impossible", "JumpingClock", "Ledger", "Life", "digest", "twin_path", "verify"]

_PLANS = {
    "remember": acts.remember,
    "update": acts.update,
    "forget": acts.forget,
    "restore": acts.restore,
    "link": acts.link,
    "import": acts.import_,
    "dream": acts.dream,
    "suspend": acts.suspend,
    "revert": acts.revert,
    "unmerge": acts.unmerge,
    "purge": acts.purge,
    "backup": acts.back_up,
}
# What makes an act possible where the store has nothing for it.
_FIRST = {"restore": "forget", "revert": "dream", "unmerge": "dream", "purge": "forget"}
ACTS = (*_PLANS, "close")
# Enough memories for every act.
_AT_FIRST = 4


def twin_path(path: Path) -> Path:
    return path.with_name(path.name + ".twin") / "memory.db"


def digest(path: Path, space: str = SPACE) -> str:
    """Of the export of a store, whoever has it open; unfinished work is left as it is."""
    with contextlib.closing(open_read_only(path)) as connection:
        connection.execute("BEGIN")
        found = hashlib.sha256()
        for _, line in export.lines(connection, spaces.find(connection, space)):
            found.update(line)
        return found.hexdigest()


class Life:
    """An open store that is lived in; what it acknowledged stands in `ledger`."""

    def __init__(
        self,
        path: Path,
        *,
        seed: int,
        clock: JumpingClock | None = None,
        ledger: Ledger | None = None,
        twin: bool = True,
    ) -> None:
        """Opens and recovers; a store that has no memories gets some. Without a twin no digests are known."""
        self.path = path
        self.ledger = ledger or Ledger()
        self.clock = clock or JumpingClock(self.ledger.now_us or BEGINNING_US)
        self.seed = seed
        self._with_twin = twin
        self._twin: Opened | None = None
        self._planned = ""
        # Digest before the last act, if that was a dream.
        self._before_dream: str | None = None
        self.opened = Opened(path, self.clock)
        try:
            settle(self.opened, self.ledger)
            self._note()
            if not self.ledger.acked:
                for _ in range(_AT_FIRST):
                    self.act("remember")
        except BaseException:
            self.abandon()
            raise

    def act(self, name: str) -> None:
        """One whole act, and what has to come before it; raises what the store raised."""
        if name == "close":
            self.close()
            self.opened = Opened(self.path, self.clock)
            return
        try:
            if name == "purge":
                self.wait(31 * DAY)
            self.do(self.plan(name))
        except (Impossible, ChangedLater):
            self.act(_FIRST.get(name, "remember"))
            self.act(name)

    def plan(self, name: str) -> Act:
        """An act that is possible as the store is now, for `do`; raises Impossible."""
        self.ledger.acts += 1
        self.clock.us += SECOND
        self.ledger.now_us = self.clock.us
        number = self.ledger.acts
        planned = _PLANS[name](self._reader(), self.ledger, Random(f"{self.seed} {number} {name}"), number)
        self._planned = name
        return planned

    def wait(self, us: int) -> None:
        """Time passes, while the service runs."""
        self.clock.us += us
        self.ledger.now_us = self.clock.us
        for opened in (self.opened, self._twin):
            # As every hour: a store that has been off for a month doubts the wall clock.
            if opened is not None:
                opened.store.keep_time().result()

    def do(self, planned: Act, after: str | None = None) -> None:
        """Raises what the store raised; then the ledger has what it may have done in flight.

        `after` is the digest that it leads to, for a life without a twin that finds it out.
        """
        before = self.ledger.digest
        if self._twin is not None:
            twin, self._twin = self._twin, None
            try:
                planned(twin, Ledger(), None)
                # A dream that is taken back at once leaves what was before it, whatever the twin says.
                after = (self._planned == "revert" and self._before_dream) or twin.digest()
            except REFUSED:
                self._twin = twin
                raise
            except BaseException:
                twin.abandon()
                raise
            try:
                planned(self.opened, self.ledger, after)
            except BaseException:
                # It is ahead of the store, or not.
                twin.abandon()
                raise
            self._twin = twin
        else:
            planned(self.opened, self.ledger, after)
        self._before_dream = before if self._planned == "dream" else None
        self._note()

    def close(self) -> None:
        """As the service ends, with a snapshot for the next start."""
        self._drop_twin()
        self.opened.close()

    def abandon(self) -> None:
        """Lets go of the files as they are, finishing nothing; for after a fault."""
        self._drop_twin()
        self.opened.abandon()

    def _reader(self) -> Opened:
        """The store to plan by: the twin, that knows no faults, where there is one."""
        if not self._with_twin:
            return self.opened
        if self._twin is None:
            # What a fault broke off is ended, or dropped, before anything else is begun.
            self.opened.wait(self.opened.records.recover())
            settle(self.opened, self.ledger)
            self._twin = _copied(self.path, self.clock)
            known, found = self.ledger.digest, self._twin.digest()
            assert known in (None, found), "the store is not what was acknowledged"
            self.ledger.digest = found
        return self._twin

    def _note(self) -> None:
        """What must not be taken back from here on."""
        self.ledger.audited = last_audited(self.opened)
        self.ledger.change_seq = self.opened.rows("SELECT value FROM meta WHERE key='change_seq'")[0][0]

    def _drop_twin(self) -> None:
        if self._twin is not None:
            self._twin.abandon()
            self._twin = None
        shutil.rmtree(twin_path(self.path).parent, ignore_errors=True)


def _copied(path: Path, clock: JumpingClock) -> Opened:
    place = twin_path(path)
    shutil.rmtree(place.parent, ignore_errors=True)
    place.parent.mkdir()
    source = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    target = apsw.Connection(str(place))
    with target.backup("main", source, "main") as backup:
        backup.step()
    source.close()
    target.close()
    return Opened(place, clock)
