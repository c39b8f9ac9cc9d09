"""A store as the service opens it, in this process, without its doors and without a dreamer."""

import asyncio
import contextlib
import os
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apsw

from benchmarks.proof.jumping_clock import SECOND
from dreamsvc import contract
from dreamsvc.clock import Clock
from dreamsvc.config import InForce, defaults
from dreamsvc.dream.policies import Policies
from dreamsvc.dream.records import Records
from dreamsvc.memory.journal import Journal
from dreamsvc.memory.store import Store
from dreamsvc.v1.config_pb2 import StoreConfig
from dreamsvc.v1.memory_service_pb2 import ExportSummary

SPACE = "default"


class Opened:
    """Store, journal and records of dreams, recovered as a start of the service does it."""

    def __init__(self, path: Path, clock: Clock, *, recover: bool = True) -> None:
        """Raises what the store raises; nothing stays open then."""
        self.path = path
        config = StoreConfig()
        contract.fill(config)
        config.path = str(path)
        self.store = Store(config, clock)
        self.clock = self.store.clock
        self.journal = Journal(self.store.database, self.clock, 86_400 * SECOND)
        settings = defaults()
        self.config = settings.dream
        in_force = InForce(settings)
        self.records = Records(self.store, self.journal, in_force, Policies(in_force), self.clock)
        self._loop = asyncio.new_event_loop()
        # No more is done at once than one thing.
        self._threads = ThreadPoolExecutor(1)
        self._loop.set_default_executor(self._threads)
        if recover:
            try:
                self.wait(self.records.recover())
            except BaseException:
                self.abandon()
                raise

    def wait[T](self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.store.database.read(lambda connection: connection.execute(sql, values).fetchall())

    def digest(self, space: str = SPACE) -> str:
        """Of the export."""
        *_, last = self.store.export(space)
        assert isinstance(last, ExportSummary)
        return last.digest

    def close(self) -> None:
        """As the service ends; a snapshot is left for the next start."""
        self.store.close()
        self._end()

    def abandon(self) -> None:
        """Lets go of all files as they are, as if the process had ended; for after a fault."""
        database = self.store.database
        # The end of a process waits for nothing and moves no log: there is no such call, and no need of one.
        with database._wanted:
            closed, database._closing = database._closing, True
            database._wanted.notify()
        if not closed:
            database._thread.join()
            for connection in (*database._readers, database._writer):
                with contextlib.suppress(apsw.Error):
                    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # pyright: ignore
            with contextlib.suppress(apsw.Error):
                database._readers.close()
            with contextlib.suppress(apsw.Error):
                database._writer.close()
            os.close(database._lock_file)
        self._end()

    def _end(self) -> None:
        self._threads.shutdown()
        self._loop.close()
