"""What `kernel` makes and counts, on a small memory, and what it does where the other ways are not there."""

import subprocess
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from benchmarks import geometry, geometry_others
from dreamsvc import config as configuration
from dreamsvc.dreamer import positions
from dreamsvc.dreamer.exploring import Explored
from dreamsvc.dreamer.merging import Edges, Step, joined

REM = configuration.defaults().dream.rem


def test_a_taxonomy_is_a_tree_with_a_pair_for_all_that_is_above_a_node() -> None:
    made = geometry.taxonomy(200)
    again = geometry.taxonomy(200)
    assert np.array_equal(made.pairs, again.pairs)
    above: dict[int, list[int]] = {row: [] for row in range(200)}
    for below, higher in made.pairs.tolist():
        above[below].append(higher)
    assert above[0] == []
    for row in range(1, 200):
        # What is above it is the next one and all above that one, up to the root.
        assert above[row] == [above[row][0], *above[above[row][0]]]
        assert above[row][-1] == 0


def test_communities_are_linked_within_but_for_a_few_links_and_lie_together() -> None:
    memories, src, dst = geometry.communities(2_000)
    assert (len(memories.node_ids), len(src)) == (2_000, 4_000)
    near = np.abs(src - dst) < 2 * geometry.COMMUNITY_NODES
    assert 0.85 < near.mean() < 0.97
    cosine = np.einsum("ed,ed->e", memories.vectors[src], memories.vectors[dst])
    assert cosine[near].mean() > cosine[~near].mean() + 0.3
    assert memories.importance.std() > 0.2


def test_a_search_is_timed_step_by_step() -> None:
    def search() -> Any:
        yield Step("a", 0, 2)
        yield Step("b", 1, 2)
        return 7

    run = geometry.timed(search())
    assert run.found == 7
    assert run.seconds > 0
    assert 0 <= run.longest_ms <= 1000 * run.seconds


def test_of_several_runs_the_quickest_counts_and_the_longest_step_of_all() -> None:
    runs = [geometry.Timed(1, 2.0, 9.0), geometry.Timed(2, 1.0, 4.0)]
    assert geometry.quickest(runs) == geometry.Timed(2, 1.0, 9.0)


def test_a_fit_is_far_better_than_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(positions, "MOST_ROUNDS", 60)
    missing: dict[str, str] = {}
    figures = geometry._fits(geometry.taxonomy(60), REM, True, missing)
    assert figures["fit_map_pct"] > 3 * figures["fit_chance_pct"] > 0
    assert missing == {"gensim": geometry.QUICK}


def test_points_that_are_all_one_are_worth_little() -> None:
    pairs = geometry.timed(joined([Edges(np.array([0]), np.array([1]), np.ones(1, np.float32))], 50)).found
    points = np.zeros((50, 3), np.float32)
    assert geometry.judged(points, pairs) == pytest.approx(1 / 49)
    points[:2] = 0.5
    assert geometry.judged(points, pairs) == 1


def test_what_cannot_be_fetched_is_not_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(geometry, "VENV", tmp_path / "venv")

    def refuse(command: list[str], **_: Any) -> Any:
        raise subprocess.CalledProcessError(1, command, stderr="no network")

    monkeypatch.setattr(subprocess, "run", refuse)
    missing: dict[str, str] = {}
    figures = geometry._fits(geometry.taxonomy(30), REM, False, missing)
    assert missing == {"gensim": "gensim could not be fetched: no network"}
    assert not any("gensim" in figure for figure in figures)


def test_the_share_of_near_memories_that_both_name(monkeypatch: pytest.MonkeyPatch) -> None:
    nearest = np.arange(16, dtype=np.int32).reshape(2, 8)
    theirs = nearest[:, ::-1].copy()
    theirs[1, 0] = 99
    given: dict[str, Any] = {}

    def other_way(task: str, arrays: dict[str, Any]) -> Any:
        given.update(arrays)
        return 3.0, {"rows": theirs}

    monkeypatch.setattr(geometry, "other_way", other_way)
    paths = np.zeros((2, REM.walk_length + 1, 5), np.float32)
    ours = Explored(np.array([4, 5], np.int32), paths, np.zeros((2, 4), np.float32), nearest)
    assert geometry.geoopt_walks(np.zeros((20, 5), np.float32), ours, REM) == (3.0, 15 / 16)
    assert given["step"] == REM.step_size
    assert given["origins"].shape == (2, 5)


def test_the_other_way_is_asked_by_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry_others, "fit", lambda given: (1.5, {"points": given["pairs"] * 2}))
    read, written = tmp_path / "a.npz", tmp_path / "b.npz"
    np.savez(read, allow_pickle=False, pairs=np.arange(4))
    geometry_others.main("fit", str(read), str(written))
    with np.load(written) as made:
        assert made["points"].tolist() == [0, 2, 4, 6]


def test_all_figures_are_declared_and_those_of_others_are_optional() -> None:
    assert set(geometry.BENCHMARK.optional) <= set(geometry.BENCHMARK.figures)
    assert all("geoopt" in name or "gensim" in name for name in geometry.BENCHMARK.optional)
    console = Console(file=StringIO(), width=200)
    found = {"walks_s": 1.0, "walks_geoopt_s": 3.0, "ratio_walks_geoopt": 3.0}
    console.print(geometry._table(found))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "geoopt" in shown
    assert "gensim" not in shown
