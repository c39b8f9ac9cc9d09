"""Connections that read: one for each who reads at the moment, kept for the next who does.

Some are opened at the start and stay: where the file has lost its name or its permissions meanwhile no new one can be
opened, and reads go on all the same.
"""

import contextlib
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Protocol

from dreamsvc.errors import StoreUnavailable

AT_LEAST = 2
WAIT_S = 5.0


class _Closes(Protocol):
    def close(self) -> None: ...
    def txn_state(self) -> int: ...


class Readers[Connection: _Closes]:
    """Lends connections; one is with one borrower at a time."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        """Raises what `connect` raises; it may be called in any thread."""
        self._connect = connect
        self._all: list[Connection] = []
        self._free: list[Connection] = []
        self._opening = 0
        self._changed = threading.Condition()
        self._paused = self._closed = False
        try:
            self._fill()
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._all))

    @contextlib.contextmanager
    def one(self) -> Generator[Connection]:
        """A connection; waits a while for one where none can be opened, then raises what `connect` raises."""
        connection = self._take(new=False)
        try:
            yield connection
        finally:
            # What an error interrupted still has rows to read, and whoever came next would see the store of then.
            self._give_back(connection, keep=not connection.txn_state())

    @contextlib.contextmanager
    def new(self) -> Generator[Connection]:
        """A connection that nobody had before and nobody has after; one of the others where none can be opened."""
        connection = self._take(new=True)
        try:
            yield connection
        finally:
            self._give_back(connection, keep=len(self._all) <= AT_LEAST)

    def replace(self, within_s: float, between: Callable[[], None]) -> bool:
        """Closes all and opens others, where all come back in time; `between` runs when nobody reads.

        False, and no effect, where one is still out then. Raises what `between` and `connect` raise.
        """
        with self._changed:
            self._paused = True
            try:
                if not self._changed.wait_for(self._all_are_back, within_s):
                    return False
                between()
                self._close_all()
                self._fill()
                return True
            finally:
                self._paused = False
                self._changed.notify_all()

    def close(self) -> None:
        """Closes all, those that are out too."""
        with self._changed:
            self._closed = True
            self._close_all()
            self._changed.notify_all()

    def _take(self, *, new: bool) -> Connection:
        with self._changed:
            self._changed.wait_for(lambda: not self._paused)
            if self._closed:
                raise StoreUnavailable("the store is closed")
            if self._free and not new:
                return self._free.pop()
            self._opening += 1
        connection, refusal = None, None
        try:
            connection = self._connect()
        except Exception as error:
            refusal = error
        with self._changed:
            self._opening -= 1
            self._changed.notify_all()
            if connection is not None:
                self._all.append(connection)
                return connection
            # Not for ever: whoever reads within a read holds the one that it waits for.
            self._changed.wait_for(lambda: self._closed or (self._free and not self._paused), WAIT_S)
            if self._free and not self._paused:
                return self._free.pop()
            raise refusal or StoreUnavailable("the store is closed")

    def _give_back(self, connection: Connection, *, keep: bool = True) -> None:
        with self._changed:
            if connection in self._all and keep:
                self._free.append(connection)
            elif connection in self._all:
                self._all.remove(connection)
                connection.close()
                with contextlib.suppress(Exception):
                    self._fill()
            self._changed.notify_all()

    def _all_are_back(self) -> bool:
        return not self._opening and len(self._free) == len(self._all)

    def _fill(self) -> None:
        while len(self._all) < AT_LEAST:
            connection = self._connect()
            self._all.append(connection)
            self._free.append(connection)

    def _close_all(self) -> None:
        for connection in self._all:
            connection.close()
        self._all.clear()
        self._free.clear()
