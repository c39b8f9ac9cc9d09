"""The error catalogue as exceptions.

DreamsvcError
├── InvalidFields          a field, with its path, is not what the contract says
├── NotFound
├── RequestIdConflict
├── TooLarge
├── Unimplemented
├── DreamInProgress
├── DreamCooldown          retry_after_s
├── DreamFailed            resource, checkpoint, consolidation, exploration
├── EmbedderMismatch
├── EmbedderMissing
├── ImportMalformed
├── Disabled
├── ChangedLater
├── DreamProposed
├── DreamKept
├── OnHold
├── TooManyWatchers
├── Stalled
├── StoreUnavailable
├── StoreCorrupt
├── ShuttingDown
├── Unauthenticated
├── PermissionDenied
└── RateLimited            retry_after_s, subject, limit

Codes and hints stand in error_reason.proto and are read back here.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dreamsvc.v1 import error_reason_pb2, options_pb2
from dreamsvc.v1.error_reason_pb2 import ErrorReason

DOMAIN = "dreamsvc"
PREFIX = "ERROR_REASON_"


class Violation(NamedTuple):
    """One wrong field: its path, e.g. `memories[3].importance`, and what is wrong with it."""

    path: str
    message: str


class DreamsvcError(Exception):
    """Base of all errors that a caller is meant to see; the message holds no memory text."""

    reason: ErrorReason.ValueType = error_reason_pb2.ERROR_REASON_INTERNAL

    def __init__(
        self,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s


class InvalidFields(DreamsvcError):
    reason = error_reason_pb2.ERROR_REASON_INVALID_FIELD

    def __init__(self, violations: Sequence[Violation]) -> None:
        shown = "; ".join(f"{path}: {message}" for path, message in violations[:5])
        rest = f"; and {len(violations) - 5} more" if len(violations) > 5 else ""
        super().__init__(shown + rest)
        self.violations = list(violations)


def invalid(path: str, message: str) -> InvalidFields:
    """The error for one wrong field."""
    return InvalidFields([Violation(path, message)])


class NotFound(DreamsvcError):
    reason = error_reason_pb2.ERROR_REASON_NOT_FOUND


class RequestIdConflict(DreamsvcError):
    reason = error_reason_pb2.ERROR_REASON_REQUEST_ID_CONFLICT


class TooLarge(DreamsvcError):
    reason = error_reason_pb2.ERROR_REASON_TOO_LARGE


class Unimplemented(DreamsvcError):
    reason = error_reason_pb2.ERROR_REASON_UNIMPLEMENTED


class DreamInProgress(DreamsvcError):
    reason = error_reason_pb2.ERROR_REASON_DREAM_IN_PROGRESS


class DreamCooldown(DreamsvcError):
    reason = error_reason_pb2.ERROR_REASON_DREAM_COOLDOWN


class DreamFailed(DreamsvcError):
    """A dream that could not go on; the instance says which of the dream's reasons."""

    def __init__(self, reason: ErrorReason.ValueType, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class EmbedderMismatch(DreamsvcError):
    reason = error_reason_pb2.ERROR_REASON_EMBEDDER_MISMATCH


class EmbedderMissing(DreamsvcError):
    reason = error_reason_pb2.ERROR_REASON_EMBEDDER_UNAVAILABLE


class ImportMalformed(DreamsvcError):
    reason = error_reason_pb2.ERROR_REASON_IMPORT_MALFORMED


class StoreUnavailable(DreamsvcError):
    reason = error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE


class StoreCorrupt(DreamsvcError):
    reason = error_reason_pb2.ERROR_REASON_STORE_CORRUPT


class Disabled(DreamsvcError):
    reason = error_reason_pb2.ERROR_REASON_DISABLED


class ChangedLater(DreamsvcError):
    reason = error_reason_pb2.ERROR_REASON_CHANGED_LATER


class DreamProposed(DreamsvcError):
    reason = error_reason_pb2.ERROR_REASON_DREAM_PROPOSED


class DreamKept(DreamsvcError):
    reason = error_reason_pb2.ERROR_REASON_DREAM_KEPT


class OnHold(DreamsvcError):
    reason = error_reason_pb2.ERROR_REASON_ON_HOLD

    def __init__(self, space: str) -> None:
        super().__init__(f'space "{space}" is on hold (dream.hold_spaces)')


class TooManyWatchers(DreamsvcError):
    reason = error_reason_pb2.ERROR_REASON_TOO_MANY_WATCHERS


class Stalled(DreamsvcError):
    reason = error_reason_pb2.ERROR_REASON_STALLED


class ShuttingDown(DreamsvcError):
    reason = error_reason_pb2.ERROR_REASON_SHUTTING_DOWN


class Unauthenticated(DreamsvcError):
    reason = error_reason_pb2.ERROR_REASON_UNAUTHENTICATED


class PermissionDenied(DreamsvcError):
    reason = error_reason_pb2.ERROR_REASON_PERMISSION_DENIED


class RateLimited(DreamsvcError):
    """Too many calls of one caller: whose they are, and what the limit is, in words."""

    reason = error_reason_pb2.ERROR_REASON_RATE_LIMITED

    def __init__(self, message: str, *, subject: str, limit: str, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.subject = subject
        self.limit = limit


# What Python says in these is about the program or the machine; a ValueError or a KeyError shows the value.
_ABOUT_NO_VALUE = (
    OSError,
    RuntimeError,
    MemoryError,
    ArithmeticError,
    TypeError,
    AttributeError,
    NameError,
    ImportError,
)


def told(error: BaseException) -> str:
    """An error for logs and for others than who caused it: its kind, and its text where that holds no memory's text."""
    kind = type(error)
    ours = kind.__module__.partition(".")[0] in ("dreamsvc", "kernels")
    return f"{kind.__name__}: {error}" if ours or isinstance(error, _ABOUT_NO_VALUE) else kind.__name__


def reason_name(reason: ErrorReason.ValueType) -> str:
    """E.g. DREAM_IN_PROGRESS."""
    return ErrorReason.Name(reason).removeprefix(PREFIX)


def rule(reason: ErrorReason.ValueType) -> options_pb2.ErrorRule:
    """Codes and hint of a reason, from the catalogue."""
    options = ErrorReason.DESCRIPTOR.values_by_number[reason].GetOptions()
    return options.Extensions[options_pb2.error]
