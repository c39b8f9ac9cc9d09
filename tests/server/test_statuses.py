"""Errors as the statuses that callers see."""

import pytest
from google.rpc import code_pb2, error_details_pb2

from dreamsvc import errors
from dreamsvc.errors import DreamCooldown, InvalidFields, NotFound, RateLimited, Violation
from dreamsvc.server import statuses

TRACE = "0" * 32


def details(status: object) -> dict[str, object]:
    found: dict[str, object] = {}
    for packed in status.details:  # type: ignore[attr-defined]
        kind = getattr(error_details_pb2, packed.TypeName().rpartition(".")[2])
        found[kind.__name__] = kind.FromString(packed.value)
    return found


def test_an_error_of_the_catalogue_is_told_in_full() -> None:
    status = statuses.of(DreamCooldown("the cooldown lasts 2 s more", retry_after_s=2.5, metadata={"a": "b"}), TRACE)
    assert (status.code, status.message) == (code_pb2.FAILED_PRECONDITION, "the cooldown lasts 2 s more")
    found = details(status)
    assert found["ErrorInfo"].reason == "DREAM_COOLDOWN"  # type: ignore[attr-defined]
    assert found["ErrorInfo"].metadata["a"] == "b"  # type: ignore[attr-defined]
    assert found["RetryInfo"].retry_delay.ToMilliseconds() == 2500  # type: ignore[attr-defined]
    assert found["RequestInfo"].request_id == TRACE  # type: ignore[attr-defined]
    assert "BadRequest" not in found


def test_a_limit_is_told_with_whose_it_is_and_when_to_try_again() -> None:
    status = statuses.of(RateLimited("too many", subject="token:1", limit="reads", retry_after_s=1.5), TRACE)
    assert status.code == code_pb2.RESOURCE_EXHAUSTED
    found = details(status)
    violation = found["QuotaFailure"].violations[0]  # type: ignore[attr-defined]
    assert (violation.subject, violation.description) == ("token:1", "reads")
    assert found["RetryInfo"].retry_delay.ToMilliseconds() == 1500  # type: ignore[attr-defined]


def test_any_other_error_shows_the_trace_id_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    status = statuses.of(KeyError("a secret"), TRACE)
    assert status.code == code_pb2.INTERNAL
    assert "secret" not in str(status)
    assert TRACE in status.message
    assert "a secret" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        InvalidFields([Violation(f"edges[{i}].source", "\N{SLEEPING FACE}" * 300) for i in range(100_000)]),
        InvalidFields([Violation("x" * 100_000, "y" * 100_000)]),
        NotFound("\N{SLEEPING FACE}" * 10_000),
    ],
)
def test_an_error_always_fits_into_what_a_client_takes(error: errors.DreamsvcError) -> None:
    status = statuses.of(error, TRACE)
    percent_encoded = 3 * len(status.message.encode())
    base64 = status.ByteSize() * 4 / 3
    assert percent_encoded + base64 < 8192 - 256
    assert status.message.startswith(error.message[:50])
    if isinstance(error, InvalidFields):
        assert len(details(status)["BadRequest"].field_violations) >= 1  # type: ignore[attr-defined]
