"""One exception for every call that failed, with all that the server said about it."""

from typing import Any, NamedTuple, cast

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2  # pyright: ignore[reportMissingTypeStubs]
from grpc_status import rpc_status

PREFIX = "ERROR_REASON_"


class CallViolation(NamedTuple):
    """One wrong field: its path, e.g. `memories[3].importance`, and what is wrong with it."""

    path: str
    message: str


class DreamsvcCallError(Exception):
    """A call was answered with an error, or not at all.

    `reason` is a name of the error catalogue such as "DREAM_IN_PROGRESS"; it is empty where no dreamsvc server
    answered (nothing listens, the deadline passed, something else listens).
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        hint: str = "",
        violations: tuple[CallViolation, ...] = (),
        retry_after_s: float | None = None,
        trace_id: str = "",
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__(f"{reason or code.name}: {message}")
        self.reason = reason
        self.message = message
        self.code = code
        self.hint = hint
        self.violations = violations
        self.retry_after_s = retry_after_s
        self.trace_id = trace_id
        self.metadata = metadata or {}

    @property
    def unreachable(self) -> bool:
        """True if no server was there to answer."""
        return self.code is grpc.StatusCode.UNAVAILABLE and not self.reason

    @property
    def passing(self) -> bool:
        """True if the same call may succeed in a moment: the server is away or just shutting down."""
        return self.code is grpc.StatusCode.UNAVAILABLE and self.reason in ("", "SHUTTING_DOWN")


def from_rpc_error(error: grpc.RpcError) -> DreamsvcCallError:
    """Reads google.rpc.Status and its details out of what gRPC raised."""
    # What a call raises is always a Call too; the base class alone does not say so.
    call = cast(grpc.Call, error)
    reason, hint, trace_id = "", "", ""
    violations: list[CallViolation] = []
    retry_after_s: float | None = None
    metadata: dict[str, str] = {}
    for detail in _details(call):
        match detail:
            case error_details_pb2.ErrorInfo():
                reason = detail.reason.removeprefix(PREFIX)
                metadata = dict(detail.metadata)
                hint = metadata.pop("hint", "")
            case error_details_pb2.BadRequest():
                violations += [CallViolation(item.field, item.description) for item in detail.field_violations]
            case error_details_pb2.RetryInfo():
                retry_after_s = detail.retry_delay.seconds + detail.retry_delay.nanos / 1e9
            case error_details_pb2.RequestInfo():
                trace_id = detail.request_id
            case _:
                pass
    return DreamsvcCallError(
        reason,
        call.details() or "no message",
        code=call.code(),
        hint=hint,
        violations=tuple(violations),
        retry_after_s=retry_after_s,
        trace_id=trace_id,
        metadata=metadata,
    )


def _details(call: grpc.Call) -> list[Any]:
    try:
        status = cast(status_pb2.Status | None, cast(Any, rpc_status).from_call(call))
    except ValueError:
        # A proxy changed the code or the message; the details that are left contradict it.
        return []
    if status is None:
        return []
    return [message for packed in status.details if (message := _unpack(packed)) is not None]


def _unpack(packed: any_pb2.Any) -> Any:
    for kind in (
        error_details_pb2.ErrorInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.RetryInfo,
        error_details_pb2.RequestInfo,
    ):
        message = kind()
        if packed.Unpack(message):
            return message
    return None
