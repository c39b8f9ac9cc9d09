"""The calls of DreamService."""

import time
from collections.abc import Iterable, Iterator

import grpc
from google.protobuf import duration_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from dreamsvc.v1 import blind_spot_pb2, dream_pb2, dream_service_pb2, dream_service_pb2_grpc, memory_pb2
from dreamsvc_client import calls
from dreamsvc_client.calls import Calls, new_request_id
from dreamsvc_client.credentials import Credentials
from dreamsvc_client.errors import DreamsvcCallError, from_rpc_error

RECONNECT_ATTEMPTS = 8
"""Tries of a watch that was connected before, about 8 seconds: a server that restarts is back by then."""


class DreamCalls(Calls):
    """Starts, shows and ends dreams."""

    def __init__(self, target: str, timeout_s: float, attempts: int, credentials: Credentials) -> None:
        super().__init__(target, timeout_s, attempts, credentials)
        self._dreams = dream_service_pb2_grpc.DreamServiceStub(self._channel)

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
        propose: bool | None = None,
        request_id: str = "",
    ) -> dream_service_pb2.TriggerResponse:
        """Starts a dream or goes on with an interrupted one; a blocking call has no deadline of its own.

        With `propose` the dream waits for `approve` before anything of it is applied; None is as the server is set.
        """
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
            propose=propose,
            request_id=request_id or new_request_id(),
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
            time.sleep(calls.backoff_s(failures))

    def abort(self, space: str = "", dream_id: str = "", *, discard: bool = False) -> dream_service_pb2.AbortResponse:
        """Wakes a space. Not tried again: a second try could end a dream that began in between."""
        request = dream_service_pb2.AbortRequest(space=space, dream_id=dream_id, discard=discard)
        return self._unary(self._dreams.Abort, request, timeout_s=self._timeout_s, attempts=1)

    def revert(self, dream_id: str, space: str = "") -> dream_service_pb2.RevertResponse:
        """Takes a dream back; answers when the memory is as it was before it."""
        request = dream_service_pb2.RevertRequest(space=space, dream_id=dream_id, request_id=new_request_id())
        return self._unary(self._dreams.Revert, request, timeout_s=None)

    def estimate(self, space: str = "") -> dream_service_pb2.EstimateDreamResponse:
        """What a dream would touch and take, without dreaming; upper bounds."""
        request = dream_service_pb2.EstimateDreamRequest(space=space)
        return self._unary(self._dreams.EstimateDream, request, timeout_s=self._timeout_s)

    def approve(
        self, dream_id: str, space: str = "", *, request_id: str = ""
    ) -> dream_service_pb2.ApproveDreamResponse:
        """Applies a dream that waits as a proposal; like `revert` it has no deadline of its own."""
        request = dream_service_pb2.ApproveDreamRequest(
            space=space, dream_id=dream_id, request_id=request_id or new_request_id()
        )
        return self._unary(self._dreams.ApproveDream, request, timeout_s=None)

    def reject(self, dream_id: str, space: str = "", *, request_id: str = "") -> dream_service_pb2.RejectDreamResponse:
        """Gives a proposal up; nothing of it is applied."""
        request = dream_service_pb2.RejectDreamRequest(
            space=space, dream_id=dream_id, request_id=request_id or new_request_id()
        )
        return self._unary(self._dreams.RejectDream, request, timeout_s=self._timeout_s)

    def delete_dream(
        self, dream_id: str, space: str = "", *, request_id: str = ""
    ) -> dream_service_pb2.DeleteDreamResponse:
        """Deletes the record of a night that changed nothing, or whose changes cannot be taken back any more."""
        request = dream_service_pb2.DeleteDreamRequest(
            space=space, dream_id=dream_id, request_id=request_id or new_request_id()
        )
        return self._unary(self._dreams.DeleteDream, request, timeout_s=self._timeout_s)

    def diff(
        self, dream_id: str, space: str = "", *, with_weights: bool = False, page_size: int | None = None
    ) -> Iterator[dream_service_pb2.DreamEdit]:
        """Every edit of a dream, page after page: of a proposal what it would do, else what it did.

        Edges of which only the weight changed come `with_weights`. The first page is asked for with the first edit.
        """
        page_token = ""
        while True:
            request = dream_service_pb2.DiffDreamRequest(
                space=space,
                dream_id=dream_id,
                page_size=page_size,
                page_token=page_token,
                with_weights=with_weights,
            )
            page = self._unary(self._dreams.DiffDream, request, timeout_s=self._timeout_s)
            yield from page.edits
            page_token = page.next_page_token
            if not page_token:
                return

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
        after: Timestamp | None = None,
        before: Timestamp | None = None,
    ) -> dream_service_pb2.ListDreamsResponse:
        """One page, the newest first; of those that began at or after a moment, and before another."""
        request = dream_service_pb2.ListDreamsRequest(
            space=space, page_size=page_size, page_token=page_token, states=states, after=after, before=before
        )
        return self._unary(self._dreams.ListDreams, request, timeout_s=self._timeout_s)

    def list_blind_spots(
        self,
        space: str = "",
        *,
        states: Iterable[blind_spot_pb2.BlindSpot.State.ValueType] = (),
        dream_id: str = "",
        page_size: int | None = None,
        page_token: str = "",
    ) -> dream_service_pb2.ListBlindSpotsResponse:
        """One page of what REM phases found, the newest first."""
        request = dream_service_pb2.ListBlindSpotsRequest(
            space=space, states=states, dream_id=dream_id, page_size=page_size, page_token=page_token
        )
        return self._unary(self._dreams.ListBlindSpots, request, timeout_s=self._timeout_s)

    def accept_blind_spot(
        self, blind_spot_id: str, space: str = "", *, request_id: str = ""
    ) -> dream_service_pb2.AcceptBlindSpotResponse:
        """Says that a find is right: its edge is made, or trusted from now on."""
        request = dream_service_pb2.AcceptBlindSpotRequest(
            space=space, id=blind_spot_id, request_id=request_id or new_request_id()
        )
        return self._unary(self._dreams.AcceptBlindSpot, request, timeout_s=self._timeout_s)

    def reject_blind_spot(
        self, blind_spot_id: str, space: str = "", *, request_id: str = ""
    ) -> dream_service_pb2.RejectBlindSpotResponse:
        """Says that a find is wrong: its edge goes, and no dream proposes it again."""
        request = dream_service_pb2.RejectBlindSpotRequest(
            space=space, id=blind_spot_id, request_id=request_id or new_request_id()
        )
        return self._unary(self._dreams.RejectBlindSpot, request, timeout_s=self._timeout_s)

    def dream_map(
        self, dream_id: str = "", space: str = "", *, max_memories: int | None = None
    ) -> dream_service_pb2.GetDreamMapResponse:
        """Where memories lie in the Poincare ball, and what a dream walked and made there."""
        request = dream_service_pb2.GetDreamMapRequest(space=space, dream_id=dream_id, max_memories=max_memories)
        return self._unary(self._dreams.GetDreamMap, request, timeout_s=self._timeout_s)

    def generate(
        self,
        prompt: str,
        space: str = "",
        *,
        seed: int | None = None,
        creativity: float | None = None,
        coherence: float | None = None,
        steps: int | None = None,
    ) -> dream_service_pb2.GenerateResponse:
        """Dreams from a prompt over the memory, and changes nothing; the seed of one that was drawn is in the answer.

        Creativity and coherence are from 0 to 1; None is the server's default.
        """
        constraints = dream_service_pb2.GenerateConstraints(creativity=creativity, coherence=coherence, steps=steps)
        request = dream_service_pb2.GenerateRequest(space=space, prompt=prompt, seed=seed, constraints=constraints)
        return self._unary(self._dreams.Generate, request, timeout_s=self._timeout_s)

    def simulate(
        self,
        memories: Iterable[memory_pb2.Memory],
        edges: Iterable[memory_pb2.Edge] = (),
        *,
        iterations: int | None = None,
        phase: dream_pb2.DreamPhase.ValueType = dream_pb2.DREAM_PHASE_UNSPECIFIED,
        seed: int | None = None,
        budget_s: float | None = None,
    ) -> dream_service_pb2.SimulateResponse:
        """Dreams over a graph of the caller's and keeps nothing; it has no deadline of its own.

        Breaking it off, e.g. by Ctrl-C, ends the simulation.
        """
        request = dream_service_pb2.SimulateRequest(
            memories=memories,
            edges=edges,
            iterations=iterations,
            phase=phase,
            seed=seed,
            budget=None if budget_s is None else _duration(budget_s),
        )
        return self._unary(self._dreams.Simulate, request, timeout_s=None)

    def status(self, space: str = "") -> dream_service_pb2.GetStatusResponse:
        request = dream_service_pb2.GetStatusRequest(space=space)
        return self._unary(self._dreams.GetStatus, request, timeout_s=self._timeout_s)


def _duration(seconds: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
