"""Walks by geoopt and a fit by gensim, over arrays that `geometry` wrote; run by a Python that has these packages.

    python benchmarks/geometry_others.py walks|fit IN.npz OUT.npz

Imports nothing of this project. Tells its seconds as one line of JSON.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

ROUNDS = 2
# Walks whose distances to all points are computed together: what fits into memory.
AROUND = 10


def walks(given: Any) -> tuple[float, dict[str, np.ndarray]]:
    """As many walks as there are origins, all at once; then the nearest points of each end, and of `ends`."""
    torch: Any = import_module("torch")
    geoopt: Any = import_module("geoopt")
    ball = geoopt.PoincareBall(c=1.0)
    points, anchors, origins = (torch.from_numpy(given[name]) for name in ("points", "anchors", "origins"))
    step, bias, bandwidth = (float(given[name]) for name in ("step", "bias", "bandwidth"))

    def unit(x: Any) -> Any:
        return x / x.norm(dim=-1, keepdim=True).clamp_min(1e-7)

    def walked() -> Any:
        torch.manual_seed(1)
        x = origins
        for _ in range(int(given["steps"])):
            density = torch.exp(-(ball.dist(x[:, None], anchors[None]) ** 2) / (2 * bandwidth**2))
            sparse = -unit((density[..., None] * ball.logmap(x[:, None], anchors[None])).sum(dim=1))
            direction = unit(bias * unit(torch.randn_like(x)) + (1 - bias) * sparse)
            # A tangent vector is as long as its Euclidean length times the conformal factor.
            x = ball.projx(ball.expmap(x, direction * step / ball.lambda_x(x, keepdim=True)))
        return x

    def nearest(ends: Any) -> tuple[Any, Any]:
        found = [
            ball.dist(part[:, None], points[None]).topk(int(given["nearest"]), largest=False)
            for part in ends.split(AROUND)
        ]
        return torch.cat([one.values for one in found]), torch.cat([one.indices for one in found])

    seconds, (ends, _) = best_of(lambda: (end := walked(), nearest(end)))
    apart, rows = nearest(torch.from_numpy(given["ends"]))
    return seconds, {"ends": ends.numpy(), "apart": apart.numpy(), "rows": rows.numpy()}


def fit(given: Any) -> tuple[float, dict[str, np.ndarray]]:
    """gensim's PoincareModel on the pairs, with its own settings but for the number of dimensions."""
    poincare: Any = import_module("gensim.models.poincare")
    pairs = [(str(below), str(above)) for below, above in given["pairs"].tolist()]

    def trained() -> Any:
        model = poincare.PoincareModel(pairs, size=int(given["dimension"]), seed=1)
        model.train(epochs=int(given["epochs"]))
        return model

    began = time.perf_counter()
    model = trained()
    seconds = time.perf_counter() - began
    points = np.zeros((int(given["nodes"]), int(given["dimension"])))
    for row in range(len(points)):
        points[row] = model.kv[str(row)]
    return seconds, {"points": points.astype(np.float32)}


def best_of[T](work: Callable[[], T]) -> tuple[float, T]:
    """The quickest of a few rounds; the first one also warms up."""
    took: list[float] = []
    while True:
        began = time.perf_counter()
        made = work()
        took.append(time.perf_counter() - began)
        if len(took) > ROUNDS:
            return min(took), made


def main(task: str, given: str, out: str) -> None:
    with np.load(given) as arrays:
        seconds, made = {"walks": walks, "fit": fit}[task](dict(arrays))
    np.savez(out, allow_pickle=False, **made)
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
