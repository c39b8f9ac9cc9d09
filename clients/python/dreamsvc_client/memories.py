"""The calls of MemoryService."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import grpc
from google.protobuf import timestamp_pb2

from dreamsvc.v1 import memory_pb2, memory_service_pb2, memory_service_pb2_grpc
from dreamsvc_client import files
from dreamsvc_client.calls import Calls, new_request_id
from dreamsvc_client.credentials import Credentials
from dreamsvc_client.errors import DreamsvcCallError, from_rpc_error


class MemoryCalls(Calls):
    """Keeps memories and finds them again."""

    def __init__(self, target: str, timeout_s: float, attempts: int, credentials: Credentials) -> None:
        super().__init__(target, timeout_s, attempts, credentials)
        self._memories = memory_service_pb2_grpc.MemoryServiceStub(self._channel)

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
            space=space, memories=memories, edges=edges, request_id=request_id or new_request_id()
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
        token_budget: int | None = None,
        with_similar: bool = False,
        space: str = "",
    ) -> memory_service_pb2.RecallResponse:
        """Finds memories, the best first.

        `token_budget` bounds the titles and texts of all hits together (words and marks; None: no bound);
        `with_similar` gives memories that say the same as a better hit, too.
        """
        request = memory_service_pb2.RecallRequest(
            space=space,
            text=text,
            vector=vector,
            limit=limit,
            kinds=kinds,
            after=after,
            before=before,
            with_vectors=with_vectors,
            token_budget=token_budget or 0,
            with_similar=with_similar,
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
        request = memory_service_pb2.ForgetRequest(space=space, ids=ids, request_id=request_id or new_request_id())
        return self._unary(self._memories.Forget, request, timeout_s=self._timeout_s)

    def restore(
        self, ids: Sequence[str], space: str = "", *, request_id: str = ""
    ) -> memory_service_pb2.RestoreResponse:
        request = memory_service_pb2.RestoreRequest(space=space, ids=ids, request_id=request_id or new_request_id())
        return self._unary(self._memories.Restore, request, timeout_s=self._timeout_s)

    def unmerge(self, memory_id: str, space: str = "", *, request_id: str = "") -> memory_service_pb2.UnmergeResponse:
        """Takes a container apart, a facet out of its container, or a survivor's copies back; by id or key."""
        request = memory_service_pb2.UnmergeRequest(
            space=space, id=memory_id, request_id=request_id or new_request_id()
        )
        return self._unary(self._memories.Unmerge, request, timeout_s=self._timeout_s)

    def feedback(
        self, recall_id: str, used_ids: Sequence[str], space: str = "", *, request_id: str = ""
    ) -> memory_service_pb2.FeedbackResponse:
        """Says which memories of a recall were of use together, by id or key; the next dream learns from it.

        `recall_id` is in the answer of `recall`, and is known for an hour.
        """
        request = memory_service_pb2.FeedbackRequest(
            space=space, recall_id=recall_id, used_ids=used_ids, request_id=request_id or new_request_id()
        )
        return self._unary(self._memories.Feedback, request, timeout_s=self._timeout_s)

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
            request_id=request_id or new_request_id(),
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
