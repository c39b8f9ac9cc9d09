"""Import files: read in any chunks they say the same; imported they are in the store as a whole, or not at all."""

import asyncio
import re
from collections.abc import AsyncIterator

from google.protobuf.message import Message

from benchmarks.proof import fuzz_world
from benchmarks.proof.fuzz_draws import Draws
from benchmarks.proof.fuzz_files import FORMATS, a_file, mcp_lines
from benchmarks.proof.fuzz_watch import Broken, Watch
from benchmarks.proof.jumping_clock import JumpingClock
from benchmarks.proof.opened import SPACE, Opened
from dreamsvc import contract
from dreamsvc.errors import DreamsvcError, ImportMalformed
from dreamsvc.memory.imports import PART_BYTES, PART_ROWS, LineReader
from dreamsvc.memory.store import Store
from dreamsvc.server.importing import Importing
from dreamsvc.v1.memory_pb2 import ImportReport
from dreamsvc.v1.memory_service_pb2 import ImportHeader, ImportRequest, RememberRequest

# Of one part, one memory may be larger than the rest.
MOST_PART_BYTES = PART_BYTES + 16 * 1024 * 1024


def valid_files(store: Store) -> dict[int, list[bytes]]:
    """Lines of good files, by format: of a space that dreams have worked on, and of the other server."""
    own = b"".join(part for part in store.export(SPACE) if isinstance(part, bytes)).splitlines()
    return dict(zip(FORMATS, (own, mcp_lines()), strict=True))


class LinesTarget:
    """Files through the reader alone, cut in two different ways."""

    name = "lines"
    size = 3000

    def __init__(self) -> None:
        self._world = fuzz_world.World()
        opened = Opened(self._world.copy(), JumpingClock())
        self._valid = valid_files(opened.store)
        opened.abandon()

    def close(self) -> None:
        self._world.close()

    def batch(self, watch: Watch, cases: int) -> None:
        draws = Draws(f"lines {watch.seed}")
        while watch.cases < cases:
            kind, data = a_file(draws, self._valid)
            chunks = cut(draws, data)
            with watch.case(f"format {kind}", data):
                whole, report = _read(kind, [data])
                if (whole, report) != _read(kind, chunks):
                    raise Broken("where a file is cut makes a difference")
                _require_sound(whole, report)
                watch.ended("refused" if report.malformed else "read")


def cut(draws: Draws, data: bytes) -> list[bytes]:
    """A file in chunks that end anywhere, in the middle of letters too; empty ones among them."""
    ends = sorted(draws.randrange(len(data) + 1) for _ in range(draws.choice((0, 1, 3, 10))))
    if len(data) < 300 and draws.maybe(0.2):
        ends = list(range(len(data)))
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


def _read(kind: int, chunks: list[bytes]) -> tuple[list[bytes], ImportReport]:
    reader = LineReader(SPACE, kind)  # pyright: ignore
    parts = [part for chunk in chunks for part in reader.feed(chunk)]
    parts += reader.finish(lambda names: {name for name in names if hash(name) % 2})
    return _joined(parts), reader.report


def _joined(parts: list[RememberRequest]) -> list[bytes]:
    """All memories and edges in their order, however they were put into parts."""
    for part in parts:
        if max(len(part.memories), len(part.edges)) > PART_ROWS or part.ByteSize() > MOST_PART_BYTES:
            raise Broken(f"a part has {len(part.memories)} memories, {part.ByteSize()} bytes")
    items: list[Message] = [memory for part in parts for memory in part.memories]
    items += [edge for part in parts for edge in part.edges]
    for item in items:
        contract.check(item)
    return [item.SerializeToString(deterministic=True) for item in items]


def _require_sound(items: list[bytes], report: ImportReport) -> None:
    lines = [line.line for line in report.malformed_lines]
    if len(lines) != min(report.malformed, 100) or any(not 1 <= line <= report.lines for line in lines):
        raise Broken(f"{report.malformed} malformed lines, told are {lines[:10]}")
    if any(not line.reason for line in report.malformed_lines):
        raise Broken("a line is refused and nothing says why")


