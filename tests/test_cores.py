"""Cores that a process may have."""

from pathlib import Path

import pytest

from dreamsvc import cores


def test_a_container_has_the_cores_of_its_quota(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(cores, "QUOTA", quota)
    there = cores.core_count()
    assert there >= 1
    quota.write_text("max 100000\n")
    assert cores.core_count() == there
    quota.write_text("50000 100000\n")
    assert cores.core_count() == 0.5
    quota.write_text("torn")
    assert cores.core_count() == there
