"""An import from its first chunk to its report: read, staged, sealed, folded; all of it or nothing."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator

from dreamsvc import clock as clocks
from dreamsvc import contract
from dreamsvc.dream.scheduler import Scheduler
from dreamsvc.errors import EmbedderMismatch, ImportMalformed, NotFound, StoreUnavailable, invalid
from dreamsvc.memory import remember
from dreamsvc.memory.embedding import TextEmbedding
from dreamsvc.memory.foresight import Foresight
from dreamsvc.memory.imports import LineReader
from dreamsvc.memory.journal import Journal
from dreamsvc.memory.spaces import Space
from dreamsvc.memory.sqlite import ChangeId
from dreamsvc.memory.store import Store
from dreamsvc.v1 import memory_pb2
from dreamsvc.v1.memory_service_pb2 import ImportHeader, ImportRequest, ImportResponse, RememberRequest

logger = logging.getLogger(__name__)
SHOWN_LINES = 10
# How often a disk in trouble is tried again.
GO_ON_S = 1.0
# In the metadata of an error: what was sent is safe, and need not be sent again.
KEPT = "kept"


class Importing:
    """Runs imports; each is one change of the store, undone as a whole where it breaks off."""

    def __init__(self, store: Store, journal: Journal, scheduler: Scheduler, embedding: TextEmbedding) -> None:
        self._store = store
        self._journal = journal
        self._scheduler = scheduler
        self._embedding = embedding
        self._later: set[asyncio.Task[None]] = set()

    async def run(self, requests: AsyncIterator[ImportRequest]) -> ImportResponse:
        """Raises InvalidFields, ImportMalformed, EmbedderMismatch, RequestIdConflict; nothing is stored then.

        Raises StoreUnavailable too; with the metadata KEPT the file is stored as soon as the disk takes it.
        """
        began = clocks.precise_s()
        header = await _header(requests)
        if not header.dry_run and header.request_id:
            known = await asyncio.wrap_future(self._journal.import_answer(header, None))
            if known is not None:
                return known
        reader = LineReader(header.space, header.format)
        if header.dry_run:
            await self._rehearse(header, reader, requests)
        else:
            self._scheduler.note_call(header.space)
            await self._import(header, reader, requests)
            self._embedding.wake()
        reader.report.seconds = clocks.precise_s() - began
        answer = ImportResponse(report=reader.report)
        if not header.dry_run and header.request_id:
            await asyncio.wrap_future(self._journal.import_answer(header, answer))
        return answer

    async def _import(self, header: ImportHeader, reader: LineReader, requests: AsyncIterator[ImportRequest]) -> None:
        change, space = await self._begun(header.space)
        try:
            staged = 0
            async for parts in self._parts(space, reader, requests):
                bodies = [part.SerializeToString() for part in parts]
                await asyncio.wrap_future(self._journal.stage_bytes(change, staged, bodies))
                staged += len(bodies)
            _refuse_malformed(reader, skip=header.skip_malformed)
            await asyncio.wrap_future(self._journal.seal_import(change, space.name, reader.embedder, reader.dimension))
        except BaseException:
            # Whatever ended it, the caller going away included: nothing of it was applied.
            if not await asyncio.shield(asyncio.wrap_future(self._journal.drop_import(change))):
                # It went away while the seal was being written.
                await asyncio.shield(asyncio.ensure_future(self._fold(change, space, reader)))
            raise
        # Sealed: it is folded to its end although the caller may go away now.
        await asyncio.shield(asyncio.ensure_future(self._fold(change, space, reader)))

    async def _begun(self, name: str) -> tuple[ChangeId, Space]:
        """The change that an import is; a caller who goes away in this moment leaves none behind."""
        begun = asyncio.wrap_future(self._journal.begin_import(name))
        try:
            return await asyncio.shield(begun)
        except asyncio.CancelledError:
            change, _ = await begun
            await asyncio.wrap_future(self._journal.drop_import(change))
            raise

    async def _fold(self, change: ChangeId, space: Space, reader: LineReader) -> None:
        try:
            while (stored := await asyncio.wrap_future(self._store.fold_next(change, space.name))) is not None:
                _count(reader, stored)
        except StoreUnavailable as error:
            task = asyncio.create_task(self._go_on(change, space))
            self._later.add(task)
            task.add_done_callback(self._later.discard)
            raise StoreUnavailable(
                f"the file is kept, and what of it is not stored yet follows once the store takes changes"
                f" ({error.message})",
                metadata={KEPT: "true"},
            ) from error
        reader.report.to_embed = await asyncio.to_thread(self._store.count_waiting, space.name)

    async def _go_on(self, change: ChangeId, space: Space) -> None:
        """Folds what a disk in trouble was in the way of; where the service ends before, the next start does it."""
        while True:
            await asyncio.sleep(GO_ON_S)
            with contextlib.suppress(StoreUnavailable):
                while await asyncio.wrap_future(self._store.fold_next(change, space.name)) is not None:
                    pass
                logger.info('an import into space "%s" that had to wait for the disk is stored', space.name)
                self._embedding.wake()
                return

    def close(self) -> None:
        """Leaves what waits for the disk to the next start."""
        for task in self._later:
            task.cancel()

    async def _rehearse(self, header: ImportHeader, reader: LineReader, requests: AsyncIterator[ImportRequest]) -> None:
        reader.report.dry_run = True
        try:
            space = await asyncio.to_thread(self._store.space, header.space)
        except NotFound:
            space = Space(-1, header.space, 0, "")
        foresight = Foresight()
        async for parts in self._parts(space, reader, requests):
            for part in parts:
                _count(reader, await asyncio.to_thread(self._store.foresee, space, foresight, part))
        self._check_vectors(space, reader)

    async def _parts(
        self, space: Space, reader: LineReader, requests: AsyncIterator[ImportRequest]
    ) -> AsyncIterator[list[RememberRequest]]:
        """What the file holds, in parts, as it comes in; parsing runs off the event loop."""
        async for request in requests:
            if request.WhichOneof("part") != "chunk":
                raise invalid("header", "came twice; only the first message has one")
            yield await asyncio.to_thread(_listed, reader.feed(request.chunk))

        def stored(names: set[str]) -> set[str]:
            return self._store.stored_names(space, names)

        yield await asyncio.to_thread(_listed, reader.finish(stored))

    @staticmethod
    def _check_vectors(space: Space, reader: LineReader) -> None:
        if not reader.dimension or not space.dimension:
            return
        if (space.embedder, space.dimension) != (reader.embedder, reader.dimension):
            raise EmbedderMismatch(
                f"the file's vectors are {reader.embedder} with {reader.dimension} values, "
                f'those of space "{space.name}" {space.embedder} with {space.dimension}'
            )


def _listed(parts: Iterator[RememberRequest]) -> list[RememberRequest]:
    return list(parts)


async def _header(requests: AsyncIterator[ImportRequest]) -> ImportHeader:
    first = await anext(requests, None)
    if first is None or first.WhichOneof("part") != "header":
        raise invalid("header", "is missing; the first message must hold it")
    contract.fill(first.header)
    contract.check(first.header)
    if first.header.format == memory_pb2.IMPORT_FORMAT_UNSPECIFIED:
        raise invalid("header.format", "is required")
    return first.header


def _refuse_malformed(reader: LineReader, *, skip: bool) -> None:
    report = reader.report
    if not report.malformed or skip:
        return
    shown = "; ".join(f"line {line.line} {line.reason}" for line in report.malformed_lines[:SHOWN_LINES])
    raise ImportMalformed(
        f"{report.malformed} of {report.lines} lines are malformed, nothing was imported: {shown}",
        metadata={"malformed": str(report.malformed), "first_line": str(report.malformed_lines[0].line)},
    )


def _count(reader: LineReader, stored: remember.Stored) -> None:
    report = reader.report
    report.memories_created += stored.memories_created
    report.memories_unchanged += stored.memories_unchanged
    report.edges_created += stored.edges_created
    report.edges_unchanged += stored.edges_unchanged
