"""Looks the locked packages up among known vulnerabilities: `python tests/audit.py [FILE]`.

Ends with 1 where one of them has any, and with 0 where none has, or where nobody can be asked; it says which.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LONGEST_S = 300


def asked(file: Path) -> dict[str, Any] | None:
    """What pip-audit found; None where it could not ask."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(file), "--no-deps", "--disable-pip"]
    try:
        done = subprocess.run(
            [*command, "--format", "json", "--progress-spinner", "off"],
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
        return json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        return None


def verdict(found: dict[str, Any] | None) -> tuple[int, list[str]]:
    """The exit code, and what to print."""
    packages = [] if found is None else found["dependencies"]
    known = [package for package in packages if "vulns" in package]
    if not known:
        return 0, ["audit: the advisories cannot be reached, so nothing was looked up"]
    lines = [
        f"audit: {package['name']} {package['version']} has {vulnerability['id']}, {_mended(vulnerability)}"
        for package in known
        for vulnerability in package["vulns"]
    ]
    skipped = len(packages) - len(known)
    rest = f"; {skipped} could not be looked up" if skipped else ""
    return int(bool(lines)), [*lines, f"audit: {len(known)} packages, {len(lines)} known vulnerabilities{rest}"]


def _mended(vulnerability: dict[str, Any]) -> str:
    versions = vulnerability.get("fix_versions") or []
    return f"mended in {', '.join(versions)}" if versions else "not mended yet"


def main() -> int:
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "constraints.txt"
    code, lines = verdict(asked(file))
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
