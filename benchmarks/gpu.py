"""The kernels on a GPU: speed against numpy and against memory bandwidth, sameness of the dream, waking, memory.

    python benchmarks/gpu.py [--out FILE] [--nodes 100000,1000000] [--cpu]

Needs this repository, JAX, optax and numpy, nothing else. Without a GPU it says so and measures nothing; `--cpu` runs
the same on the CPU, to try the script out, and writes only where `--out` says.
"""

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# So that the memory in use is the memory needed; read by JAX when it is imported.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

try:
    import jax
    import jax.numpy as jnp
    import numpy as np

    from kernels.activation import activate, at_rest, dequantise, quantise
    from kernels.arrays import Graph, SrcState
    from kernels.hebbian import hebbian_begin, hebbian_update, touched_by
    from kernels.padding import capacity, pad_column, pad_graph
    from kernels.sampling import sample_replay
    from kernels.src import src_chunk
except ModuleNotFoundError as missing:
    sys.exit(f"{missing.name} is not installed here, and the kernels need it: python -m pip install {missing.name}")

EDGES_A_NODE = 8
SRC = {"sparsity": 0.1, "randomness": 0.5, "clustering": 0.7, "decay_rate": 0.9, "amplitude": 1.0, "floor": 0.01}
HEBB = {"learning_rate": 0.01, "decay_rate": 0.001, "floor": 0.05, "cap": 1.0}
REPLAY, BATCH = 1000, 32
CHUNK_S = 0.005
STEPS = 32


class World(NamedTuple):
    """A graph without structure, as numpy has it and as the kernels have it."""

    n: int
    e: int
    src: np.ndarray
    dst: np.ndarray
    importance: np.ndarray
    weight: np.ndarray
    age_h: np.ndarray
    graph: Graph
    slots: int


def world(n: int) -> World:
    rng = np.random.default_rng(n)
    e = n * EDGES_A_NODE
    src = np.sort(rng.integers(0, n, e)).astype(np.int32)
    dst = rng.integers(0, n, e).astype(np.int32)
    importance = rng.random(n, dtype=np.float32)
    weight = rng.uniform(0.04, 1.0, e).astype(np.float32)
    graph = pad_graph(src, dst, importance, np.ones(n, bool), np.ones(e, bool), nodes=capacity(n), edges=capacity(e))
    slots = capacity(round(n * SRC["sparsity"]))
    return World(n, e, src, dst, importance, weight, rng.random(n, dtype=np.float32) * 24, graph, slots)


def seconds_a_call(call: Callable[[], Any], at_least_s: float) -> float:
    """Calls made one after the other and awaited together, as a dream makes them; the fastest of three rounds."""
    jax.block_until_ready(call())
    began = time.perf_counter()
    jax.block_until_ready(call())
    calls = max(1, min(200, int(at_least_s / max(time.perf_counter() - began, 1e-6))))
    rounds: list[float] = []
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(calls - 1):
            call()
        jax.block_until_ready(call())
        rounds.append((time.perf_counter() - began) / calls)
    return min(rounds)


def bandwidth(cpu: bool) -> float:
    """Bytes a second of a copy, counting those read and those written."""
    x = jnp.zeros(2**24 if cpu else 2**28, jnp.float32)
    copy = jax.jit(jnp.negative)
    return 2 * x.nbytes / seconds_a_call(lambda: copy(x), 0.2)


def with_kernels(w: World) -> dict[str, Callable[[], Any]]:
    nodes, key = w.graph.importance.shape[0], jax.random.key(1)
    weight = jnp.asarray(pad_column(w.weight, 0.0, size=w.graph.edge_alive.shape[0]))
    age_h = jnp.asarray(pad_column(w.age_h, 0.0, size=nodes))
    rows = jnp.arange(BATCH, dtype=jnp.int32)
    touched = touched_by(w.graph, jnp.arange(REPLAY, dtype=jnp.int32))
    src = src_chunk(key, at_rest(nodes), w.graph, weight, STEPS, slots=w.slots, **SRC)[0]
    # A copy, because `src` gives its own away and a kernel that reads it must not be timed on what is gone.
    activation = src.activation.copy()
    level = quantise(activation)
    state = {"src": src, "hebb": hebbian_begin(weight, w.graph, learning_rate=HEBB["learning_rate"])}

    def steps() -> SrcState:
        state["src"], _ = src_chunk(key, state["src"], w.graph, weight, STEPS, slots=w.slots, **SRC)
        return state["src"]

    def learn() -> Any:
        state["hebb"], info = hebbian_update(state["hebb"], w.graph, activation, touched, **HEBB)
        return info

    def wake() -> SrcState:
        state["src"] = activate(state["src"], rows, level=1.0)
        return state["src"]

    return {
        "src_step": steps,
        "hebbian_update": learn,
        "touched_by": lambda: touched_by(w.graph, rows),
        "sample_replay": lambda: sample_replay(
            key, w.graph.importance, age_h, w.graph.alive, recency_bias=0.8, k=REPLAY
        ),
        "activate": wake,
        "quantise": lambda: quantise(activation),
        "dequantise": lambda: dequantise(level),
    }


