import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from dreamsvc import config
from dreamsvc.app import App
from tests.integration.served import CONVERGE, Calls, InThread, a_memory
from tests.integration.villages import villages

_numbers = count()


@pytest.fixture(scope="session")
def filling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InThread]:
    """One service for many tests; its dreams go on until their budget is used, or somebody wakes them."""
    with InThread(tmp_path_factory.mktemp("filling") / "memory.db") as service:
        yield service


@pytest.fixture(scope="session")
def converging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InThread]:
    """One service for many tests; its dreams end when everything was replayed once."""
    with InThread(tmp_path_factory.mktemp("converging") / "memory.db", CONVERGE) as service:
        yield service


@pytest.fixture
def calls(filling: InThread) -> Calls:
    return filling.calls


@pytest.fixture
def space(filling: InThread) -> Iterator[str]:
    """A space of its own for a test, with a memory in it; it is awake at the end."""
    name = f"space-{next(_numbers)}"
    filling.calls.remember(name)
    yield name
    filling.calls.abort(name, discard=True)


@pytest.fixture
def quick_space(converging: InThread) -> str:
    name = f"space-{next(_numbers)}"
    converging.calls.remember(name)
    return name


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed store with a memory in the default space."""
    path = tmp_path_factory.mktemp("template") / "memory.db"
    app = App(config.parse({"store": {"path": str(path)}, "embedder": {"kind": "none"}}))
    request = a_memory()
    request.space = "default"
    app.store.remember(request).result()
    app.close()
    return path


@pytest.fixture
def equal_store(template: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Makes stores that are equal to each other, byte for byte."""

    def make(name: str) -> Path:
        return Path(shutil.copy(template, tmp_path / f"{name}.db"))

    return make


@pytest.fixture(scope="module")
def dreaming() -> Iterator[InThread]:
    with InThread(":memory:", CONVERGE, {"dream": {"resources": {"max_gpu_usage": 1.0}}}) as service:
        yield service


@pytest.fixture
def explored(dreaming: InThread, request: pytest.FixtureRequest) -> str:
    """A space of villages; its name."""
    name = request.node.name.replace("[", "-").replace("]", "")[:100]
    dreaming.calls.remember(name, villages())
    return name
