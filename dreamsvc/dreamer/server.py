"""The dreamer's process: one gRPC service on a Unix socket, one dream at a time.

It ends when the process that started it ends: its standard input closes then.
"""

import gc
import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent import futures
from importlib import import_module
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import grpc

from dreamsvc import __version__, entropy, errors, snapshot_files
from dreamsvc.clock import Clock
from dreamsvc.cores import core_count
from dreamsvc.dreamer import placement
from dreamsvc.dreamer.throttle import Allowed, Throttle
from dreamsvc.dreamer.v1.dreamer_service_pb2 import Ended, Ready, RunDreamRequest, RunDreamResponse, Start
from dreamsvc.dreamer.v1.dreamer_service_pb2_grpc import DreamerServiceServicer, add_DreamerServiceServicer_to_server
from dreamsvc.dreamer.v1.operations_pb2 import Operations
from dreamsvc.telemetry import logs
from dreamsvc.telemetry.logs import Subject
from dreamsvc.telemetry.spans import Recorder
from dreamsvc.telemetry.step_spans import StepSpans
from dreamsvc.telemetry.tracing import Tracing
from dreamsvc.v1 import dream_pb2, error_reason_pb2
from dreamsvc.v1.error_reason_pb2 import ErrorReason

if TYPE_CHECKING:
    from dreamsvc.dreamer.cycle import Cycle

logger = logging.getLogger(__name__)
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
POLL_S = 0.001


class Dreamer(DreamerServiceServicer):
    """Runs dreams one after the other; a stop is seen within one chunk, or at once while it still prepares."""

    def __init__(self, cores: float, recorder: Recorder | None = None) -> None:
        """cores: how many there are, of which a dream without a GPU has its share. recorder: of traces."""
        self._cores = cores
        self._recorder = recorder
        self._clock = Clock()
        self._device = threading.Lock()

    def RunDream(
        self, request_iterator: Iterator[RunDreamRequest], context: grpc.ServicerContext
    ) -> Iterator[RunDreamResponse]:
        start = next(request_iterator, RunDreamRequest()).start
        logs.begin(Subject(dream_id=start.dream_id))
        spans = StepSpans(start.traceparent, self._recorder, self._clock.now_us)
        staged: list[Operations] = []
        for request in islice(request_iterator, start.staged_parts):
            if request.WhichOneof("message") != "staged":
                # Whoever says anything else does not want the dream any more.
                yield RunDreamResponse(ended=Ended(reason=dream_pb2.END_REASON_ABORTED))
                return
            staged.append(request.staged)
        stop, allowed = threading.Event(), _allowed(start)
        context.add_callback(stop.set)
        threading.Thread(target=_listen, args=(request_iterator, stop, allowed), daemon=True).start()
        try:
            spans.at("preparing")
            prepared = self._prepared(start, staged, stop, allowed, spans)
            if prepared is None:
                yield RunDreamResponse(ended=Ended(reason=dream_pb2.END_REASON_ABORTED))
                return
            phase, ready = prepared
            spans.end()
            yield RunDreamResponse(ready=ready)
            with self._device:
                yield from phase.run()
        except Exception as error:
            logger.exception("dream %s failed", start.dream_id)
            spans.end(type(error).__name__)
            yield RunDreamResponse(
                ended=Ended(
                    reason=dream_pb2.END_REASON_FAILED,
                    message=errors.told(error),
                    unrecoverable=isinstance(error, snapshot_files.UnreadableSnapshot),
                    error_reason=_reason(error),
                )
            )
        finally:
            spans.end()

    def _prepared(
        self,
        start: Start,
        staged: Sequence[Operations],
        stop: threading.Event,
        allowed: Allowed,
        spans: StepSpans,
    ) -> "tuple[Cycle, Ready] | None":
        """Prepares on a thread of its own; None if a stop came first. Compiling goes on then, for the next dream."""
        outcome: SimpleQueue[tuple[Cycle, Ready] | Exception] = SimpleQueue()

        def work() -> None:
            logs.begin(Subject(dream_id=start.dream_id))
            try:
                from dreamsvc.dreamer.cycle import Cycle  # imports JAX, which takes its time

                with self._device:
                    allowed.of_thread = placement.thread_share(self._cores)
                    phase = Cycle(start, staged, Throttle(allowed, stop), spans)
                    ready = phase.prepare()
                    ready.cores = self._cores
                    outcome.put((phase, ready))
            except Exception as error:
                outcome.put(error)

        threading.Thread(target=work, daemon=True).start()
        while not stop.is_set():
            try:
                done = outcome.get(timeout=POLL_S)
            except Empty:
                continue
            if isinstance(done, Exception):
                raise done
            return done
        return None


def _allowed(start: Start) -> Allowed:
    if not start.HasField("allowance"):
        return Allowed(start.config.resources.max_gpu_usage)
    return Allowed(start.allowance.max_share, paused=start.allowance.paused)


def _listen(requests: Iterator[RunDreamRequest], stop: threading.Event, allowed: Allowed) -> None:
    """Takes up what it is allowed; any other message means stop, and so does the end of the stream."""
    try:
        for request in requests:
            if request.WhichOneof("message") != "allowance":
                break
            allowed.allow(request.allowance.max_share, paused=request.allowance.paused)
    except Exception:  # the caller is gone, in whatever way gRPC says so
        logger.debug("the stream ended", exc_info=True)
    stop.set()


def _reason(error: Exception) -> ErrorReason.ValueType:
    """What an error counts as; unspecified: as one of the phase that it came in."""
    if isinstance(error, snapshot_files.UnreadableSnapshot):
        return error_reason_pb2.ERROR_REASON_DREAM_CHECKPOINT
    # XLA says so in the text of an error whose class is for all of them.
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return error_reason_pb2.ERROR_REASON_DREAM_RESOURCE
    return error_reason_pb2.ERROR_REASON_UNSPECIFIED


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(0)


def run(socket_path: str, *, log_level: str, traces_endpoint: str) -> int:
    """Serves on a Unix socket until standard input closes."""
    # Before it gives one of them up.
    cores = core_count()
    placement.give_way()
    placement.go_first()
    placement.end_with_parent()
    placement.cache_compiled()
    # For the process that serves, which logs it on in the form that is configured.
    logs.set_up("json", log_level, "dreamer")
    tracing = None
    if traces_endpoint:
        tracing = Tracing(traces_endpoint, "dreamsvc-dreamer", __version__, entropy.trace_id())
        tracing.start()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), options=UNLIMITED)
    add_DreamerServiceServicer_to_server(Dreamer(cores, tracing), server)
    server.add_insecure_port(f"unix:{socket_path}")
    server.start()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # JAX is imported now and not with the first dream; queries are served by the other process meanwhile.
    import_module("dreamsvc.dreamer.cycle")
    # No collection looks at all that again: it would take a tenth of a second, and a wake in the meantime would wait.
    gc.collect()
    gc.freeze()
    server.wait_for_termination()
    return 0
