"""What a dream may take of a machine without a GPU."""

from pathlib import Path

import pytest

from dreamsvc.dreamer import placement


def test_a_share_of_all_cores_is_as_many_times_that_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert placement.thread_share(0.3, 1) == pytest.approx(0.3)
    assert placement.thread_share(0.3, 2) == pytest.approx(0.6)
    assert placement.thread_share(0.3, 16) == 1.0


def test_a_container_has_the_cores_of_its_quota(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(placement, "QUOTA", quota)
    there = placement.core_count()
    assert there >= 1
    quota.write_text("max 100000\n")
    assert placement.core_count() == there
    quota.write_text("50000 100000\n")
    assert placement.core_count() == 0.5
    quota.write_text("torn")
    assert placement.core_count() == there