def with_numpy(w: World) -> dict[str, Callable[[], Any]]:
    """The same work as one would write it in numpy, on arrays without padding."""
    rng = np.random.default_rng(1)
    indptr, neighbour, via = (np.asarray(x) for x in (w.graph.indptr, w.graph.neighbour, w.graph.via))
    activation, weight = np.zeros(w.n, np.float32), w.weight.copy()
    rows, k = np.arange(BATCH), round(w.n * SRC["sparsity"])
    replayed = np.zeros(w.n, bool)
    replayed[:REPLAY] = True
    touched, alive = replayed[w.src] | replayed[w.dst], np.ones(w.e, bool)
    levels = rng.integers(0, 256, w.n).astype(np.uint8)

    def step() -> None:
        activation.__imul__(np.float32(SRC["decay_rate"]))
        tried = rng.integers(0, w.n, (k, 4))
        found = activation[tried] > SRC["floor"]
        origin = tried[np.arange(k), found.argmax(axis=1)]
        first = indptr[origin]
        degree = indptr[origin + 1] - first
        place = np.minimum(first + (rng.random(k) * degree).astype(np.int32), 2 * w.e - 1)
        followed = (rng.random(k) >= SRC["randomness"]) & found.any(axis=1)
        followed &= (rng.random(k) < SRC["clustering"]) & (degree > 0)
        row = np.where(followed, neighbour[place], rng.integers(0, w.n, k))
        level = np.where(followed, activation[origin] * weight[via[place]], w.importance[row])
        np.maximum.at(activation, row, level)
        activation[activation <= SRC["floor"]] = 0.0

    def learn() -> None:
        raw = weight * np.float32(1 - HEBB["decay_rate"])
        raw += np.float32(HEBB["learning_rate"]) * activation[w.src] * activation[w.dst]
        learning = touched & alive
        pruned = learning & (raw <= HEBB["floor"])
        alive[pruned] = False
        np.copyto(weight, np.clip(raw, HEBB["floor"], HEBB["cap"]), where=learning & ~pruned)

    def touch() -> np.ndarray:
        mark = np.zeros(w.n, bool)
        mark[rows] = True
        return mark[w.src] | mark[w.dst]

    def sample() -> np.ndarray:
        score = np.log(w.importance, where=w.importance > 0, out=np.full(w.n, -np.inf, np.float32))
        score += w.age_h / 24 * np.log(np.float32(0.8)) + rng.gumbel(size=w.n)
        return np.argpartition(score, -REPLAY)[-REPLAY:]

    def wake() -> None:
        activation[rows] = np.maximum(activation[rows], 1.0)

    return {
        "src_step": step,
        "hebbian_update": learn,
        "touched_by": touch,
        "sample_replay": sample,
        "activate": wake,
        "quantise": lambda: np.rint(np.clip(activation, 0, 1) * 255).astype(np.uint8),
        "dequantise": lambda: levels.astype(np.float32) * np.float32(1 / 255),
    }


def fewest_bytes(w: World) -> dict[str, float]:
    """What a kernel cannot avoid to read and write, each byte once, without padding."""
    k = w.n * SRC["sparsity"]
    return {
        # activation in and out; a place: four tries of (row, activation), two ends of a row, neighbour, edge, weight,
        # another row, importance, activation in and out
        "src_step": 8 * w.n + k * (4 * 8 + 8 + 4 + 4 + 4 + 4 + 4 + 8),
        # weight and edge_alive in and out, src, dst, touched; activation once
        "hebbian_update": w.e * (8 + 2 + 8 + 1) + 4 * w.n,
        "touched_by": w.e * (8 + 1 + 1) + w.n,
        "sample_replay": w.n * 9,
        "activate": BATCH * 12,
        "quantise": w.n * 5,
        "dequantise": w.n * 5,
    }


