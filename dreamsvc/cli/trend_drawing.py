"""Draws how nights went over time: nine small panels over one axis of nights, evenly, whatever time lies between two.

Needs matplotlib, which the extra `draw` brings; imported by the command that draws, and by nothing else.
"""

import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator, PercentFormatter
from numpy.typing import NDArray

from dreamsvc.cli import output
from dreamsvc.cli.trend import Night, nights_of, summary
from dreamsvc.v1.dream_pb2 import Dream

WIDTH, HEIGHT, DPI = 14.0, 9.2, 130
INK, FAINT, GRID, PAPER = "#1f2430", "#7b8494", "#e6e9ef", "#ffffff"
# Told apart by people with any colour vision.
BLUE, GOLD, GREEN, PINK, GREY = "#3b76c4", "#e0a526", "#0d8a72", "#d1156b", "#b9bec9"
# From which a score is fair, good and excellent.
GRADES = ((0.5, "fair"), (0.7, "good"), (0.9, "excellent"))
DATES_SHOWN = 4
BUDGET_MS = 100
type Line = NDArray[np.float64]
# None for a night that failed.
type Nights = Sequence[Night | None]


def draw(dreams: Sequence[Dream], space: str, file_format: str) -> bytes:
    """The picture's bytes, png or svg, of dreams with the oldest first; equal dreams give equal bytes."""
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "dreamsvc", "font.size": 9}
    with mpl.rc_context(settings):
        figure = _figure(dreams, space)
        body = io.BytesIO()
        metadata: dict[str, Any] = {"Date": None} if file_format == "svg" else {"Software": None}
        figure.savefig(body, format=file_format, dpi=DPI, metadata=metadata)
    return body.getvalue()