class _Unasked:
    """Stands for the scheduler and the embedding worker, which an import only gives notice to."""

    def note_call(self, space: str) -> None: ...

    def wake(self) -> None: ...


class ImportsTarget:
    """Files through everything, into a store that has something of everything."""

    name = "imports"
    size = 300

    def __init__(self) -> None:
        self._world = fuzz_world.World()

    def close(self) -> None:
        self._world.close()

    def batch(self, watch: Watch, cases: int) -> None:
        path = self._world.copy()
        opened = Opened(path, JumpingClock())
        try:
            draws = Draws(f"imports {watch.seed}")
            valid = valid_files(opened.store)
            importer = _Importer(opened, draws)
            while watch.cases < cases:
                kind, data = a_file(draws, valid)
                header = ImportHeader(space=draws.choice((SPACE, "fresh", "fresher")), format=kind)  # pyright: ignore
                header.skip_malformed = draws.maybe(0.3)
                with watch.case(f"format {kind} skip {header.skip_malformed}", data):
                    watch.ended(importer.run(header, cut(draws, data)))
            with watch.case("afterwards"):
                fuzz_world.require_order(opened.store)
        finally:
            opened.abandon()
            self._world.forget(path)


class _Importer:
    """Imports, and sees to it that each is all or nothing."""

    def __init__(self, opened: Opened, draws: Draws) -> None:
        self._store = opened.store
        self._wait = opened.wait
        self._importing = Importing(opened.store, opened.journal, _Unasked(), _Unasked())  # pyright: ignore
        self._draws = draws
        # Of every space, as it must be now.
        self._digests = {space: fuzz_world.digest(opened.store, space) for space in opened.store.space_names()}

    def run(self, header: ImportHeader, chunks: list[bytes]) -> str:
        """How it ended."""
        foreseen = self._foreseen(header, chunks) if self._draws.maybe(0.2) else None
        try:
            report = self._report(header, chunks)
        except DreamsvcError as error:
            if isinstance(error, ImportMalformed) and not re.search(r"line \d+ .", error.message):
                raise Broken(f"no line is named: {error.message[:200]}") from error
            self._require_same(header.space, "an import was refused and has changed something")
            return type(error).__name__
        if report.malformed and not header.skip_malformed:
            raise Broken(f"{report.malformed} lines were left out")
        if foreseen is not None and _counts(foreseen) != _counts(report):
            raise Broken(f"foreseen was {_counts(foreseen)}, it came to {_counts(report)}")
        self._digests[header.space] = fuzz_world.digest(self._store, header.space)
        if self._draws.maybe(0.2):
            again = self._report(header, chunks)
            if again.memories_created or again.edges_created:
                raise Broken("importing again makes something")
            self._require_same(header.space, "importing again changes something")
        return "imported"

    def _report(self, header: ImportHeader, chunks: list[bytes]) -> ImportReport:
        return self._wait(self._importing.run(_requests(header, chunks))).report

    def _require_same(self, space: str, otherwise: str) -> None:
        if space in self._store.space_names() and fuzz_world.digest(self._store, space) != self._digests.get(space, ""):
            raise Broken(otherwise)

    def _foreseen(self, header: ImportHeader, chunks: list[bytes]) -> ImportReport | None:
        """What a dry run says; None where it is refused."""
        dry = ImportHeader()
        dry.CopyFrom(header)
        dry.dry_run = True
        try:
            return self._report(dry, chunks)
        except DreamsvcError:
            return None


def _counts(report: ImportReport) -> tuple[int, ...]:
    return (
        *(report.lines, report.malformed, report.memories_created, report.memories_unchanged),
        *(report.edges_created, report.edges_unchanged),
    )


async def _requests(header: ImportHeader, chunks: list[bytes]) -> AsyncIterator[ImportRequest]:
    yield ImportRequest(header=header)
    for chunk in chunks:
        await asyncio.sleep(0)
        yield ImportRequest(chunk=chunk)