def speed(sizes: list[int], bytes_a_second: float) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = []
    for n in sizes:
        w = world(n)
        ours, plain, least = with_kernels(w), with_numpy(w), fewest_bytes(w)
        for name in ours:
            per_call = STEPS if name == "src_step" else 1
            ms = seconds_a_call(ours[name], 0.2) / per_call * 1e3
            numpy_ms = seconds_a_call(plain[name], 0.2) * 1e3
            floor_ms = least[name] / bytes_a_second * 1e3
            table.append({"kernel": name, "nodes": n, "ms": ms, "numpy_ms": numpy_ms, "floor_ms": floor_ms})
    return table


def journal(n: int, device: jax.Device, seed: int) -> dict[str, np.ndarray]:
    """A little dream on one device, and what it would have written down."""
    with jax.default_device(device):
        w = world(n)
        nodes, key = w.graph.importance.shape[0], jax.random.key(seed)
        weight = jnp.asarray(pad_column(w.weight, 0.0, size=w.graph.edge_alive.shape[0]))
        age_h = jnp.asarray(pad_column(w.age_h, 0.0, size=nodes))
        rows, _ = sample_replay(
            jax.random.fold_in(key, 2**31), w.graph.importance, age_h, w.graph.alive, recency_bias=0.8, k=BATCH * 16
        )
        src, hebb = at_rest(nodes), hebbian_begin(weight, w.graph, learning_rate=HEBB["learning_rate"])
        for batch in rows.reshape(-1, BATCH):
            src = activate(src, batch, level=1.0)
            graph = w.graph._replace(edge_alive=hebb.edge_alive)
            src, _ = src_chunk(key, src, graph, hebb.weight, 8, slots=w.slots, **SRC)
            src = src._replace(activation=dequantise(quantise(src.activation)))
            hebb, _ = hebbian_update(hebb, w.graph, src.activation, touched_by(w.graph, batch), **HEBB)
        return {
            "replayed": np.asarray(rows),
            "activation": np.asarray(src.activation),
            "weight": np.asarray(hebb.weight),
            "alive": np.asarray(hebb.edge_alive),
            "pruned": np.asarray(w.graph.edge_alive & ~hebb.edge_alive),
        }


def same_dream(n: int, device: jax.Device) -> dict[str, float]:
    here, there = journal(n, device, 7), journal(n, jax.devices("cpu")[0], 7)
    return {
        "journal_nodes": n,
        "journal_pruned": int(here["pruned"].sum()),
        "journal_replayed_differing": int((here["replayed"] != there["replayed"]).sum()),
        "journal_activations_differing": int((here["activation"] != there["activation"]).sum()),
        "journal_weights_differing": int((here["weight"] != there["weight"]).sum()),
        "journal_weights_furthest": float(np.abs(here["weight"] - there["weight"]).max()),
        "journal_prunes_differing": int((here["alive"] != there["alive"]).sum()),
    }


def abort_latencies(n: int, duty: float, trials: int) -> list[float]:
    """Milliseconds from setting the event to leaving the loop of 5 ms chunks, for each trial, sorted."""
    w = world(n)
    key = jax.random.key(0)
    weight = jnp.asarray(pad_column(w.weight, 0.0, size=w.graph.edge_alive.shape[0]))
    stop, left = threading.Event(), 0.0

    def loop() -> None:
        nonlocal left
        state, steps = at_rest(w.graph.importance.shape[0]), 1
        while not stop.is_set():
            began = time.perf_counter()
            state, info = src_chunk(key, state, w.graph, weight, steps, slots=w.slots, **SRC)
            jax.block_until_ready(info)
            took = time.perf_counter() - began
            steps = max(1, min(2 * steps, int(steps * CHUNK_S / took)))
            if duty < 1:
                stop.wait(took * (1 / duty - 1))
        left = time.perf_counter()

    rng = np.random.default_rng(0)
    latencies: list[float] = []
    for trial in range(trials + 1):
        stop.clear()
        dreaming = threading.Thread(target=loop)
        dreaming.start()
        time.sleep(rng.uniform(0.05, 0.1) if trial else 1.0)
        asked = time.perf_counter()
        stop.set()
        dreaming.join()
        if trial:  # the first one may have waited for a compilation
            latencies.append((left - asked) * 1e3)
    return sorted(latencies)


def waking(n: int, trials: int) -> dict[str, float]:
    figures: dict[str, float] = {}
    for label, duty in (("busy", 1.0), ("quarter", 0.25)):
        latencies = abort_latencies(n, duty, trials)
        for q in (50, 95, 99):
            figures[f"abort_{label}_p{q}_ms"] = float(np.percentile(latencies, q))
    return figures


