"""A soak as a picture: memory, handles and latencies over time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

SIZE_IN, DPI = (9.0, 8.0), 110


def draw(samples: Sequence[Any], out: Path) -> None:
    """Writes a PNG with one panel for each kind of thing that has to stay flat."""
    minutes = [sample.at_s / 60 for sample in samples]
    figure = Figure(figsize=SIZE_IN, dpi=DPI, layout="constrained")
    panels = figure.subplots(3, 1, sharex=True)
    for panel, label, lines in zip(panels, ("resident MB", "count", "P95 of a second, ms"), LINES, strict=True):
        for name, field in lines:
            panel.plot(minutes, [getattr(sample, field) for sample in samples], label=name, linewidth=0.8)
        panel.set_ylabel(label)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
        panel.legend(loc="best", fontsize=8)
    panels[-1].set_xlabel("minutes")
    panels[0].set_title("mixed load with nights, wakes and reverts")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


LINES = (
    (("service", "server_mb"), ("dreamer", "dreamer_mb")),
    (("open files and sockets", "handles"), ("threads", "threads")),
    (("recall", "recall_p95_ms"), ("write", "write_p95_ms")),
)
