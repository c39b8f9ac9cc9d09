"""The house: floors and monopolies. A file imports its own room and what lies below it; each exception has a reason."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SMALL = {
    "config",
    "config_environment",
    "config_sources",
    "reloading",
    "contract",
    "cores",
    "errors",
    "clock",
    "entropy",
    "gpu",
    "heap",
    "telemetry",
    "snapshot_files",
    "checkpoints",
    "json_messages",
    "facet_codes",
    "facet_blocks",
    "two_stage",
    "walk",
    "windows",
    "scoring",
    "tokens",
    "calling",
    "bearer_tokens",
}
BELOW_MEMORY = SMALL | {"v1", "evidence", "lexical"}
# What each room may import of ours besides itself.
MAY: dict[str, set[str]] = {
    "v1": set(),
    "dreamer.v1": {"v1"},
    "clock": {"v1"},
    "entropy": {"v1"},
    "gpu": {"clock"},
    "cores": set(),
    "heap": set(),
    "telemetry": {"v1", "calling", "clock", "entropy", "errors"},
    "snapshot_files": {"v1"},
    "checkpoints": {"v1"},
    "json_messages": set(),
    "facet_codes": set(),
    "facet_blocks": {"facet_codes", "two_stage"},
    "two_stage": {"facet_codes"},
    "walk": set(),
    "scoring": {"walk"},
    "tokens": set(),
    "calling": set(),
    "bearer_tokens": {"v1", "contract", "errors", "entropy", "clock", "json_messages"},
    "errors": {"v1"},
    "evidence": set(),
    "lexical": set(),
    "contract": {"v1", "errors"},
    "windows": {"v1", "errors", "clock"},
    "config": {"v1", "errors", "contract", "json_messages", "windows"},
    "config_environment": {"v1", "errors", "contract", "config"},
    "config_sources": {"v1", "errors", "contract", "config", "config_environment"},
    "reloading": {"v1", "errors", "contract", "config", "config_sources", "clock"},
    "memory": BELOW_MEMORY | {"dreamsvc"},
    "dream": BELOW_MEMORY | {"memory", "dreamsvc"},
    "server": BELOW_MEMORY | {"memory", "dream", "dreamsvc"},
    "app": BELOW_MEMORY | {"memory", "dream", "server"},
    "upkeep": BELOW_MEMORY | {"memory"},
    "cli": SMALL | {"v1", "app", "upkeep", "dreamsvc_client", "dreamsvc"},
    "__main__": {"cli", "dreamsvc"},
    "dreamer": SMALL | {"v1", "dreamer.v1", "kernels", "evidence", "lexical", "dreamsvc"},
    "kernels": set(),
    "dreamsvc": set(),
    "dreamsvc_client": {"v1"},
}
EXCEPTIONS = {
    ("memory", "dreamer.v1"): "the seam's messages lie in the store as they are, with no twin",
    ("checkpoints", "dreamer.v1"): "it says what a message of the seam must be",
    ("dream", "dreamer.v1"): "the near end of the seam speaks its messages",
    ("cli", "dreamer"): "`dreamsvc dreamer` is how the other process is started",
}
# Modules with one importer, by files below the root.
ALONE = {
    "time": {"dreamsvc/clock.py"},
    "datetime": {"dreamsvc/clock.py"},
    "zoneinfo": {"dreamsvc/clock.py"},
    "uuid": {"dreamsvc/entropy.py"},
    "secrets": {"dreamsvc/entropy.py"},
    "random": {"dreamsvc/entropy.py"},
    "tomllib": {"dreamsvc/config.py"},
    "apsw": {"dreamsvc/memory/sqlite.py"},
    "sqlite3": set[str](),
    "pynvml": {"dreamsvc/gpu.py"},
    "psutil": {"dreamsvc/dream/meters.py"},
    "jax": {"dreamsvc/dreamer", "kernels"},
    "optax": {"kernels"},
    "httpx": {"dreamsvc/memory/embedding_endpoint.py"},
    "wordllama": {"dreamsvc/memory/wordllama.py"},
    "tokenizers": {"dreamsvc/memory/model_files.py"},
    "safetensors": {"dreamsvc/memory/model_files.py"},
    "rich": {"dreamsvc/cli"},
    "jwt": {"dreamsvc/server/issuer_tokens.py"},
    "mcp": {"dreamsvc/cli/mcp_server.py"},
    "matplotlib": {"dreamsvc/cli"},
    "prometheus_client": {"dreamsvc/telemetry/exposition.py"},
    "opentelemetry": {"dreamsvc/telemetry/otlp.py"},
}


def files() -> Iterator[Path]:
    for folder in ("dreamsvc", "kernels", "clients/python/dreamsvc_client"):
        yield from (ROOT / folder).rglob("*.py")


def room(module: str) -> str:
    """E.g. memory for dreamsvc.memory.store, kernels for kernels.src, errors for dreamsvc.errors."""
    parts = module.split(".")
    if parts[0] != "dreamsvc":
        return parts[0]
    return "dreamer.v1" if parts[1:3] == ["dreamer", "v1"] else ([*parts, "dreamsvc"])[1]


def imported(path: Path) -> set[str]:
    """Full names of all that a file imports, also inside functions, where a name may be a module or in one."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_every_file_imports_its_own_room_and_what_lies_below() -> None:
    wrong: list[str] = []
    used: set[tuple[str, str]] = set()
    for path in files():
        here = room(".".join(path.relative_to(ROOT).with_suffix("").parts).removeprefix("clients.python."))
        for name in imported(path):
            there = room(name)
            if name.split(".")[0] not in ("dreamsvc", "kernels", "dreamsvc_client") or there in {here} | MAY[here]:
                continue
            if name.startswith("dreamsvc.__"):
                there = "dreamsvc"  # its version
            if (here, there) in EXCEPTIONS:
                used.add((here, there))
            elif there not in MAY[here]:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong
    assert used == EXCEPTIONS.keys(), "an exception that nobody needs"


def test_what_has_one_importer_has_no_other() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files()
        for name in imported(path)
        if (allowed := ALONE.get(name.split(".")[0])) is not None
        and not str(path.relative_to(ROOT)).startswith(("clients/", *allowed))
    ]
    assert not wrong


def test_nothing_is_called_by_a_name_that_says_nothing() -> None:
    names = {path.stem for path in files()}
    assert not names & {"utils", "util", "helpers", "common", "misc"}
    classes = {
        node.name
        for path in files()
        if "v1" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }
    assert not {name for name in classes if name.endswith(("Manager", "Handler", "Processor"))}


def test_the_process_that_serves_imports_nothing_that_only_dreams_or_only_shows() -> None:
    code = "import sys, dreamsvc.app; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"jax", "jaxlib", "optax", "scipy", "rich", "matplotlib", "wordllama", "tokenizers", "safetensors"}
    heavy |= {"httpx", "kernels", "prometheus_client", "opentelemetry"}
    assert not heavy & set(loaded)
