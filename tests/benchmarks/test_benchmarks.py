"""Every benchmark runs, on a small input, and gives the figures that it declares."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import harness
from benchmarks.made_memory import MadeMemory
from benchmarks.serving import Server, ServerFailed
from tests.benchmarks.small_sets import write_small_sets

SETS = ("hotpotqa", "2wiki", "locomo_dev")
ASKED_FOR = {
    "wake": {
        "abort_p50_ms",
        "abort_p95_ms",
        "abort_p99_ms",
        "recall_wake_p95_ms",
        "recall_idle_p95_ms",
        "recall_dreaming_p95_ms",
        "recall_p95_ratio",
    },
    "wakes": {"wakes", "p50_ms", "p95_ms", "p99_ms", "max_ms", "digest_mismatches"},
    "soak": {"minutes", "calls", "errors", "server_mb_per_hour", "dreamer_mb_per_hour", "handles_per_hour"},
    "load": {"unary_ratio_to_floor_64", "ok_pct_1000", "watchers", "events_missed", "kb_per_watcher"},
    "security": {"cases", "wrong"},
    "budget": {"share_mean_pct", "share_p95_1s_pct", "share_max_1s_pct", "limit_pct"},
    "serve": {"status_ratio_to_floor"},
    "start": {"p95_ms", "rss_mb", "p95_ms_all", "rss_mb_all"},
    "scale": {"night_s_100k", "night_s_1m", "dreamer_mb_1m", "abort_p95_ms_1m", "night_ratio"},
    "huge": {"nodes", "prepared_s", "night_s", "replayed", "dreamer_mb", "stop_max_ms"},
    "restarts": {"restarts", "missing", "p95_ms", "rss_growth_mb"},
    "import": {"items_per_s"},
    "retention": {
        f"{figure}_{name}{told}"
        for name in ("locomo_dev", "hotpotqa")
        for told in ("", "_x3")
        for figure in (
            *(f"{what}_{ratio}" for what in ("loss_pct", "loss_pct_dense", "bytes_ratio") for ratio in (2, 5, 10)),
            *("loss_vs_dedup_pct_10", "query_cost_ratio_10", "loss_pct_10_2bit", "bytes_ratio_10_2bit"),
            *("loss_pct_minilm_10", "loss_pct_dense_minilm_10"),
        )
    },
    "planted": {"duplicate_recall_pct", "false_merges_traps", "false_merges_other", "current_fact_first_pct"},
    "probe": {"pearson", "mae_pct", "false_accept_pct", "false_reject_pct"},
    "compress": {
        *(f"ratio_{way}" for way in ("near_duplicates_numpy", "near_duplicates_faiss")),
        *("longest_step_ms", "peak_mb", "ratio_clusters_networkx", "ratio_paths_networkx"),
    },
    "recall": {
        *(
            f"{figure}_{name}"
            for figure in ("r5_fair", "r5_before", "r5_after", "lift_pct", "worse_pct")
            for name in SETS
        ),
        *("lift_pct_macro", "lift_ci_low_macro", "worse_pct_macro", "shuffled_pct_macro"),
    },
    "blindspots": {
        f"{figure}_{name}" for figure in ("precision50_pct", "precisionM_pct", "finds_per_cycle") for name in SETS
    },
    "ablation": {
        f"{figure}_{way}_hotpotqa" for figure in ("r5_pct", "text_pct", "nodes_ratio") for way in ("nothing", "all")
    },
    "crashpoints": {"points", "covered_pct", "wrong"},
    "crash": {"kills", "acked_writes", "acked_lost", "torn", "server_kills", "dreamer_kills", "digest_mismatches"},
    "simulation": {"seeds", "wrong"},
    "bitflips": {"flips", "silent", "unclear"},
    "faults": {"injected", "silent", "unclear", "stopped"},
    "fuzz": {"cases", "crashes"},
    "powerloss": {"states", "wrong"},
    "kernel": {
        "walks_s",
        "fit_s",
        "fit_map_pct",
        "ratio_walks_geoopt",
        "ratio_fit_gensim",
        "place_s",
        "longest_step_ms",
    },
}
# What may be less than nothing: what is lost, and what is gained.
SIGNED = ("loss_", "lift_", "shuffled_", "nearest_", "server_mb", "dreamer_mb", "handles_", "rss_growth", "kb_per_")


def declared(name: str) -> harness.Benchmark:
    module = command.import_module(f"benchmarks.{command.ENTRIES[name].module}")
    return module.BENCHMARK


@pytest.mark.integration
# The one of wakes waits for every part of several nights.
@pytest.mark.timeout(420)
@pytest.mark.parametrize("name", command.ENTRIES)
def test_a_benchmark_writes_the_figures_it_declares(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is measured here, so dreamers need not be held; each of them would take its time to start.
    monkeypatch.setenv("DREAMSVC_DREAM__RESOURCES__MAX_GPU_USAGE", "0.9")
    out = tmp_path / "made" / f"{name}.json"
    arguments = [name, "--quick", "--out", str(out)]
    if isinstance(declared(name).run, harness.OnData):
        write_small_sets(tmp_path, *SETS)
        arguments += ["--data", str(tmp_path)]
    assert command.main(arguments) == 0, capsys.readouterr().out
    made: dict[str, Any] = json.loads(out.read_text())
    assert list(made) == ["name", "commit", "machine", "command", "figures", "detail"]
    assert made["name"] == name
    lacking = set(declared(name).figures) - made["figures"].keys()
    assert lacking <= set(declared(name).optional)
    assert list(made["figures"]) == [key for key in declared(name).figures if key not in lacking]
    assert all(math.isfinite(value) for value in made["figures"].values())
    assert all(value >= 0 for key, value in made["figures"].items() if not key.startswith(SIGNED))
    if name == "recall":
        assert made["detail"]["wordllama"]["2wiki"]["after"]["edges"] > 0, "nothing was dreamt"
    shown = capsys.readouterr().out
    assert all(key in shown for key in made["figures"])
    assert str(tmp_path) not in json.dumps(made)


@pytest.mark.parametrize("name", command.ENTRIES)
def test_the_figures_that_were_asked_for_are_declared(name: str) -> None:
    assert ASKED_FOR.keys() == command.ENTRIES.keys()
    assert ASKED_FOR[name] <= set(declared(name).figures)


@pytest.mark.parametrize("name", command.ENTRIES)
def test_what_a_run_may_lack_is_declared(name: str) -> None:
    assert set(declared(name).optional) <= set(declared(name).figures)


@pytest.mark.parametrize("name", command.ENTRIES)
def test_every_target_is_of_a_declared_figure(name: str) -> None:
    assert set(declared(name).targets) <= set(declared(name).figures)


def test_without_a_name_the_benchmarks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, entry in command.ENTRIES.items():
        assert any(line.startswith(name) and entry.summary in line for line in lines)


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["snores"])
    assert ended.value.code == 2
    assert "there is no benchmark snores" in capsys.readouterr().err


def test_a_missed_target_is_told_as_missed() -> None:
    targets = (harness.Target(100), harness.Target(25, must=False))
    assert harness.verdict(24.0, targets) == "<= 100 met, <= 25 (aim) met"
    assert harness.verdict(26.0, targets) == "<= 100 met, <= 25 (aim) missed"
    assert harness.verdict(101.0, targets) == "<= 100 missed, <= 25 (aim) missed"


def test_a_target_may_be_the_least_that_a_figure_may_be() -> None:
    targets = (harness.Target(least=95), harness.Target(100, least=99, must=False))
    assert harness.verdict(96.0, targets) == ">= 95 met, <= 100, >= 99 (aim) missed"
    assert harness.verdict(94.9, targets) == ">= 95 missed, <= 100, >= 99 (aim) missed"
    assert harness.verdict(99.0, targets) == ">= 95 met, <= 100, >= 99 (aim) met"


@pytest.mark.parametrize("arguments", [[], ["--data", "nowhere"]])
def test_a_benchmark_without_its_data_is_skipped(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["retention", *arguments]) == command.SKIPPED == 77
    shown = capsys.readouterr().out
    assert "retention is skipped: " in shown
    assert ("locomo_dev.corpus.jsonl.gz" if arguments else "--data DIR") in shown.replace("\n", "")


def test_a_server_that_does_not_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match="no module named"):
        Server(["-c", "import sys; sys.exit('no module named so')"], tmp_path / "log")


def test_a_made_memory_is_equal_for_equal_sizes(tmp_path: Path) -> None:
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    lines: list[list[dict[str, Any]]] = []
    for file in files:
        MadeMemory(200, 1600, 16).write(file)
        lines.append([json.loads(line) for line in file.read_text().splitlines()])
    for line in (*lines[0], *lines[1]):
        line.pop("create_time", None)  # counted from now
    assert lines[0] == lines[1]
    assert len(lines[0]) == 1800


def test_no_made_edge_is_there_twice_or_ends_where_it_begins() -> None:
    made = MadeMemory(200, 1600, 0)
    assert len(made.sources) == 1600
    assert not np.any(made.sources == made.targets)
    assert len(set(zip(made.sources.tolist(), made.targets.tolist(), strict=True))) == 1600


def test_an_mcp_file_has_an_entity_a_node_and_all_observations(tmp_path: Path) -> None:
    MadeMemory(10, 5, 0).write_mcp(tmp_path / "mcp.jsonl", observations=13)
    lines = [json.loads(line) for line in (tmp_path / "mcp.jsonl").read_text().splitlines()]
    entities = [line for line in lines if line["type"] == "entity"]
    assert (len(entities), len(lines)) == (10, 15)
    assert sum(len(entity["observations"]) for entity in entities) == 13
