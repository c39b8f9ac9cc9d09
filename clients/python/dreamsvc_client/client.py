"""The client: one method a call, messages of `dreamsvc.v1` as they are."""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Self, TypeVar

import grpc
import tenacity
from google.protobuf import duration_pb2, timestamp_pb2

from dreamsvc.v1 import (
    dream_pb2,
    dream_service_pb2,
    dream_service_pb2_grpc,
    memory_pb2,
    memory_service_pb2,
    memory_service_pb2_grpc,
)
from dreamsvc_client import files
from dreamsvc_client.errors import DreamsvcCallError, from_rpc_error

Request = TypeVar("Request")
Response = TypeVar("Response")
Result = TypeVar("Result")

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # After a restart of the server the next try of ours has to reach it, not a second later.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


RECONNECT_ATTEMPTS = 8
"""Tries of a watch that was connected before, about 8 seconds: a server that restarts is back by then."""


class Client:
    """Calls a dreamsvc server; use it as a context manager, from any number of threads.

    Every failed call raises DreamsvcCallError. A call that found no server is tried again, up to `attempts` times;
    calls that change something carry a request id, so that a second try of one that arrived changes nothing twice.
    """

    def __init__(self, target: str = "127.0.0.1:50051", timeout_s: float = 30.0, attempts: int = 4) -> None:
        self.target = target
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._channel = grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
        self._dreams = dream_service_pb2_grpc.DreamServiceStub(self._channel)
        self._memories = memory_service_pb2_grpc.MemoryServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    # Dreams

    def trigger(
        self,
        *,
        space: str = "",
        phase: dream_pb2.DreamPhase.ValueType = dream_pb2.DREAM_PHASE_UNSPECIFIED,
        budget_s: float | None = None,
        synthetic_query_count: int | None = None,
        blocking: bool = False,
        abort_on_query: bool | None = None,
        dry_run: bool = False,
        seed: int | None = None,
        fresh: bool = False,
        request_id: str = "",
    ) -> dream_service_pb2.TriggerResponse:
        """Starts a dream or goes on with an interrupted one; a blocking call has no deadline of its own."""
        request = dream_service_pb2.TriggerRequest(
            space=space,
            phase=phase,
            budget=None if budget_s is None else _duration(budget_s),
            synthetic_query_count=synthetic_query_count,
            blocking=blocking,
            abort_on_query=abort_on_query,
            dry_run=dry_run,
            seed=seed,
            fresh=fresh,
            request_id=request_id or _new_request_id(),
        )
        return self._unary(self._dreams.Trigger, request, timeout_s=None if blocking else self._timeout_s)

    def watch(
        self, space: str = "", dream_id: str = "", after_sequence: int = 0
    ) -> Iterator[dream_service_pb2.StreamStatusResponse]:
        """Events of a dream until the closing one; a lost connection is taken up after the last event seen.

        An empty `dream_id` follows whatever dreams now, or dreams next. Closing the iterator ends the watch only.
        """
        last_seen = after_sequence
        failures, allowed = 0, self._attempts
        while True:
            request = dream_service_pb2.StreamStatusRequest(space=space, dream_id=dream_id, after_sequence=last_seen)
            stream = self._dreams.StreamStatus(request)
            try:
                for event in stream:
                    failures, allowed = 0, RECONNECT_ATTEMPTS
                    if event.sequence > last_seen or event.WhichOneof("event") not in ("state_change", "progress_made"):
                        yield event
                    last_seen = max(last_seen, event.sequence)
                    if event.HasField("closing"):
                        return
                lost = DreamsvcCallError("", "the stream ended early", code=grpc.StatusCode.UNAVAILABLE)
            except grpc.RpcError as error:
                lost = from_rpc_error(error)
            finally:
                stream.cancel()
            failures += 1
            if not lost.passing or failures >= allowed:
                raise lost
            time.sleep(_backoff_s(failures))

    def abort(self, space: str = "", dream_id: str = "", *, discard: bool = False) -> dream_service_pb2.AbortResponse:
        """Wakes a space. Not tried again: a second try could end a dream that began in between."""
        request = dream_service_pb2.AbortRequest(space=space, dream_id=dream_id, discard=discard)
        return self._unary(self._dreams.Abort, request, timeout_s=self._timeout_s, attempts=1)

    def revert(self, dream_id: str, space: str = "") -> dream_service_pb2.RevertResponse:
        """Takes a dream back; answers when the memory is as it was before it."""
        request = dream_service_pb2.RevertRequest(space=space, dream_id=dream_id, request_id=str(uuid.uuid4()))
        return self._unary(self._dreams.Revert, request, timeout_s=None)

    def dream(self, dream_id: str, space: str = "") -> dream_pb2.Dream:
        request = dream_service_pb2.GetDreamRequest(space=space, dream_id=dream_id)
        return self._unary(self._dreams.GetDream, request, timeout_s=self._timeout_s).dream

    def dreams(
        self,
        space: str = "",
        *,
        page_size: int | None = None,
        page_token: str = "",
        states: Iterable[dream_pb2.Dream.State.ValueType] = (),
    ) -> dream_service_pb2.ListDreamsResponse:
        """One page, the newest first."""
        request = dream_service_pb2.ListDreamsRequest(
            space=space, page_size=page_size, page_token=page_token, states=states
        )
        return self._unary(self._dreams.ListDreams, request, timeout_s=self._timeout_s)

    def status(self, space: str = "") -> dream_service_pb2.GetStatusResponse:
        request = dream_service_pb2.GetStatusRequest(space=space)
        return self._unary(self._dreams.GetStatus, request, timeout_s=self._timeout_s)

    # Memories

    def remember(
        self,
        memories: Iterable[memory_pb2.Memory] = (),
        edges: Iterable[memory_pb2.Edge] = (),
        *,
        space: str = "",
        request_id: str = "",
    ) -> memory_service_pb2.RememberResponse:
        """Stores all of them or none."""
        request = memory_service_pb2.RememberRequest(
            space=space, memories=memories, edges=edges, request_id=request_id or _new_request_id()
        )
        return self._unary(self._memories.Remember, request, timeout_s=self._timeout_s)

    def recall(
        self,
        text: str = "",
        *,
        vector: Iterable[float] = (),
        limit: int | None = None,
        kinds: Iterable[str] = (),
        after: timestamp_pb2.Timestamp | None = None,
        before: timestamp_pb2.Timestamp | None = None,
        with_vectors: bool = False,
        space: str = "",
    ) -> memory_service_pb2.RecallResponse:
        request = memory_service_pb2.RecallRequest(
            space=space,
            text=text,
            vector=vector,
            limit=limit,
            kinds=kinds,
            after=after,
            before=before,
            with_vectors=with_vectors,
        )
        return self._unary(self._memories.Recall, request, timeout_s=self._timeout_s)

    def get(
        self, memory_id: str, space: str = "", *, with_vector: bool = False, with_edges: bool = False
    ) -> memory_service_pb2.GetMemoryResponse:
        """One memory by its id or key."""
        request = memory_service_pb2.GetMemoryRequest(
            space=space, id=memory_id, with_vector=with_vector, with_edges=with_edges
        )
        return self._unary(self._memories.GetMemory, request, timeout_s=self._timeout_s)

    def list(
        self,
        space: str = "",
        *,
        page_size: int | None = None,
        page_token: str = "",
        kinds: Iterable[str] = (),
        show_deleted: bool = False,
    ) -> memory_service_pb2.ListMemoriesResponse:
        """One page."""
        request = memory_service_pb2.ListMemoriesRequest(
            space=space, page_size=page_size, page_token=page_token, kinds=kinds, show_deleted=show_deleted
        )
        return self._unary(self._memories.ListMemories, request, timeout_s=self._timeout_s)

    def forget(self, ids: Sequence[str], space: str = "", *, request_id: str = "") -> memory_service_pb2.ForgetResponse:
        """Hides memories by their ids or keys."""
        request = memory_service_pb2.ForgetRequest(space=space, ids=ids, request_id=request_id or _new_request_id())
        return self._unary(self._memories.Forget, request, timeout_s=self._timeout_s)

    def restore(
        self, ids: Sequence[str], space: str = "", *, request_id: str = ""
    ) -> memory_service_pb2.RestoreResponse:
        request = memory_service_pb2.RestoreRequest(space=space, ids=ids, request_id=request_id or _new_request_id())
        return self._unary(self._memories.Restore, request, timeout_s=self._timeout_s)

    def import_file(
        self,
        path: str | Path,
        space: str = "",
        *,
        format: memory_pb2.ImportFormat.ValueType = memory_pb2.IMPORT_FORMAT_UNSPECIFIED,
        dry_run: bool = False,
        skip_malformed: bool = False,
        progress: files.Progress | None = None,
        request_id: str = "",
    ) -> memory_pb2.ImportReport:
        """Sends a file, plain or gzip, all or nothing; an unspecified format is told by the first line.

        Raises OSError where the file cannot be read; then nothing was imported.
        """
        source = Path(path)
        header = memory_service_pb2.ImportHeader(
            space=space,
            format=format or files.detect_format(source),
            dry_run=dry_run,
            skip_malformed=skip_malformed,
            request_id=request_id or _new_request_id(),
        )
        return self._retrying(lambda: self._send_file(source, header, progress)).report

    def export_to(
        self,
        target: str | Path | IO[bytes],
        space: str = "",
        *,
        progress: Callable[[int], None] | None = None,
    ) -> memory_service_pb2.ExportSummary:
        """Writes a space as JSON lines: a path gets the whole file or none (gzip for .gz), an open file as it comes.

        `progress` is called with the bytes received so far. Raises OSError where the target cannot be written.
        """
        summary = memory_service_pb2.ExportSummary()

        def confirm(digest: str) -> None:
            if digest != summary.digest:
                told = f"its digest is {digest}, the server told {summary.digest or 'none'}"
                raise DreamsvcCallError("", f"the export arrived damaged: {told}", code=grpc.StatusCode.DATA_LOSS)

        stream = self._memories.Export(memory_service_pb2.ExportRequest(space=space))
        parts = _received(stream, summary, progress)
        try:
            if isinstance(target, str | Path):
                files.write(Path(target), parts, confirm)
            else:
                files.copy(target, parts, confirm)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        finally:
            stream.cancel()
        return summary

    def stats(self, space: str = "") -> memory_service_pb2.GetStatsResponse:
        request = memory_service_pb2.GetStatsRequest(space=space)
        return self._unary(self._memories.GetStats, request, timeout_s=self._timeout_s)

    # How calls are made

    def _unary(
        self,
        method: "grpc.UnaryUnaryMultiCallable[Request, Response]",
        request: Request,
        *,
        timeout_s: float | None,
        attempts: int | None = None,
    ) -> Response:
        return self._retrying(lambda: method(request, timeout=timeout_s), attempts)

    def _retrying(self, call: Callable[[], Result], attempts: int | None = None) -> Result:
        def once() -> Result:
            try:
                return call()
            except grpc.RpcError as error:
                raise from_rpc_error(error) from error

        return tenacity.Retrying(
            stop=tenacity.stop_after_attempt(attempts or self._attempts),
            wait=lambda state: _backoff_s(state.attempt_number),
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, DreamsvcCallError) and error.passing),
            reraise=True,
        )(once)

    def _send_file(
        self, source: Path, header: memory_service_pb2.ImportHeader, progress: files.Progress | None
    ) -> memory_service_pb2.ImportResponse:
        # gRPC reads the iterator in a thread of its own and would hide why it ended.
        broken: list[OSError] = []

        def requests() -> Iterator[memory_service_pb2.ImportRequest]:
            yield memory_service_pb2.ImportRequest(header=header)
            try:
                for chunk in files.chunks(source, progress):
                    yield memory_service_pb2.ImportRequest(chunk=chunk)
            except OSError as error:
                broken.append(error)
                raise

        try:
            return self._memories.Import(requests())
        except grpc.RpcError:
            if broken:
                raise broken[0] from None
            raise


def _received(
    stream: Iterable[memory_service_pb2.ExportResponse],
    summary: memory_service_pb2.ExportSummary,
    progress: Callable[[int], None] | None,
) -> Iterator[bytes]:
    """The chunks of an export; its last message is copied into `summary`."""
    received = 0
    for message in stream:
        if message.HasField("summary"):
            summary.CopyFrom(message.summary)
            continue
        received += len(message.chunk)
        if progress is not None:
            progress(received)
        yield message.chunk


def _new_request_id() -> str:
    return str(uuid.uuid4())


def _backoff_s(failures: int) -> float:
    """0.15, 0.3, 0.6 ... at most 2 seconds."""
    return min(2.0, 0.15 * 2 ** (failures - 1))


def _duration(seconds: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
