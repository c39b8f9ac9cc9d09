"""The one error catalogue on the way out, for every door."""

import logging

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from dreamsvc import errors
from dreamsvc.errors import DreamsvcError, InvalidFields, RateLimited

logger = logging.getLogger(__name__)
# Clients drop a call whose trailing metadata is over 8 KB, and the error with it; percent encoding triples some text.
MOST_TEXT_BYTES = 800
MOST_VIOLATION_BYTES = 1600
# What whoever runs the service has to mend; all else is its caller's.
_OURS = ("INTERNAL", "DATA_LOSS", "UNAVAILABLE")


def note(error: Exception, method: str) -> None:
    """A line for the log about a call that fails; in the error's words only where these are about the service.

    What is not in the catalogue is logged by `of`, with all that is known of it.
    """
    if not isinstance(error, DreamsvcError):
        return
    name = errors.reason_name(error.reason)
    if errors.rule(error.reason).grpc in _OURS:
        logger.warning("%s failed, %s: %s", method, name, error.message)
    else:
        # Nobody fills the log by calling too often.
        level = logging.DEBUG if isinstance(error, RateLimited) else logging.INFO
        logger.log(level, "%s was refused: %s", method, name)


def of(error: Exception, trace_id: str) -> status_pb2.Status:
    """The status a caller sees; what is not in the catalogue shows nothing of itself but the trace id."""
    if not isinstance(error, DreamsvcError):
        logger.error("call %s failed", trace_id, exc_info=error)
        error = DreamsvcError(f"an internal error; the log has it under trace {trace_id}")
    rule = errors.rule(error.reason)
    details: list[Message] = [
        error_details_pb2.ErrorInfo(
            reason=errors.reason_name(error.reason),
            domain=errors.DOMAIN,
            metadata={**error.metadata, "code": str(rule.json_rpc), "hint": rule.hint},
        ),
        error_details_pb2.RequestInfo(request_id=trace_id),
    ]
    if isinstance(error, InvalidFields):
        details.append(_bad_request(error))
    if isinstance(error, RateLimited):
        details.append(_quota(error))
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(
        code=code_pb2.Code.Value(rule.grpc),
        message=_shortened(error.message),
        details=[_packed(detail) for detail in details],
    )


def late(trace_id: str) -> status_pb2.Status:
    """For a call whose deadline had passed before anything was begun for it; the caller knows it already."""
    return status_pb2.Status(
        code=code_pb2.DEADLINE_EXCEEDED,
        message="the deadline passed before the call had its turn; nothing was begun",
        details=[_packed(error_details_pb2.RequestInfo(request_id=trace_id))],
    )


def _bad_request(error: InvalidFields) -> error_details_pb2.BadRequest:
    """The wrong fields, as many as fit."""
    found = error_details_pb2.BadRequest()
    for path, message in error.violations:
        found.field_violations.add(field=_shortened(path), description=_shortened(message))
        if found.ByteSize() > MOST_VIOLATION_BYTES:
            break
    return found


def _quota(error: RateLimited) -> error_details_pb2.QuotaFailure:
    found = error_details_pb2.QuotaFailure()
    found.violations.add(subject=_shortened(error.subject), description=_shortened(error.limit))
    return found


def _shortened(text: str) -> str:
    raw = text.encode(errors="replace")
    return text if len(raw) <= MOST_TEXT_BYTES else raw[:MOST_TEXT_BYTES].decode(errors="ignore") + "..."


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
