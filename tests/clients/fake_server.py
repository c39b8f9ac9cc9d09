"""A gRPC server without a mind: every call does what a test scripted, and is written down."""

from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, cast

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from dreamsvc.v1 import admin_service_pb2_grpc, dream_service_pb2_grpc, memory_service_pb2_grpc
from dreamsvc.v1.memory_service_pb2 import ImportRequest

Script = Callable[[Any, grpc.ServicerContext], Any]


class FakeServer:
    """Listens at `target`; `scripts` maps a call's name to what it does, `requests` keeps what came."""

    def __init__(self) -> None:
        self.scripts: dict[str, Script] = {}
        self.requests: list[tuple[str, Any]] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
        dream_service_pb2_grpc.add_DreamServiceServicer_to_server(_servicer(self, _DREAM_CALLS), self._server)
        memory_service_pb2_grpc.add_MemoryServiceServicer_to_server(_servicer(self, _MEMORY_CALLS), self._server)
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server(_servicer(self, _ADMIN_CALLS), self._server)
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def answers(self, name: str, *responses: Any) -> None:
        """The call gives these, one after the other, the last one for ever; exceptions are sent as errors."""
        left = list(responses)

        def script(request: Any, context: grpc.ServicerContext) -> Any:
            response = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(response, Refusal):
                response.send(context)
            return response

        self.scripts[name] = script

    def streams(self, name: str, *streams: list[Any]) -> None:
        """The call gives these lists of messages, one list a call; a Refusal in a list breaks the stream."""
        left = list(streams)

        def script(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            for message in left.pop(0) if len(left) > 1 else left[0]:
                if isinstance(message, Refusal):
                    message.send(context)
                yield message

        self.scripts[name] = script

    def sent(self, name: str) -> list[Any]:
        return [request for call, request in self.requests if call == name]


class Refusal(Exception):
    """An error as a dreamsvc server sends it; without a reason as a broken connection shows it."""

    def __init__(self, code: int, message: str, reason: str = "", **details: Any) -> None:
        super().__init__(message)
        self._status = status_pb2.Status(code=code, message=message)
        if reason:
            hint = {"hint": details["hint"]} if "hint" in details else {}
            self._add(error_details_pb2.ErrorInfo(reason=reason, domain="dreamsvc", metadata=hint))
        if "violations" in details:
            fields = [
                error_details_pb2.BadRequest.FieldViolation(field=path, description=text)
                for path, text in details["violations"]
            ]
            self._add(error_details_pb2.BadRequest(field_violations=fields))
        if "retry_after_s" in details:
            delay = duration_pb2.Duration(seconds=details["retry_after_s"])
            self._add(error_details_pb2.RetryInfo(retry_delay=delay))
        if "trace_id" in details:
            self._add(error_details_pb2.RequestInfo(request_id=details["trace_id"]))

    def _add(self, detail: Any) -> None:
        packed = any_pb2.Any()
        packed.Pack(detail)
        self._status.details.append(packed)

    def send(self, context: grpc.ServicerContext) -> None:
        context.abort_with_status(rpc_status.to_status(self._status))


def unavailable() -> Refusal:
    return Refusal(code_pb2.UNAVAILABLE, "the server is away")


_DREAM_CALLS = (
    *("Trigger", "Abort", "Revert", "GetDream", "ListDreams", "GetStatus", "StreamStatus"),
    *("EstimateDream", "ApproveDream", "RejectDream", "DeleteDream", "DiffDream"),
    *("ListBlindSpots", "AcceptBlindSpot", "RejectBlindSpot", "GetDreamMap", "Generate", "Simulate"),
)
_MEMORY_CALLS = (
    *("Remember", "Recall", "GetMemory", "ListMemories", "Forget", "Restore", "Unmerge"),
    *("Feedback", "Import", "Export", "GetStats"),
)
_ADMIN_CALLS = ("GetHealth", "GetConfig", "ReloadConfig")
_STREAMING = ("StreamStatus", "Export")


def _servicer(fake: FakeServer, calls: tuple[str, ...]) -> Any:
    def unary(name: str) -> Callable[[Any, Any, grpc.ServicerContext], Any]:
        def call(_: Any, request: Any, context: grpc.ServicerContext) -> Any:
            # Import's request is a stream: what is kept is all of it.
            whole = request if not isinstance(request, Iterator) else _drained(cast("Iterator[ImportRequest]", request))
            fake.requests.append((name, whole))
            return fake.scripts[name](whole, context)

        return call

    def stream(name: str) -> Callable[[Any, Any, grpc.ServicerContext], Iterator[Any]]:
        def call(_: Any, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            fake.requests.append((name, request))
            yield from fake.scripts[name](request, context)

        return call

    methods = {name: stream(name) if name in _STREAMING else unary(name) for name in calls}
    return type("Servicer", (), methods)()


def _drained(requests: Iterator[ImportRequest]) -> list[ImportRequest]:
    return list(requests)
