"""Takes up a changed configuration while the service runs (REQ-DREAM-031).

How a reload runs
1. It is asked for: the file has other bytes than those that were read, SIGHUP came, or somebody called ReloadConfig.
2. File, environment and command line are read again. Anything wrong rejects the whole, and nothing changes.
3. Keys that need a restart keep the values that the service runs with; all others are exchanged at once, in `InForce`.
4. How it went is logged, and kept for GetConfig and the status.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dreamsvc import contract
from dreamsvc.clock import Clock, to_timestamp
from dreamsvc.config import InForce
from dreamsvc.config_sources import Read, Sources
from dreamsvc.errors import InvalidFields
from dreamsvc.v1.admin_pb2 import ConfigOrigin, ConfigProblem, ConfigReload
from dreamsvc.v1.config_pb2 import Config

logger = logging.getLogger(__name__)
LOOK_S = 1.0
type Cause = ConfigReload.Cause.ValueType


class Change(NamedTuple):
    """What of a configuration that was read can be taken up now."""

    config: Config
    changed: list[str]
    needs_restart: list[str]


class Reloading:
    """Reads the sources again; owns how that went the last time."""

    def __init__(
        self,
        in_force: InForce,
        clock: Clock,
        sources: Sources | None = None,
        first: Read | None = None,
        check: Callable[[Config], None] = lambda _: None,
    ) -> None:
        """sources, first: where the configuration in force came from; without them a reload changes nothing.

        check: raises InvalidFields for what could not be served, though each key is right by itself.
        """
        self._in_force = in_force
        self._clock = clock
        self._sources = sources
        self._check = check
        first = first or Read(in_force.whole, [])
        self._origins = {origin.path: origin for origin in first.origins}
        # Of the file, as it was read last, or seen when it could not be taken up.
        self._content = first.content
        self._turn = asyncio.Lock()
        self._asked: set[asyncio.Task[None]] = set()
        self.last: ConfigReload | None = None

    @property
    def origins(self) -> Sequence[ConfigOrigin]:
        """Of what is in force, in the order of the proto."""
        return [self._origins[path] for path in contract.keys(Config.DESCRIPTOR) if path in self._origins]

    @property
    def file(self) -> str:
        return str(self._sources.file) if self._sources is not None and self._sources.file is not None else ""

    @property
    def notice(self) -> str:
        """What of the configuration that was read last is not in force, in words; '' where all of it is."""
        if self.last is None:
            return ""
        if not self.last.ok:
            shown = "; ".join(f"{problem.path}: {problem.message}" for problem in self.last.problems[:5])
            return f"the configuration was rejected, the one before it is in force: {shown}"
        if self.last.needs_restart:
            return f"new values wait for a restart: {', '.join(self.last.needs_restart)}"
        return ""

    # ── reading again ───────────────────────────────────────────────────────────

    async def reload(self, cause: Cause, *, validate_only: bool = False) -> ConfigReload:
        """Takes up what the sources say now, or only says what that would change; raises InvalidFields."""
        async with self._turn:
            found = ConfigReload(time=to_timestamp(self._clock.now_us()), cause=cause)
            try:
                read, change = await asyncio.to_thread(self._read)
            except InvalidFields as error:
                found.problems.extend(ConfigProblem(path=path, message=message) for path, message in error.violations)
                if not validate_only:
                    self.last = found
                    logger.error("the configuration was rejected, the one before it stays in force: %s", error.message)
                raise
            found.ok = True
            found.changed.extend(change.changed)
            found.needs_restart.extend(change.needs_restart)
            if not validate_only:
                self._take_up(read, change, found)
            return found

    def _read(self) -> tuple[Read, Change]:
        running = self._in_force.whole
        if self._sources is None:
            return Read(running, list(self._origins.values())), Change(running, [], [])
        read = self._sources.read()
        change = between(running, read.config)
        # As the next start would do it, and as it would be until then: e.g. credentials that are switched off together
        # with a host that others can reach would leave the service open until it is restarted.
        self._check(read.config)
        self._check(change.config)
        return read, change

    def _take_up(self, read: Read, change: Change, found: ConfigReload) -> None:
        self._content = read.content
        origins = {origin.path: origin for origin in read.origins}
        for path in change.needs_restart:
            # Its value in force is still the old one.
            origins.pop(path, None)
            if path in self._origins:
                origins[path] = self._origins[path]
        self._origins = origins
        if change.changed:
            self._in_force.exchange(change.config)
        self.last = found
        logger.info(
            "the configuration was read again: changed %s; waiting for a restart %s",
            ", ".join(change.changed) or "nothing",
            ", ".join(change.needs_restart) or "nothing",
        )

    # ── when ────────────────────────────────────────────────────────────────────

    def ask(self, cause: Cause) -> None:
        """Has it read again soon; a rejection is told where it is told in any case."""
        task = asyncio.create_task(self._reload_or_tell(cause))
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def _reload_or_tell(self, cause: Cause) -> None:
        try:
            await self.reload(cause)
        except InvalidFields:
            logger.debug("rejected", exc_info=True)
        except Exception:
            # Whatever it is, the next change of the file gets its chance.
            logger.exception("the configuration could not be read again")

    async def watch(self) -> None:
        """Looks for other bytes in the file, for as long as the service runs.

        The bytes are compared, not the file's times: a file that is replaced, a link that is pointed elsewhere and two
        changes within one tick are all the same to it. What is seen for the first time may be half written, and an
        empty file is a configuration too: it is taken up when the next look finds the same.
        """
        if self._sources is None or self._sources.file is None:
            return
        looked = self._content
        while True:
            await asyncio.sleep(LOOK_S)
            before, looked = looked, await asyncio.to_thread(self._look)
            if looked == before and looked != self._content:
                self._content = looked
                await self._reload_or_tell(ConfigReload.CAUSE_FILE)

    def _look(self) -> bytes | None:
        assert self._sources is not None
        assert self._sources.file is not None
        try:
            return self._sources.file.read_bytes()
        except OSError:
            return None


def between(running: Config, wanted: Config) -> Change:
    """What a service that runs with one configuration can take of another."""
    taken = Config()
    taken.CopyFrom(wanted)
    changed: list[str] = []
    needs_restart: list[str] = []
    for path, field in contract.keys(Config.DESCRIPTOR).items():
        old, new = contract.get(running, path), contract.get(wanted, path)
        if old == new:
            continue
        if contract.needs_restart(field):
            needs_restart.append(path)
            contract.put(taken, path, old)
        else:
            changed.append(path)
    return Change(taken, changed, needs_restart)
