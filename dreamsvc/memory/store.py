"""The store: the truth on disk and the live graphs made from it.

What changes memory goes through `Database.write` and reaches the live graph after its commit, in
the same thread, so there is one order of changes. What only reads runs in the caller's thread.
"""

import logging
import shutil
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from dreamsvc import snapshot_files
from dreamsvc.clock import Clock
from dreamsvc.errors import DreamsvcError, InvalidFields, NotFound, Violation
from dreamsvc.memory import (
    audit,
    blind_spots,
    coactivation,
    dream_map,
    dream_snapshot,
    dreams,
    export,
    folding,
    forget,
    kept_time,
    operations,
    paging,
    purge,
    remember,
    replacing,
    requests,
    revert,
    rows,
    snapshot,
    spaces,
    standing,
    starting,
    statistics,
    unmerge,
    wanting_vectors,
)
from dreamsvc.memory.database import Database, Priority
from dreamsvc.memory.delta import Delta
from dreamsvc.memory.foresight import Foresight
from dreamsvc.memory.graph import SpaceGraph
from dreamsvc.memory.kept_time import KeptTime
from dreamsvc.memory.known import Author, find_nodes
from dreamsvc.memory.remember import NOTHING, Stored
from dreamsvc.memory.spaces import Space
from dreamsvc.memory.sqlite import MOST_COUNTED, ChangeId, Connection, change_seq, next_seq
from dreamsvc.memory.starting import Loaded
from dreamsvc.v1.config_pb2 import StoreConfig
from dreamsvc.v1.dream_service_pb2 import (
    AcceptBlindSpotRequest,
    AcceptBlindSpotResponse,
    GetDreamMapRequest,
    GetDreamMapResponse,
    ListBlindSpotsRequest,
    ListBlindSpotsResponse,
    RejectBlindSpotRequest,
    RejectBlindSpotResponse,
)
from dreamsvc.v1.memory_pb2 import Memory
from dreamsvc.v1.memory_service_pb2 import (
    ExportSummary,
    FeedbackRequest,
    FeedbackResponse,
    ForgetRequest,
    ForgetResponse,
    GetMemoryRequest,
    GetMemoryResponse,
    GetStatsResponse,
    ListMemoriesRequest,
    ListMemoriesResponse,
    RememberRequest,
    RememberResponse,
    RestoreRequest,
    RestoreResponse,
    UnmergeRequest,
    UnmergeResponse,
)

DEFAULT_SPACE = "default"
IN_MEMORY = ":memory:"

logger = logging.getLogger(__name__)


