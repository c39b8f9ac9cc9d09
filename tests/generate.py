"""Generates the Python side of protos/ below a directory: `python tests/generate.py DIR`."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def generate(out: Path) -> None:
    """Writes modules, stubs and services for every proto into `out`/dreamsvc/...; raises CalledProcessError."""
    scripts = Path(sys.executable).parent
    files = sorted(str(path.relative_to(ROOT / "protos")) for path in (ROOT / "protos").rglob("*.proto"))
    services = [name for name in files if name.endswith("_service.proto")]
    base = [sys.executable, "-m", "grpc_tools.protoc", "-Iprotos"]
    plugins = [f"--plugin={name}={scripts / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    out.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [*base, *plugins, f"--python_out={out}", f"--mypy_out=quiet:{out}", *files],
        check=True,
        cwd=ROOT,
    )
    subprocess.run(
        [*base, *plugins, f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}", *services],
        check=True,
        cwd=ROOT,
    )
    for package in ("dreamsvc/v1", "dreamsvc/dreamer/v1"):
        (out / package / "__init__.py").write_text('"""Generated from protos/; run `make protos`."""\n')


if __name__ == "__main__":
    generate(Path(sys.argv[1]).resolve())
