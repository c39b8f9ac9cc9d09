"""The durable side of changes in parts: imports and dreams are begun, staged, sealed and recorded here."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

from google.protobuf.message import DecodeError, Message

from dreamsvc import entropy
from dreamsvc.clock import Clock, from_timestamp, to_timestamp
from dreamsvc.dreamer.v1.dreamer_service_pb2 import Checkpoint
from dreamsvc.dreamer.v1.operations_pb2 import Operations
from dreamsvc.errors import ChangedLater, StoreCorrupt
from dreamsvc.memory import diff, dreams, history, operations, paging, requests, revert, spaces, standing, statistics
from dreamsvc.memory.database import Database, Priority
from dreamsvc.memory.dreams import DreamRow
from dreamsvc.memory.explored import Explored, explored
from dreamsvc.memory.operations import COMPACTED, STAGED, ReadBack
from dreamsvc.memory.spaces import Space
from dreamsvc.memory.sqlite import ChangeId, Connection, change_seq
from dreamsvc.memory.statistics import Size
from dreamsvc.v1.config_pb2 import DreamConfig
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import (
    ApproveDreamRequest,
    ApproveDreamResponse,
    DeleteDreamRequest,
    DeleteDreamResponse,
    DiffDreamRequest,
    DiffDreamResponse,
    ListDreamsRequest,
    ListDreamsResponse,
    RejectDreamRequest,
    RejectDreamResponse,
    RevertRequest,
    RevertResponse,
    TriggerRequest,
    TriggerResponse,
)
from dreamsvc.v1.memory_service_pb2 import ImportHeader, ImportResponse

# Numbers that one run of the service has for its events, of each space.
EVENTS_A_RUN = 1_000_000_000


class Begun(NamedTuple):
    change: ChangeId
    base_seq: int


class Resumable(NamedTuple):
    """An interrupted dream and what it goes on from."""

    row: DreamRow
    checkpoint: Checkpoint | None
    staged: list[Operations]
    # Why it cannot go on, '' if it can.
    unfit: str


class Sealed(NamedTuple):
    digest: str
    operations: int


class Journal:
    """Every method gives a future, done when the change is durable."""

    def __init__(self, database: Database, clock: Clock, keep_request_us: int) -> None:
        self._database = database
        self._clock = clock
        # How long answers to request ids are kept from now on.
        self.keep_request_us = keep_request_us

    # ── imports ─────────────────────────────────────────────────────────────────

    def begin_import(self, name: str) -> Future[tuple[ChangeId, Space]]:
        def job(connection: Connection) -> tuple[ChangeId, Space]:
            now_us = self._clock.now_us()
            space = spaces.find_or_make(connection, name, now_us)
            begun = self._begin(connection, space, entropy.uuid7(now_us), "import")
            return begun.change, space

        return self._database.write(job)

    def stage_bytes(self, change: ChangeId, first: int, bodies: Sequence[bytes]) -> Future[None]:
        return self._database.write(
            lambda c: operations.stage(c, change, enumerate(bodies, first), STAGED), priority=Priority.BACKGROUND
        )

    def seal_import(self, change: ChangeId, name: str, embedder: str, dimension: int) -> Future[None]:
        """Raises EmbedderMismatch where the space has vectors of another kind; if it has none, they are of this kind
        from now on. `dimension` 0: the import brings none."""

        def job(connection: Connection) -> None:
            if dimension:
                spaces.accept_vectors(connection, spaces.find(connection, name), embedder, dimension)
            connection.execute("UPDATE changes SET embedder=? WHERE id=?", (embedder, change))
            operations.seal(connection, change, STAGED, self._clock.now_us())

        return self._database.write(job)

    def import_answer(self, header: ImportHeader, answer: ImportResponse | None) -> Future[ImportResponse | None]:
        """Looks up the first answer to an import's request id, or with `answer` keeps it."""

        def job(connection: Connection) -> ImportResponse | None:
            empty = ImportResponse()
            try:
                return self._once(connection, header, empty, lambda: _given(answer))[0]
            except _NoAnswerError:
                return None

        return self._database.write(job)

    # ── dreams ──────────────────────────────────────────────────────────────────

    def trigger_answer(self, request: TriggerRequest) -> TriggerResponse | None:
        """The first answer to a trigger's request id, or None; raises RequestIdConflict."""
        answer = TriggerResponse()
        known = self._database.read(
            lambda connection: requests.first_answer(
                connection,
                request,
                space=request.space,
                request_id=request.request_id,
                kept_us=self._clock.kept_us(),
                empty=answer,
            )
        )
        return answer if known else None

    def begin_dream(
        self, request: TriggerRequest, dream: Dream, config: DreamConfig, now_us: int
    ) -> Future[tuple[TriggerResponse, Begun | None]]:
        """Writes the dream's row; None where the request id is known, and then its first answer."""
        begun: list[Begun] = []

        def job(connection: Connection) -> tuple[TriggerResponse, Begun | None]:
            def insert() -> TriggerResponse:
                space = spaces.find(connection, dream.space)
                begun.append(self._begin(connection, space, dream.id, "dream"))
                dreams.insert(connection, begun[0].change, dream, now_us, config)
                return TriggerResponse(dream=dream)

            answer, ran = self._once(connection, request, TriggerResponse(), insert)
            return answer, begun[0] if ran else None

        return self._database.write(job)

    def resume_dream(
        self, request: TriggerRequest, change: ChangeId, dream: Dream
    ) -> Future[tuple[TriggerResponse, bool]]:
        """Marks an interrupted dream as running again; False where the request id is known."""

        def job(connection: Connection) -> tuple[TriggerResponse, bool]:
            def update() -> TriggerResponse:
                dreams.update(connection, change, dream)
                return TriggerResponse(dream=dream, resumed=True)

            return self._once(connection, request, TriggerResponse(), update)

        return self._database.write(job)

    def resumable(self, name: str, most_changed: float) -> Resumable | None:
        """The interrupted dream of a space, and whether the store has moved on too far for it."""

        def run(connection: Connection) -> Resumable | None:
            space = spaces.find(connection, name)
            # One that is marked as running and does not run could not be marked otherwise, e.g. on a full disk.
            row = dreams.latest(connection, space, [Dream.STATE_SUSPENDED, Dream.STATE_RUNNING])
            if row is None:
                return None
            checkpoint, staged, unfit = _kept(connection, row)
            changed = dreams.user_changes_since(connection, row.change)
            size = row.dream.report.nodes + row.dream.report.edges
            if not unfit and changed > most_changed * max(size, 1):
                unfit = f"{changed} memories and edges changed since it began"
            if not unfit and operations.reverted_since(connection, space.id, row.base_seq):
                unfit = "an earlier dream was taken back since it began"
            return Resumable(row, checkpoint, staged, unfit)

        return self._database.read(run)

    def changed_since(self, change: ChangeId) -> Future[bool]:
        """Whether users changed anything in a dream's space since it began; looked up behind what they have queued."""
        return self._database.write(lambda connection: dreams.user_changes_since(connection, change) > 0)

    def newest_node_known(self, change: ChangeId) -> int:
        """The newest memory that a dream can have known when it began; 0 for none."""
        return self._database.read(lambda connection: dreams.newest_node_known(connection, change))

    def stage_dream(
        self, change: ChangeId, parts: Sequence[Operations], checkpoint: Checkpoint | None, dream: Dream
    ) -> Future[None]:
        """Keeps parts, the checkpoint they lead up to and the record, in one commit."""

        def job(connection: Connection) -> None:
            operations.stage(connection, change, ((part.part, part.SerializeToString()) for part in parts), STAGED)
            if checkpoint is not None:
                dreams.save_checkpoint(connection, change, checkpoint, self._clock.now_us())
            dreams.update(connection, change, dream)

        return self._database.write(job)

    def take_event_numbers(self, now_us: int) -> Future[int]:
        """Where this run's events begin to be numbered: above all earlier ones, also where the clock went back."""

        def job(connection: Connection) -> int:
            row = connection.execute("SELECT value FROM meta WHERE key = 'next_event'").fetchone()
            first = max(now_us, int(row[0]) if row is not None else 0)
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('next_event', ?)", (first + EVENTS_A_RUN,))
            return first

        return self._database.write(job)

    def record(self, change: ChangeId, dream: Dream) -> Future[None]:
        return self._database.write(lambda connection: dreams.update(connection, change, dream))

    def drop_dream(self, change: ChangeId, dream: Dream) -> Future[None]:
        """Gives a dream up before its seal: nothing of it is applied."""

        def job(connection: Connection) -> None:
            operations.drop(connection, change, self._clock.now_us())
            dreams.update(connection, change, dream)

        return self._database.write(job)

    def compact(self, change: ChangeId) -> Sealed:
        """Writes the journal anew with one operation for each row, beside the staged parts; blocks until done."""
        parts = self._database.read(lambda c: operations.coalesce(operations.staged(c, change, STAGED)))
        writes = [
            self._database.write(
                partial(
                    operations.stage, change=change, parts=[(part.part, part.SerializeToString())], generation=COMPACTED
                ),
                priority=Priority.BACKGROUND,
            )
            for part in parts
        ]
        for write in writes:
            write.result()
        return Sealed(operations.journal_digest(parts), operations.size(parts))

    def seal_dream(self, change: ChangeId, dream: Dream) -> Future[None]:
        def job(connection: Connection) -> None:
            operations.seal(connection, change, COMPACTED, self._clock.now_us())
            dreams.update(connection, change, dream)

        return self._database.write(job)

    def approve_dream(self, request: ApproveDreamRequest) -> Future[tuple[ApproveDreamResponse, DreamRow | None]]:
        """Seals a proposal; None where the request id is known.

        Raises NotFound, and ChangedLater for no proposal, or for one of a memory that was taken back since.
        """
        rows: list[DreamRow] = []

        def job(connection: Connection) -> tuple[ApproveDreamResponse, DreamRow | None]:
            def approve() -> ApproveDreamResponse:
                row = self._proposal(connection, request.space, request.dream_id)
                if operations.reverted_since(connection, operations.find(connection, row.change).space, row.base_seq):
                    raise ChangedLater("an earlier dream was taken back since this one was proposed; reject it")
                row.dream.state = Dream.STATE_FOLDING
                row.dream.message = ""
                operations.seal(connection, row.change, COMPACTED, self._clock.now_us())
                dreams.update(connection, row.change, row.dream)
                rows.append(row)
                return ApproveDreamResponse(dream=row.dream)

            answer, ran = self._once(connection, request, ApproveDreamResponse(), approve)
            return answer, rows[0] if ran else None

        return self._database.write(job)

    def reject_dream(self, request: RejectDreamRequest) -> Future[RejectDreamResponse]:
        """Gives a proposal up; raises NotFound, ChangedLater where it does not wait."""

        def job(connection: Connection) -> RejectDreamResponse:
            def reject() -> RejectDreamResponse:
                row = self._proposal(connection, request.space, request.dream_id)
                now_us = self._clock.now_us()
                row.dream.state = Dream.STATE_DISCARDED
                row.dream.message = "rejected; nothing of it was applied"
                row.dream.end_time.CopyFrom(to_timestamp(now_us))
                operations.drop(connection, row.change, now_us)
                dreams.update(connection, row.change, row.dream)
                return RejectDreamResponse(dream=row.dream)

            return self._once(connection, request, RejectDreamResponse(), reject)[0]

        return self._database.write(job)

    @staticmethod
    def _proposal(connection: Connection, name: str, dream_id: str) -> DreamRow:
        row = dreams.get(connection, spaces.find(connection, name), dream_id)
        if row.dream.state != Dream.STATE_PROPOSED:
            raise ChangedLater(
                f"dream {row.dream.id} does not wait as a proposal; it is {dreams.state_word(row.dream)}"
            )
        return row

    def propose_dream(self, change: ChangeId, dream: Dream) -> Future[None]:
        """Keeps a finished dream as a proposal; its checkpoint is not needed any more."""

        def job(connection: Connection) -> None:
            dreams.update(connection, change, dream)
            dreams.drop_checkpoint(connection, change)

        return self._database.write(job)

    def diff(self, request: DiffDreamRequest) -> DiffDreamResponse:
        """Raises NotFound, ChangedLater where the journal was let go, InvalidFields for a foreign page token."""
        scope = paging.scope("diff", request.space, request.dream_id, request.with_weights)
        first = paging.read(request.page_token, scope)

        def run(connection: Connection) -> DiffDreamResponse:
            row = dreams.get(connection, spaces.find(connection, request.space), request.dream_id)
            change = operations.find(connection, row.change)
            limit = request.page_size + 1
            found = diff.edits(connection, change, weights=request.with_weights, first=first, limit=limit)
            more = len(found) > request.page_size
            return DiffDreamResponse(
                dream=row.dream,
                edits=[edit for _, edit in found[: request.page_size]],
                next_page_token=paging.write(found[-1][0], scope) if more else "",
            )

        return self._database.read(run)

    def size(self, name: str) -> Size:
        """How large a space is now; raises NotFound."""
        return self._database.read(lambda connection: statistics.size(connection, spaces.find(connection, name)))

    def folded_count(self, name: str) -> int:
        """Copies that other memories stand for."""
        query = f"SELECT count(*) FROM nodes WHERE space=? AND role={standing.FOLDED} AND deleted_us IS NOT NULL"
        return self._database.read(
            lambda connection: int(connection.execute(query, (spaces.find(connection, name).id,)).fetchone()[0])
        )

    def begin_revert(self, request: RevertRequest) -> Future[tuple[RevertResponse, DreamRow | None]]:
        """From here on a dream is taken back; None where the request id is known. Raises ChangedLater, NotFound."""
        rows: list[DreamRow] = []

        def job(connection: Connection) -> tuple[RevertResponse, DreamRow | None]:
            def begin() -> RevertResponse:
                row = dreams.get(connection, spaces.find(connection, request.space), request.dream_id)
                revert.begin(connection, row.change, self._clock.now_us())
                row.dream.state = Dream.STATE_REVERTING
                dreams.update(connection, row.change, row.dream)
                rows.append(row)
                return RevertResponse(dream=row.dream)

            answer, ran = self._once(connection, request, RevertResponse(), begin)
            return answer, rows[0] if ran else None

        return self._database.write(job)

    def read_back(self, change: ChangeId) -> ReadBack:
        return self._database.read(lambda connection: operations.read_back(connection, change))

    def made(self, change: ChangeId) -> operations.Made:
        return self._database.read(lambda connection: operations.made(connection, change))

    def explored(self, change: ChangeId) -> Explored:
        return self._database.read(lambda connection: explored(connection, change))

    # ── history ─────────────────────────────────────────────────────────────────

    def dream(self, name: str, dream_id: str) -> DreamRow:
        """Raises NotFound."""
        return self._database.read(lambda c: dreams.get(c, spaces.find(c, name), dream_id))

    def latest(self, name: str, states: Sequence[int]) -> DreamRow | None:
        return self._database.read(lambda c: dreams.latest(c, spaces.find(c, name), states))

    def prune(self, keep: int, held: Sequence[str]) -> Future[int]:
        """Drops a slice of the records of old dreams, behind all user writes; how many it were."""
        now_us = self._clock.now_us()
        return self._database.write(
            lambda connection: history.prune_next(connection, keep, held, now_us), priority=Priority.BACKGROUND
        )

    def delete_dream(self, request: DeleteDreamRequest) -> Future[DeleteDreamResponse]:
        """Deletes the record of a dream; raises NotFound, DreamKept."""

        def job(connection: Connection) -> DeleteDreamResponse:
            def delete() -> DeleteDreamResponse:
                row = dreams.get(connection, spaces.find(connection, request.space), request.dream_id)
                history.delete(connection, row, self._clock.now_us())
                return DeleteDreamResponse(dream=row.dream)

            return self._once(connection, request, DeleteDreamResponse(), delete)[0]

        return self._database.write(job)

    def count_states(self) -> tuple[dict[int, int], int]:
        """Dreams of all spaces by state, and checkpoints that they can go on from."""
        return self._database.read(dreams.count_states)

    def list_dreams(self, request: ListDreamsRequest) -> ListDreamsResponse:
        """Raises NotFound for the space, InvalidFields for a page token of another query."""
        times = from_timestamp(request.after), from_timestamp(request.before)
        scope = paging.scope("dreams", request.space, *times, *request.states)
        before = paging.read(request.page_token, scope)

        def run(connection: Connection) -> ListDreamsResponse:
            space = spaces.find(connection, request.space)
            found = dreams.page(connection, space, request.states, times, before or None, request.page_size + 1)
            shown = found[: request.page_size]
            return ListDreamsResponse(
                dreams=[row.dream for row in shown],
                next_page_token=paging.write(shown[-1].change, scope) if len(found) > len(shown) else "",
            )

        return self._database.read(run)

    def unfinished(self) -> tuple[list[DreamRow], list[operations.Change]]:
        """After a crash: dreams that were running, being folded or taken back, and sealed imports not yet folded."""

        def run(connection: Connection) -> tuple[list[DreamRow], list[operations.Change]]:
            states = (Dream.STATE_RUNNING, Dream.STATE_SUSPENDED, Dream.STATE_FOLDING, Dream.STATE_REVERTING)
            found = [row for state in states for row in dreams.in_state(connection, state)]
            return found, [change for change in operations.in_state(connection, "sealed") if change.kind == "import"]

        return self._database.read(run)

    def why_not_resumable(self, row: DreamRow) -> str:
        """What is damaged of an interrupted dream, '' where nothing is."""
        return self._database.read(lambda connection: _kept(connection, row)[2])

    def begin_undo(self, change: ChangeId, dream: Dream) -> Future[None]:
        """From here on a sealed dream that cannot be folded to its end is taken back as far as it was applied."""

        def job(connection: Connection) -> None:
            revert.begin_undo(connection, change, self._clock.now_us())
            dreams.update(connection, change, dream)

        return self._database.write(job)

    def drop_loose_checkpoints(self) -> Future[int]:
        return self._database.write(dreams.drop_loose_checkpoints)

    def proposed(self) -> int:
        """How many dreams wait for somebody's word."""
        return self._database.read(lambda connection: len(dreams.in_state(connection, Dream.STATE_PROPOSED)))

    def drop_unsealed_imports(self) -> Future[int]:
        """After a crash: an import that was not sealed never happened. Gives how many there were."""

        def job(connection: Connection) -> int:
            left = [change for change in operations.in_state(connection, "staging") if change.kind == "import"]
            for change in left:
                self._drop_import(connection, change.id)
            return len(left)

        return self._database.write(job)

    def drop_import(self, change: ChangeId) -> Future[bool]:
        """False where it was sealed already, so that it has to be folded."""
        return self._database.write(lambda c: self._drop_import(c, change))

    def space_name(self, space: int) -> str:
        return self._database.read(lambda c: next(found.name for found in spaces.all_of(c) if found.id == space))

    def _drop_import(self, connection: Connection, change: ChangeId) -> bool:
        space = operations.find(connection, change).space
        dropped = operations.drop(connection, change, self._clock.now_us())
        if dropped:
            spaces.forget_announced(connection, space)
        return dropped

    def _begin(self, connection: Connection, space: Space, uid: str, kind: str) -> Begun:
        raw = entropy.uuid_bytes(uid)
        assert raw is not None
        base = change_seq(connection)
        return Begun(operations.begin(connection, raw, space.id, kind, base, self._clock.now_us()), base)

    def _once[Answer: Message](
        self,
        connection: Connection,
        request: TriggerRequest
        | ImportHeader
        | RevertRequest
        | ApproveDreamRequest
        | RejectDreamRequest
        | DeleteDreamRequest,
        empty: Answer,
        run: Callable[[], Answer],
    ) -> tuple[Answer, bool]:
        return requests.once(
            connection,
            request,
            space=request.space,
            request_id=request.request_id,
            kept_us=self._clock.kept_us(),
            keep_for_us=self.keep_request_us,
            empty=empty,
            run=run,
        )


def _kept(connection: Connection, row: DreamRow) -> tuple[Checkpoint | None, list[Operations], str]:
    """What is kept of an interrupted dream to go on from, and why it is not enough, '' where it is."""
    state = operations.find(connection, row.change).state
    if state != "staging":
        return None, [], f"what it made is {state} already"
    checkpoint, unfit = dreams.load_checkpoint(connection, row.change)
    try:
        staged = operations.staged(connection, row.change, STAGED)
    except (StoreCorrupt, DecodeError):
        return None, [], row.damage or "what it staged is damaged"
    known = checkpoint.next_part if checkpoint is not None else 0
    if len(staged) > known:
        unfit = unfit or f"it staged {len(staged)} parts, and its checkpoint knows of {known}"
    return checkpoint, staged, row.damage or unfit


class _NoAnswerError(Exception):
    """There is no first answer yet."""


def _given(answer: ImportResponse | None) -> ImportResponse:
    if answer is None:
        raise _NoAnswerError
    return answer