HOLD_2_GIB = """
import sys, jax.numpy as jnp
held = (jnp.zeros(2**29, jnp.float32) + 1).block_until_ready()
print("held", flush=True)
sys.stdin.readline()
"""


def memory_given_back(cpu: bool) -> dict[str, float] | str:
    """Device memory in use before, during and after a process that holds 2 GiB, or why it is not known."""
    if cpu:
        return "UNKNOWN: no device memory on a CPU"
    try:
        nvml: Any = importlib.import_module("pynvml")
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByIndex(0)

        def used_mib() -> float:
            return nvml.nvmlDeviceGetMemoryInfo(handle).used / 2**20

        before = used_mib()
    except Exception as error:  # nvml raises its own kinds, which exist only where it does
        return f"UNKNOWN: {type(error).__name__}: {error}"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_2_GIB], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    if holder.stdout.readline().strip() != "held":
        return f"UNKNOWN: the process that was to hold memory ended with {holder.wait()}"
    during = used_mib()
    holder.communicate("\n")
    ended = time.perf_counter()
    while (after := used_mib()) > before + 1 and time.perf_counter() < ended + 5:
        time.sleep(0.01)
    return {
        "memory_before_mib": before,
        "memory_during_mib": during,
        "memory_after_mib": after,
        "memory_back_after_ms": (time.perf_counter() - ended) * 1e3,
    }


def commit() -> str:
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def size_name(n: int) -> str:
    return f"{n // 1_000_000}m" if n % 1_000_000 == 0 else f"{n // 1000}k" if n % 1000 == 0 else str(n)


def show(table: list[dict[str, Any]], figures: dict[str, float], memory: dict[str, float] | str) -> None:
    print(f"copy: {figures['copy_gb_per_s']:.0f} GB/s\n")
    print(f"{'kernel':<16}{'nodes':>10}{'ms':>11}{'numpy ms':>11}{'x numpy':>9}{'floor ms':>11}{'x floor':>9}")
    for row in table:
        faster, above = row["numpy_ms"] / row["ms"], row["ms"] / row["floor_ms"]
        times = f"{row['ms']:>11.4f}{row['numpy_ms']:>11.4f}{faster:>9.1f}{row['floor_ms']:>11.5f}{above:>9.1f}"
        print(f"{row['kernel']:<16}{row['nodes']:>10}{times}")
    print()
    for name, value in figures.items():
        if name.startswith(("journal", "abort", "memory")):
            print(f"{name:<32}{value:>14.6g}")
    if isinstance(memory, str):
        print(f"memory given back: {memory}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON file; benchmarks/results/gpu.json if not given")
    parser.add_argument("--nodes", default="100000,1000000", help="sizes of the graphs, 8 edges a node")
    parser.add_argument("--cpu", action="store_true", help="run on the CPU, to try the script out")
    arguments = parser.parse_args()
    sizes = [int(n) for n in arguments.nodes.split(",")]
    try:
        device = jax.devices("cpu" if arguments.cpu else "gpu")[0]
    except RuntimeError:
        print("No GPU that JAX can use here: nothing measured, nothing written. --cpu tries the script out on the CPU.")
        return
    out = arguments.out or (None if arguments.cpu else ROOT / "benchmarks" / "results" / "gpu.json")

    jax.config.update("jax_default_device", device)
    print(f"{device.device_kind}, JAX {jax.__version__}, graphs of {arguments.nodes} nodes", flush=True)
    memory = memory_given_back(arguments.cpu)
    bytes_a_second = bandwidth(arguments.cpu)
    table = speed(sizes, bytes_a_second)
    figures: dict[str, float] = {"copy_gb_per_s": bytes_a_second / 1e9}
    for row in table:
        figures |= {f"{row['kernel']}_{size_name(row['nodes'])}_{x}": row[x] for x in ("ms", "numpy_ms", "floor_ms")}
    figures |= same_dream(sizes[0], device)
    figures |= waking(sizes[-1], 100)
    if not isinstance(memory, str):
        figures |= memory
    show(table, figures, memory)
    if out is None:
        return
    result = {
        "name": "gpu",
        "commit": commit(),
        "machine": {
            "device": device.device_kind,
            "platform": device.platform,
            "host": platform.platform(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "jax": jax.__version__,
            "numpy": np.__version__,
        },
        "command": " ".join(["python", *sys.argv]),
        "figures": figures,
        "detail": {"kernels": table, "memory": memory, "edges_a_node": EDGES_A_NODE, "src": SRC, "hebbian": HEBB},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\nwritten to {out}")


if __name__ == "__main__":
    main()
