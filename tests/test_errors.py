"""The error catalogue: one line for each reason, and every exception in it."""

from collections.abc import Iterator

import grpc
import pytest
from google.rpc import code_pb2

from dreamsvc import errors
from dreamsvc.errors import DreamsvcError, InvalidFields, Violation
from dreamsvc.v1.error_reason_pb2 import ErrorReason

REASONS = [number for number in ErrorReason.values() if number]


def kinds(base: type[DreamsvcError] = DreamsvcError) -> Iterator[type[DreamsvcError]]:
    for kind in base.__subclasses__():
        yield kind
        yield from kinds(kind)


@pytest.mark.parametrize("reason", REASONS, ids=[errors.reason_name(reason) for reason in REASONS])
def test_every_reason_says_how_it_looks_from_every_door_and_what_to_do(reason: ErrorReason.ValueType) -> None:
    rule = errors.rule(reason)
    assert rule.json_rpc < -32000
    assert code_pb2.Code.Value(rule.grpc) != code_pb2.OK
    assert hasattr(grpc.StatusCode, rule.grpc)
    assert 400 <= rule.http < 600
    assert rule.hint.endswith(".")
    assert rule.meaning.endswith(".")


def test_codes_are_unique() -> None:
    codes = [errors.rule(reason).json_rpc for reason in REASONS]
    assert len(set(codes)) == len(codes)


def test_the_codes_of_the_specification_have_their_names() -> None:
    # REQ-DREAM-032
    names = {errors.rule(reason).json_rpc: errors.reason_name(reason) for reason in REASONS}
    assert [names[code] for code in range(-32100, -32108, -1)] == [
        "DREAM_IN_PROGRESS",
        "DREAM_COOLDOWN",
        "DREAM_ABORTED",
        "DREAM_TIMEOUT",
        "DREAM_RESOURCE",
        "DREAM_CHECKPOINT",
        "DREAM_CONSOLIDATION",
        "DREAM_EXPLORATION",
    ]


def test_every_exception_has_a_reason_of_its_own_and_stands_in_the_tree() -> None:
    found = list(kinds())
    reasons = [kind.reason for kind in found if kind is not errors.DreamFailed]
    assert len(set(reasons)) == len(reasons)
    tree = errors.__doc__ or ""
    assert [kind.__name__ for kind in found if kind.__name__ not in tree] == []


def test_many_mistakes_are_told_in_a_few_words() -> None:
    error = InvalidFields([Violation(f"edges[{i}].weight", "is 2; must be at most 1") for i in range(1000)])
    assert error.message.endswith("; and 995 more")
    assert len(error.violations) == 1000