class Store:
    """Opens a store, owns its live graphs, and is the only way to change either."""

    def __init__(self, config: StoreConfig, clock: Clock) -> None:
        """Raises StoreUnavailable or StoreCorrupt; a store that another process serves is unavailable."""
        # How long answers to request ids are kept from now on.
        self.keep_request_us = int(config.request_id_hours * 3_600_000_000)
        self._private = tempfile.mkdtemp(prefix="dreamsvc-") if config.path == IN_MEMORY else None
        self.path = Path(self._private, "memory.db") if self._private else Path(config.path).expanduser()
        self.database = Database(self.path)
        self._snapshots = replacing.snapshots_of(self.path)
        self._graphs: dict[str, SpaceGraph] = {}
        # How each space was loaded, for the account of the start.
        self.loaded: list[Loaded] = []
        try:
            self._clock = KeptTime(clock, self.database.read(lambda c: kept_time.saved(c, clock.now_us())))
            self.database.write(lambda c: spaces.find_or_make(c, DEFAULT_SPACE, clock.now_us())).result()
            self._keep_time_if_it_can()
            self.database.read(self._load)
        except BaseException:
            self.database.close()
            raise

    def close(self) -> None:
        """Finishes writes, leaves a snapshot for a quick start, frees the file."""
        self._keep_time_if_it_can()
        try:
            # In the writer's thread, where no change is between its commit and the live graph.
            self.database.write(snapshot.mark_anew, committed=self._save_snapshots).result()
        except DreamsvcError as error:
            logger.warning("no snapshot for the next start: %s", error)
        self.database.close()
        if self._private:
            shutil.rmtree(self._private, ignore_errors=True)

    @property
    def clock(self) -> Clock:
        """The store's, for whatever else is written to it."""
        return self._clock

    def keep_time(self) -> Future[kept_time.Agreed]:
        """Writes down what time it is; to be called every hour, or the store takes what passed since for less."""
        return self.database.write(self._clock.keep, committed=self._clock.believe, priority=Priority.BACKGROUND)

    def _keep_time_if_it_can(self) -> None:
        """A full disk keeps nobody from reading."""
        try:
            self.keep_time().result()
        except DreamsvcError as error:
            logger.warning("what time it is could not be written down: %s", error.message)

    # ── spaces and graphs ───────────────────────────────────────────────────────

    def space_names(self) -> list[str]:
        return list(self._graphs)

    def space(self, name: str) -> Space:
        """Raises NotFound."""
        return self.database.read(lambda connection: spaces.find(connection, name))

    def graph(self, name: str) -> SpaceGraph:
        """Raises NotFound."""
        graph = self._graphs.get(name)
        if graph is None:
            raise spaces.absent(name)
        return graph

    # ── changes by users ────────────────────────────────────────────────────────

    def remember(self, request: RememberRequest) -> Future[RememberResponse]:
        def run(connection: Connection, space: Space, author: Author, delta: Delta) -> RememberResponse:
            stored = remember.store(connection, space, request.memories, request.edges, author, delta)
            return RememberResponse(
                ids=stored.ids,
                memories_created=stored.memories_created,
                memories_updated=stored.memories_updated,
                edges_created=stored.edges_created,
                edges_updated=stored.edges_updated,
            )

        return self._change(request, RememberResponse(), run, make_space=True)

    def forget(self, request: ForgetRequest) -> Future[ForgetResponse]:
        def run(connection: Connection, space: Space, author: Author, delta: Delta) -> ForgetResponse:
            outcome = forget.forget(connection, space, request.ids, author, delta)
            return ForgetResponse(forgotten=outcome.changed, unchanged=outcome.unchanged)

        return self._change(request, ForgetResponse(), run)

    def restore(self, request: RestoreRequest) -> Future[RestoreResponse]:
        def run(connection: Connection, space: Space, author: Author, delta: Delta) -> RestoreResponse:
            outcome = forget.restore(connection, space, request.ids, author, delta)
            return RestoreResponse(restored=outcome.changed, unchanged=outcome.unchanged)

        return self._change(request, RestoreResponse(), run)

    def unmerge(self, request: UnmergeRequest) -> Future[UnmergeResponse]:
        def run(connection: Connection, space: Space, author: Author, delta: Delta) -> UnmergeResponse:
            apart = unmerge.unmerge(connection, space, request.id, author, delta)
            return UnmergeResponse(ids=apart.ids, vectors_approximate=apart.approximate)

        return self._change(request, UnmergeResponse(), run)

    def accept_blind_spot(self, request: AcceptBlindSpotRequest) -> Future[AcceptBlindSpotResponse]:
        def run(connection: Connection, space: Space, author: Author, delta: Delta) -> AcceptBlindSpotResponse:
            return AcceptBlindSpotResponse(blind_spot=blind_spots.accept(connection, space, request.id, author, delta))

        return self._change(request, AcceptBlindSpotResponse(), run)

    def reject_blind_spot(self, request: RejectBlindSpotRequest) -> Future[RejectBlindSpotResponse]:
        def run(connection: Connection, space: Space, author: Author, delta: Delta) -> RejectBlindSpotResponse:
            return RejectBlindSpotResponse(blind_spot=blind_spots.reject(connection, space, request.id, author, delta))

        return self._change(request, RejectBlindSpotResponse(), run)

    def _change[Answer: Message](
        self,
        request: Any,
        empty: Answer,
        run: Callable[[Connection, Space, Author, Delta], Answer],
        *,
        make_space: bool = False,
    ) -> Future[Answer]:
        """One change by a user: idempotent by request id, audited, then shown in the live graph."""
        delta = Delta()

        def job(connection: Connection) -> Answer:
            now_us = self._clock.now_us()

            def change() -> Answer:
                find = spaces.find_or_make if make_space else _find
                space = find(connection, request.space, now_us)
                seq = next_seq(connection)
                answer = run(connection, space, Author(now_us, self._clock.kept_us(), seq, None), delta)
                spaces.count_changes(connection, space, delta.count())
                audit.record(
                    connection,
                    now_us=now_us,
                    actor="user",
                    action=type(request).__name__.removesuffix("Request").lower(),
                    space=space.id,
                    seq=seq,
                    memories=audit.summary(_named(request, answer)),
                )
                return answer

            return requests.once(
                connection,
                request,
                space=request.space,
                request_id=request.request_id,
                kept_us=self._clock.kept_us(),
                keep_for_us=self.keep_request_us,
                empty=empty,
                run=change,
            )[0]

        return self.database.write(job, committed=lambda _: self.show(request.space, delta))

    def show(self, space: str, delta: Delta) -> None:
        """Applies a committed change to the live graph; in the writer's thread only."""
        self._graphs.setdefault(space, SpaceGraph())
        delta.apply(self._graphs[space])

    def touch(self, space: str, nodes: dict[int, int]) -> Future[None]:
        """Notes recalls: by row id, how often each memory was returned since the last note."""
        now_us = self._clock.now_us()

        def job(connection: Connection) -> None:
            seq = next_seq(connection)
            connection.executemany(
                f"UPDATE nodes SET accessed_us=?1, access_count=min(access_count, {MOST_COUNTED}-?2)+?2, seq=?3"
                " WHERE id=?4",
                ((now_us, count, seq, node) for node, count in nodes.items()),
            )

        return self.database.write(
            job,
            committed=lambda _: self._graphs[space].touch(list(nodes), now_us),
            priority=Priority.BACKGROUND,
        )

    def note_together(self, space: str, pairs: Mapping[coactivation.Pair, int]) -> Future[None]:
        """Notes recalls: how often each of some pairs was returned together since the last note."""
        now_us = self._clock.now_us()
        counts = {pair: (count, 0) for pair, count in pairs.items()}
        return self.database.write(
            lambda c: coactivation.note(c, spaces.find(c, space), counts, now_us, next_seq(c)),
            priority=Priority.BACKGROUND,
        )

    def feedback(self, request: FeedbackRequest, returned: frozenset[int] | None) -> Future[FeedbackResponse]:
        """Notes that memories were of use together, of those that a recall had `returned`, by row id.

        Raises NotFound where the recall is not known (None), InvalidFields for a memory that it had not returned. No
        memory is changed, so there is no line in the audit.
        """

        def job(connection: Connection) -> FeedbackResponse:
            now_us = self._clock.now_us()

            def change() -> FeedbackResponse:
                space = spaces.find(connection, request.space)
                used = _used(connection, space, request, returned)
                pairs = coactivation.pairs_of(used[: coactivation.MOST_USED])
                coactivation.note(connection, space, dict.fromkeys(pairs, (0, 1)), now_us, next_seq(connection))
                return FeedbackResponse(pairs=len(pairs))

            return requests.once(
                connection,
                request,
                space=request.space,
                request_id=request.request_id,
                kept_us=self._clock.kept_us(),
                keep_for_us=self.keep_request_us,
                empty=FeedbackResponse(),
                run=change,
            )[0]

        return self.database.write(job)

    # ── reading ─────────────────────────────────────────────────────────────────

    def get_memory(self, request: GetMemoryRequest) -> GetMemoryResponse:
        """Raises NotFound; a forgotten memory is found, with its delete_time."""

        def run(connection: Connection) -> GetMemoryResponse:
            space = spaces.find(connection, request.space)
            found = find_nodes(connection, space, {request.id})
            if request.id not in found:
                raise NotFound(f'no memory "{request.id[:80]}" in space "{space.name}"')
            node = found[request.id].id
            answer = GetMemoryResponse(memory=self._memories(connection, space, [node])[node])
            if request.with_vector:
                standing.add_vectors(connection, {node: answer.memory})
            if request.with_edges:
                ends = [node]
                if answer.memory.role == standing.CONTAINER:
                    # Edges lie at the memories that they were made for, which the container holds.
                    ends += [one.id for one in standing.merged_into(connection, [node]) if one.alive]
                answer.edges.extend(rows.edges_at(connection, ends))
            return answer

        return self.database.read(run)

    def memories_by_row(self, space: str, nodes: list[int], *, with_vectors: bool) -> dict[int, Memory]:
        """Messages by row id, for those that exist."""

        def run(connection: Connection) -> dict[int, Memory]:
            found = self._memories(connection, spaces.find(connection, space), nodes)
            if with_vectors:
                standing.add_vectors(connection, found)
            return found

        return self.database.read(run)

    @staticmethod
    def _memories(connection: Connection, space: Space, nodes: list[int]) -> dict[int, Memory]:
        query = f"SELECT {rows.MEMORY_COLUMNS} FROM nodes WHERE id IN (%s)"
        return {row[0]: rows.read_memory(row, space.name) for row in rows.chosen(connection, query, nodes)}

    def list_memories(self, request: ListMemoriesRequest) -> ListMemoriesResponse:
        """Raises NotFound for the space, InvalidFields for a page token of another query."""
        scope = paging.scope("memories", request.space, request.show_deleted, *request.kinds)
        after = paging.read(request.page_token, scope)

        def run(connection: Connection) -> ListMemoriesResponse:
            space = spaces.find(connection, request.space)
            where, values = "space = ? AND id > ? AND purged = 0", [space.id, after]
            if not request.show_deleted:
                where += " AND deleted_us IS NULL"
            if request.kinds:
                where += f" AND kind IN ({','.join('?' * len(request.kinds))})"
            found = connection.execute(
                f"SELECT {rows.MEMORY_COLUMNS} FROM nodes WHERE {where} ORDER BY id LIMIT ?",
                (*values, *request.kinds, request.page_size + 1),
            ).fetchall()
            shown = found[: request.page_size]
            return ListMemoriesResponse(
                memories=[rows.read_memory(row, space.name) for row in shown],
                next_page_token=paging.write(shown[-1][0], scope) if len(found) > len(shown) else "",
            )

        return self.database.read(run)

    def list_blind_spots(self, request: ListBlindSpotsRequest) -> ListBlindSpotsResponse:
        """Raises NotFound for the space or the dream, InvalidFields for a page token of another query."""
        scope = paging.scope("blind spots", request.space, request.dream_id, *request.states)
        before = paging.read(request.page_token, scope)

        def run(connection: Connection) -> ListBlindSpotsResponse:
            space = spaces.find(connection, request.space)
            dream = dreams.get(connection, space, request.dream_id).change if request.dream_id else None
            limit = request.page_size + 1
            found = blind_spots.page(connection, space, request.states, dream, before or None, limit)
            shown = found[: request.page_size]
            return ListBlindSpotsResponse(
                blind_spots=[spot for _, spot in shown],
                next_page_token=paging.write(shown[-1][0], scope) if len(found) > len(shown) else "",
            )

        return self.database.read(run)

    def dream_map(self, request: GetDreamMapRequest) -> GetDreamMapResponse:
        """Raises NotFound for the space or the dream."""

        def run(connection: Connection) -> GetDreamMapResponse:
            space = spaces.find(connection, request.space)
            dream = dreams.get(connection, space, request.dream_id).change if request.dream_id else None
            return dream_map.read(connection, space, dream, request.max_memories)

        return self.database.read(run)

    def stats(self, name: str) -> GetStatsResponse:
        """Counts as the store holds them; raises NotFound."""

        def run(connection: Connection) -> GetStatsResponse:
            space = spaces.find(connection, name)
            answer = statistics.stats(connection, space)
            answer.to_embed = wanting_vectors.count(connection, space)
            answer.database_bytes = sum(self.file_bytes())
            return answer

        return self.database.read(run)

    def export(self, name: str) -> Generator[bytes | ExportSummary]:
        """The file in chunks, then its summary. One moment of the store; runs on a connection of its own."""
        with self.database.moment() as connection:
            yield from export.chunks(connection, spaces.find(connection, name))

    def stored_names(self, space: Space, names: set[str]) -> set[str]:
        """Which of some ids and keys the space has, forgotten ones left out."""
        found = self.database.read(lambda connection: find_nodes(connection, space, names))
        return {name for name, node in found.items() if not node.deleted}

    def foresee(self, space: Space, foresight: Foresight, part: RememberRequest) -> Stored:
        """What importing the next part would do."""
        return self.database.read(lambda c: foresight.of(c, space, part.memories, part.edges))

    # ── vectors of texts ────────────────────────────────────────────────────────

    def count_waiting(self, name: str) -> int:
        """How many memories of a space have no vector yet; raises NotFound."""
        return self.database.read(lambda connection: wanting_vectors.count(connection, spaces.find(connection, name)))

    def waiting_for_vectors(self, space: Space, after: int, limit: int) -> list[wanting_vectors.Waiting]:
        """Memories with text and no vector, by row id from `after` on."""
        return self.database.read(lambda c: wanting_vectors.page(c, space, after, limit))

    def put_vectors(
        self, space: Space, embedder: str, dimension: int, made: dict[int, NDArray[np.float32]], texts: dict[int, str]
    ) -> Future[int]:
        """Stores the vectors an embedder made of texts, where text and vector are still as they were; a zero
        vector marks a text that has none. Gives how many are new; raises EmbedderMismatch."""
        delta = Delta()

        def job(connection: Connection) -> int:
            where = spaces.find(connection, space.name)
            packed = wanting_vectors.put(connection, where, embedder, dimension, made, texts)
            # As the next start will read them, not as they were made.
            delta.vectors.update({node: np.frombuffer(body, "<f2") for node, body in packed.items() if body})
            return len(packed)

        return self.database.write(job, committed=lambda _: self.show(space.name, delta), priority=Priority.BACKGROUND)

    # ── changes in parts ────────────────────────────────────────────────────────

    def fold_next(self, change: ChangeId, space: str) -> Future[Stored | None]:
        """Applies the next part of a sealed change behind all user writes; None once nothing is left."""
        delta = Delta()

        def job(connection: Connection) -> Stored | None:
            row = operations.find(connection, change)
            if row.state != "sealed":
                return None
            now_us, kept_us = self._clock.now_us(), self._clock.kept_us()
            body = operations.next_part(connection, row)
            if body is None:
                operations.finish(connection, row, now_us, kept_us)
                return None
            if row.kind == "dream":
                before = folding.fold_dream_part(connection, row, body, now_us, kept_us, delta)
                stored = NOTHING
            else:
                request = RememberRequest.FromString(body)
                author = Author(now_us, kept_us, next_seq(connection), row.id, row.embedder)
                where = spaces.find(connection, space)
                stored = remember.store(connection, where, request.memories, request.edges, author, delta)
                spaces.count_changes(connection, where, delta.count())
                before = operations.BeforeImages()
            operations.advance(connection, row, before)
            return stored

        return self.database.write(job, committed=lambda _: self.show(space, delta), priority=Priority.BACKGROUND)

    def revert_next(self, change: ChangeId, space: str) -> Future[revert.Restored | None]:
        """Takes the last part of a change back that is still applied, behind all user writes; None at the end."""
        delta = Delta()
        return self.database.write(
            lambda connection: revert.next_part(connection, change, self._clock.now_us(), self._clock.kept_us(), delta),
            committed=lambda _: self.show(space, delta),
            priority=Priority.BACKGROUND,
        )

    def file_bytes(self) -> tuple[int, int]:
        """Of the database and of its log; 0 for a file that is not there."""
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        database, log = (file.stat().st_size if file.exists() else 0 for file in files)
        return database, log

    def free_bytes(self) -> int:
        """Free space where the store lies."""
        return shutil.disk_usage(self.path.parent).free

    # ── snapshots ───────────────────────────────────────────────────────────────

    def dream_snapshot(self, space: str) -> tuple[int, snapshot_files.Arrays]:
        """Change number and arrays of one moment, for a dream; takes a second at 100,000 memories, in any thread."""

        def job(connection: Connection) -> tuple[int, dict[str, Any]]:
            return change_seq(connection), {}

        # Not in the job: what shares its commit and was numbered before it is in the live graph only then.
        seq, arrays = self.database.write(
            job, committed=lambda taken: taken[1].update(dream_snapshot.graph_columns(self.graph(space).view))
        ).result()
        # What was changed between the two is newer than `seq`, and a dream leaves such memories alone.
        with self.database.moment() as connection:
            arrays |= dream_snapshot.contents(connection, spaces.find(connection, space), arrays["node_ids"])
        return seq, arrays

    # ── after a night, and after the days in which it can be taken back ──────────

    def settle(self, name: str) -> Future[None]:
        """Packs a space's live arrays anew after much was merged; the work is done in the caller's thread."""
        graph = self.graph(name)
        rebuilt = graph.rebuild()
        return self.database.write(lambda _: None, committed=lambda _: graph.swap(rebuilt))

    def purge_next(self, restore_us: int, held: Sequence[str]) -> Future[purge.Purged]:
        """Lets go of a slice of what was hidden or merged more than `restore_us` ago, behind all user writes."""

        def job(connection: Connection) -> purge.Purged:
            now_us = self._clock.now_us()
            return purge.next_slice(connection, self._clock.kept_us() - restore_us, held, now_us)

        return self.database.write(job, priority=Priority.BACKGROUND)

    def dream_snapshot_path(self, dream_id: str) -> Path:
        return self._snapshots / f"dream-{dream_id}"

    def keep_dream_snapshots(self, dream_ids: set[str]) -> None:
        """Removes the snapshots of all other dreams; for the start, when none runs."""
        for directory in self._snapshots.glob("dream-*"):
            if directory.name.removeprefix("dream-") not in dream_ids:
                snapshot_files.remove(directory)

    def _load(self, connection: Connection) -> None:
        moment = snapshot.moment_of(connection)
        for space in spaces.all_of(connection):
            self._graphs[space.name], loaded = starting.load(connection, self._snapshots, space, moment)
            self.loaded.append(loaded)

    def _save_snapshots(self, moment: snapshot.Moment) -> None:
        if not self.database.shows_all():
            # What the live graphs lack the next start reads from the rows.
            return
        for space in self.database.read(spaces.all_of):
            # An import that never came to an end may have made a space without a graph.
            if space.name in self._graphs:
                starting.save(self._snapshots, space, moment, self._graphs[space.name])


def _named(request: Any, answer: Message) -> list[str]:
    """Ids of what a change was about, for the audit."""
    match answer:
        case RememberResponse() | UnmergeResponse():
            return list(answer.ids)
        case AcceptBlindSpotResponse() | RejectBlindSpotResponse():
            return [answer.blind_spot.id]
        case _:
            return list(request.ids)


def _used(connection: Connection, space: Space, request: FeedbackRequest, returned: frozenset[int] | None) -> list[int]:
    """Row ids of what a feedback names, each once, in its order."""
    if returned is None:
        raise NotFound(
            f'no recall "{request.recall_id}" of space "{space.name}" is remembered; that lasts for an hour, for the'
            " last 10,000 recalls and until a restart: recall again, and send the new recall_id"
        )
    found = find_nodes(connection, space, set(request.used_ids))
    wrong = [
        Violation(f"used_ids[{i}]", f'"{name[:80]}" is no memory that this recall had returned')
        for i, name in enumerate(request.used_ids)
        if name not in found or found[name].id not in returned
    ]
    if wrong:
        raise InvalidFields(wrong)
    return list(dict.fromkeys(found[name].id for name in request.used_ids))


def _find(connection: Connection, name: str, now_us: int) -> Space:
    return spaces.find(connection, name)
