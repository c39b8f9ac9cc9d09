"""The audit of what we depend on: found, not found, nobody to ask."""

from typing import Any

from tests.audit import verdict

GOOD: dict[str, Any] = {"name": "numpy", "version": "2.1", "vulns": []}
SKIPPED: dict[str, Any] = {"name": "jax", "skip_reason": "Dependency not found on PyPI"}
BAD: dict[str, Any] = {"name": "x", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}, {"id": "Y"}]}


def test_a_known_vulnerability_fails_with_its_name_and_where_it_is_mended() -> None:
    code, lines = verdict({"dependencies": [GOOD, BAD]})
    assert code == 1
    assert lines == [
        "audit: x 1 has PYSEC-1, mended in 2",
        "audit: x 1 has Y, not mended yet",
        "audit: 2 packages, 2 known vulnerabilities",
    ]


def test_none_is_told_with_how_many_were_looked_up() -> None:
    assert verdict({"dependencies": [GOOD, SKIPPED]}) == (
        0,
        ["audit: 1 packages, 0 known vulnerabilities; 1 could not be looked up"],
    )


def test_where_nobody_can_be_asked_it_says_so_and_goes_on() -> None:
    for found in (None, {"dependencies": []}, {"dependencies": [SKIPPED]}):
        code, lines = verdict(found)
        assert code == 0
        assert "cannot be reached" in lines[0]
