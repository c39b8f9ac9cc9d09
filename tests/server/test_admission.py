"""What every call passes: the limit and the contract in, the catalogue out."""

import pytest
from google.rpc import code_pb2, error_details_pb2

from dreamsvc import errors
from dreamsvc.errors import DreamCooldown, InvalidFields, NotFound, TooLarge, Violation
from dreamsvc.server.admission import admit, status_of
from dreamsvc.v1.dream_service_pb2 import TriggerRequest
from dreamsvc.v1.memory_service_pb2 import RecallRequest

TRACE = "0" * 32


def details(status: object) -> dict[str, object]:
    found: dict[str, object] = {}
    for packed in status.details:  # type: ignore[attr-defined]
        kind = getattr(error_details_pb2, packed.TypeName().rpartition(".")[2])
        found[kind.__name__] = kind.FromString(packed.value)
    return found


def test_a_request_is_filled_in_before_it_is_checked() -> None:
    request = TriggerRequest()
    admit(request, 1 << 20)
    assert request.space == "default"
    with pytest.raises(InvalidFields):
        admit(TriggerRequest(space="?"), 1 << 20)


def test_what_is_too_large_is_refused_with_its_size_and_the_limit() -> None:
    with pytest.raises(TooLarge, match=r"1003 bytes; at most 1000 .*server.max_message_bytes"):
        admit(RecallRequest(text="x" * 1000), 1000)
    admit(RecallRequest(text="x" * 997), 1000)


def test_an_error_of_the_catalogue_is_told_in_full() -> None:
    status = status_of(DreamCooldown("the cooldown lasts 2 s more", retry_after_s=2.5, metadata={"a": "b"}), TRACE)
    assert (status.code, status.message) == (code_pb2.FAILED_PRECONDITION, "the cooldown lasts 2 s more")
    found = details(status)
    assert found["ErrorInfo"].reason == "DREAM_COOLDOWN"  # type: ignore[attr-defined]
    assert found["ErrorInfo"].metadata["a"] == "b"  # type: ignore[attr-defined]
    assert found["RetryInfo"].retry_delay.ToMilliseconds() == 2500  # type: ignore[attr-defined]
    assert found["RequestInfo"].request_id == TRACE  # type: ignore[attr-defined]
    assert "BadRequest" not in found


def test_any_other_error_shows_the_trace_id_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    status = status_of(KeyError("a secret"), TRACE)
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
    status = status_of(error, TRACE)
    percent_encoded = 3 * len(status.message.encode())
    base64 = status.ByteSize() * 4 / 3
    assert percent_encoded + base64 < 8192 - 256
    assert status.message.startswith(error.message[:50])
    if isinstance(error, InvalidFields):
        assert len(details(status)["BadRequest"].field_violations) >= 1  # type: ignore[attr-defined]
