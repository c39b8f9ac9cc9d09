"""A running service lets go of old records of dreams by itself."""

from pathlib import Path

import pytest

from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import ListDreamsRequest
from dreamsvc.v1.memory_pb2 import Memory
from dreamsvc.v1.memory_service_pb2 import RememberRequest
from tests.integration.served import CONVERGE, InThread, until

pytestmark = pytest.mark.integration


def listed(service: InThread, space: str) -> list[Dream]:
    return list(service.calls.call(service.calls.dreams.ListDreams, ListDreamsRequest(space=space)).dreams)


def test_old_records_go_and_what_can_be_taken_back_stays(tmp_path: Path) -> None:
    store = tmp_path / "memory.db"
    with InThread(store, CONVERGE) as service:
        service.calls.remember("applied")
        # What is not important is not replayed.
        service.calls.remember("empty", RememberRequest(memories=[Memory(key="k", text="k", importance=0.1)]))
        for space, state in (("applied", Dream.STATE_SUCCEEDED), ("empty", Dream.STATE_SKIPPED)):
            for _ in range(3):
                assert service.calls.ended(space, service.calls.trigger(space).dream.id).state == state
    with InThread(store, CONVERGE, {"dream": {"history": {"max_entries": 1}}}) as service:
        until(lambda: len(listed(service, "empty")) == 1)
        assert len(listed(service, "applied")) == 3