def _figure(dreams: Sequence[Dream], space: str) -> Figure:
    ended = [dream for dream in dreams if dream.state in (Dream.STATE_SUCCEEDED, Dream.STATE_FAILED)]
    applied = {night.dream.id: night for night in nights_of(ended)}
    nights = [applied.get(dream.id) for dream in ended]
    # Not of pyplot, which would keep it.
    figure = Figure(figsize=(WIDTH, HEIGHT), facecolor=PAPER)
    FigureCanvasAgg(figure)
    figure.text(0.065, 0.962, f"Nights of the space {output.plain(space)}", size=17, color=INK, weight="bold")
    failed = "; bands are nights that failed" if None in nights else ""
    figure.text(0.065, 0.933, summary(dreams) + failed, size=10, color=FAINT)
    grid = figure.add_gridspec(3, 3, left=0.065, right=0.985, top=0.875, bottom=0.075, wspace=0.17, hspace=0.42)
    panels: list[Callable[[Axes, Nights], None]] = [
        *(_score, _recall, _retention),
        *(_compression, _edges, _finds),
        *(_duration, _wakes, _busy),
    ]
    for place, panel in enumerate(panels):
        axes = figure.add_subplot(grid[place // 3, place % 3])
        _prepare(axes, nights, _dates(ended) if place >= 6 else {})
        panel(axes, nights)
        handles, _ = axes.get_legend_handles_labels()
        if len(handles) > 1:
            axes.legend(
                frameon=False,
                fontsize=8,
                loc="upper left",
                ncols=3,
                handlelength=1.1,
                columnspacing=1.0,
                bbox_to_anchor=(-0.01, 1.13),
                borderpad=0,
                labelcolor=FAINT,
            )
    return figure


def _prepare(axes: Axes, nights: Nights, dates: dict[int, str]) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.tick_params(length=0, colors=FAINT, labelsize=8)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlim(-0.7, len(nights) - 0.3)
    axes.set_xticks(list(dates), list(dates.values()))
    for place, night in enumerate(nights):
        if night is None:
            axes.axvspan(place - 0.5, place + 0.5, color=PINK, alpha=0.1, linewidth=0, zorder=0)


def _dates(dreams: Sequence[Dream]) -> dict[int, str]:
    """A few of the nights: by month, by day where all are of one year, by time where all are of one day."""
    times = [output.time_text(dream.start_time) for dream in dreams]
    days, years = ({time[:length] for time in times} for length in (10, 4))
    part = slice(11, 16) if len(days) == 1 else slice(5, 10) if len(years) == 1 else slice(0, 7)
    shown = sorted({round(place) for place in np.linspace(0, len(times) - 1, min(DATES_SHOWN, len(times)))})
    return {place: times[place][part] for place in shown}


def _title(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", size=10.5, color=INK, weight="bold", pad=17)


# ── panels ──────────────────────────────────────────────────────────────────────


def _score(axes: Axes, nights: Nights) -> None:
    _title(axes, "Score")
    axes.set_ylim(0, 1.04)
    _line(axes, _of(nights, "score"), BLUE, "")
    axes.set_yticks([0, *(edge for edge, _ in GRADES)], ["0", *(f"{name} {edge:g}" for edge, name in GRADES)])


def _recall(axes: Axes, nights: Nights) -> None:
    _title(axes, "Recall@5 by the night's own questions")
    before, after = _of(nights, "recall_before"), _of(nights, "recall_after")
    _line(axes, before, GREY, "before")
    _line(axes, after, GREEN, "after")
    axes.fill_between(np.arange(len(nights)), before, after, color=GREEN, alpha=0.12, linewidth=0)
    _percent(axes, [before, after])


def _retention(axes: Axes, nights: Nights) -> None:
    _title(axes, "Retention of what was found before")
    before, after = _of(nights, "retention_before"), _of(nights, "retention_after")
    _line(axes, before, GREY, "before")
    _line(axes, after, BLUE, "after")
    _percent(axes, [before, after])


def _compression(axes: Axes, nights: Nights) -> None:
    _title(axes, "Memories a node")
    values = _of(nights, "memories_a_node")
    _line(axes, values, BLUE, "")
    needed = next((one.required for night in nights if night for one in night.dream.report.quality.criteria[:1]), 0.0)
    axes.set_ylim(0, 1.15 * max(needed, *values[np.isfinite(values)], 1.0))
    if needed:
        _mark(axes, needed, f"needed, {needed:g}")


def _edges(axes: Axes, nights: Nights) -> None:
    _title(axes, "Edges changed")
    _bars(
        axes,
        [
            ("stronger", GREEN, _of(nights, "edges_strengthened")),
            ("weaker", GOLD, _of(nights, "edges_weakened")),
            ("pruned", PINK, _of(nights, "edges_pruned")),
        ],
    )


def _finds(axes: Axes, nights: Nights) -> None:
    _title(axes, "Found")
    _bars(axes, [("links", BLUE, _of(nights, "links")), ("blind spots", PINK, _of(nights, "blind_spots"))])


def _duration(axes: Axes, nights: Nights) -> None:
    _title(axes, "Time dreamed")
    _bars(axes, [("NREM", BLUE, _of(nights, "nrem_seconds")), ("REM", GOLD, _of(nights, "rem_seconds"))])
    axes.yaxis.set_major_formatter(FuncFormatter(_seconds))


def _wakes(axes: Axes, nights: Nights) -> None:
    _title(axes, "Wake latency, the last of each night")
    latency = _of(nights, "wake_latency_ms")
    axes.set_yscale("log")
    axes.set_ylim(0.5, max(400.0, 2 * float(np.max(latency, initial=0.0, where=np.isfinite(latency)))))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.plot(np.arange(len(nights)), latency, "o", color=PINK, markersize=4.5, markeredgewidth=0)
    _mark(axes, BUDGET_MS, f"budget, {BUDGET_MS} ms")
    axes.yaxis.set_major_formatter(FuncFormatter(_milliseconds))
    if not np.isfinite(latency).any():
        axes.text(0.5, 0.4, "no night was woken", transform=axes.transAxes, ha="center", color=FAINT)


def _busy(axes: Axes, nights: Nights) -> None:
    _title(axes, "Busy share of the device, or of one core")
    share = _of(nights, "busy_share")
    _line(axes, share, GOLD, "")
    axes.set_ylim(0, max(0.1, 1.2 * float(np.max(share, initial=0.0, where=np.isfinite(share)))))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


# ── shapes ──────────────────────────────────────────────────────────────────────


def _of(nights: Nights, field: str) -> Line:
    """A column, NaN where a night failed or did not measure it."""
    values = (getattr(night, field, None) for night in nights)
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _line(axes: Axes, values: Line, color: str, label: str) -> None:
    known = np.isfinite(values)
    if not known.any():
        if not axes.texts:
            axes.text(0.5, 0.45, "not measured", transform=axes.transAxes, ha="center", color=FAINT)
            axes.set_yticks([])
        return
    # Nights that did not measure it are passed over, with a thin line.
    x = np.arange(len(values))
    axes.plot(x[known], values[known], color=color, linewidth=0.8, alpha=0.6)
    axes.plot(x, values, color=color, linewidth=1.8, marker="o", markersize=3.2, label=label or None)


def _bars(axes: Axes, stacked: Sequence[tuple[str, str, Line]]) -> None:
    bottom = np.zeros(len(stacked[0][2]))
    for label, color, values in stacked:
        heights = np.nan_to_num(values)
        axes.bar(np.arange(len(heights)), heights, 0.72, bottom=bottom, color=color, label=label, linewidth=0)
        bottom += heights
    axes.yaxis.set_major_formatter(FuncFormatter(_number))
    if not bottom.any():
        axes.set_ylim(0, 1)
        axes.set_yticks([0])


def _mark(axes: Axes, value: float, text: str) -> None:
    """A line to hold the values against."""
    axes.axhline(value, color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    axes.annotate(text, (-0.55, value), (0, -3), textcoords="offset points", size=7.5, color=FAINT, va="top")


def _percent(axes: Axes, lines: Sequence[Line]) -> None:
    """Percents, around what there is and never more than there can be."""
    values = np.concatenate(lines)
    values = values[np.isfinite(values)]
    if values.size:
        middle, half = float(values.max() + values.min()) / 2, 0.65 * float(np.ptp(values))
        # A point more or less is no landslide.
        half = max(0.06, half)
        axes.set_ylim(max(0.0, middle - half), min(1.02, middle + half))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


# ── ticks ───────────────────────────────────────────────────────────────────────


def _seconds(value: float, _: object) -> str:
    return f"{value / 60:g} min" if value >= 60 else f"{value:g} s"


def _milliseconds(value: float, _: object) -> str:
    return f"{value:g} ms"


def _number(value: float, _: object) -> str:
    return f"{value:,.0f}"
