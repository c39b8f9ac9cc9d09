"""What every call passes, whichever door it came through: limits and contract on the way in, the
one error catalogue on the way out."""

import logging

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from dreamsvc import contract, errors
from dreamsvc.errors import DreamsvcError, InvalidFields, TooLarge

logger = logging.getLogger(__name__)
# Clients drop a call whose trailing metadata is over 8 KB, and the error with it; percent encoding triples some text.
MOST_TEXT_BYTES = 800
MOST_VIOLATION_BYTES = 1600


def admit(request: Message, max_bytes: int) -> None:
    """Fills in a request's defaults and checks it; raises TooLarge or InvalidFields."""
    size = request.ByteSize()
    if size > max_bytes:
        raise TooLarge(f"the request has {size} bytes; at most {max_bytes} are allowed (server.max_message_bytes)")
    contract.fill(request)
    contract.check(request)


def status_of(error: Exception, trace_id: str) -> status_pb2.Status:
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
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(
        code=code_pb2.Code.Value(rule.grpc),
        message=_shortened(error.message),
        details=[_packed(detail) for detail in details],
    )


def _bad_request(error: InvalidFields) -> error_details_pb2.BadRequest:
    """The wrong fields, as many as fit."""
    found = error_details_pb2.BadRequest()
    for path, message in error.violations:
        found.field_violations.add(field=_shortened(path), description=_shortened(message))
        if found.ByteSize() > MOST_VIOLATION_BYTES:
            break
    return found


def _shortened(text: str) -> str:
    raw = text.encode(errors="replace")
    return text if len(raw) <= MOST_TEXT_BYTES else raw[:MOST_TEXT_BYTES].decode(errors="ignore") + "..."


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
