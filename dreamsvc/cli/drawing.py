"""Draws the map of a night: the Poincare disk with memories, walks and new edges.

Needs matplotlib, which the extra `draw` brings; imported by the command that draws, and by nothing else.
"""

import io
import textwrap
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

from dreamsvc.cli.disk import Array, axes_of, geodesics, to_disk
from dreamsvc.cli.output import plain
from dreamsvc.v1.dream_service_pb2 import GetDreamMapResponse, MapEdge

DISCOVERED = "DREAM_DISCOVERED"
# In inches.
WIDTH, HEIGHT = 15.0, 10.8
# Of what is drawn as pixels; of an svg that is only what lies under the walks and finds.
DPI = {"png": 140, "svg": 110}
# Where the column beside the disk begins, in widths.
LEFT = 0.693
LABELLED = 12
# Characters of a line beside the disk.
_LINE = 56
KINDS_SHOWN = 7
# Points along a way.
FINE, COARSE = 40, 16
# Smallest distance of two labels, in radii of the disk.
APART = 0.055

INK, FAINT, PAPER, DISK = "#1f2430", "#8a91a0", "#ffffff", "#f7f8fb"
FIND, LINK, WALK = "#d1156b", "#9aa3b5", "#0d8a72"
# Told apart by people with any colour vision, and none of them near that of finds and walks (Tol's muted and light).
KIND_COLORS = ("#3b76c4", "#e0a526", "#7b5ea7", "#6fb7d6", "#a0522d", "#b8b23d", "#4c566a")
OTHER = "#b9bec9"
# Fonts that know letters which the one of matplotlib lacks, of several systems.
OTHER_WRITINGS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Hiragino Sans",
    "Yu Gothic",
    "Microsoft YaHei",
    "Arial Unicode MS",
)


class Drawn(NamedTuple):
    """What a picture shows."""

    memories: int
    walks: int
    finds: int
    links: int


class _Find(NamedTuple):
    number: int
    edge: MapEdge
    x: float
    y: float


def draw(shown: GetDreamMapResponse, title: str, file_format: str) -> tuple[bytes, Drawn]:
    """The picture's bytes, svg or png, and what is in it; equal maps give equal bytes."""
    # Text stays text in an svg: a viewer has fonts for writings that the ones here may lack. The salt makes the names
    # of its parts, and so its bytes, the same every time.
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "dreamsvc", "font.family": _fonts()}
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        return _saved(_figure(shown, title), file_format), _counts(shown)


def _figure(shown: GetDreamMapResponse, title: str) -> Figure:
    points = np.array([memory.point for memory in shown.memories], np.float64).reshape(-1, shown.dimension)
    axes_in_ball = axes_of(points)
    places = to_disk(points, axes_in_ball)
    # Not of pyplot, which would keep it.
    figure = Figure(figsize=(WIDTH, HEIGHT), facecolor=PAPER)
    FigureCanvasAgg(figure)
    disk = _disk(figure)
    finds, links = _finds(shown), [edge for edge in shown.edges if edge.type != DISCOVERED]
    _draw_links(disk, places, links)
    _draw_memories(disk, shown, places)
    _draw_walks(disk, shown, axes_in_ball)
    labelled = _draw_finds(disk, places, finds)
    figure.text(0.018, 0.972, plain(title), size=15, weight="bold", color=INK, va="top", parse_math=False)
    figure.text(0.018, 0.945, _subtitle(shown), size=10, color=FAINT, va="top", parse_math=False)
    below = _legend(figure, shown)
    _list_finds(figure, shown, labelled, below)
    return figure


def _counts(shown: GetDreamMapResponse) -> Drawn:
    finds = len(_finds(shown))
    return Drawn(len(shown.memories), len(shown.walks), finds, len(shown.edges) - finds)


def _finds(shown: GetDreamMapResponse) -> list[MapEdge]:
    return [edge for edge in shown.edges if edge.type == DISCOVERED]


def _fonts() -> list[str]:
    """What is tried for each letter, one after the other."""
    return ["DejaVu Sans", *(name for name in OTHER_WRITINGS if name in get_font_names())]


def _saved(figure: Figure, file_format: str) -> bytes:
    held = io.BytesIO()
    metadata = {"Date": None} if file_format == "svg" else {"Software": None}
    figure.savefig(held, format=file_format, dpi=DPI[file_format], metadata=metadata, facecolor=PAPER)
    return held.getvalue()


def _disk(figure: Figure) -> Axes:
    side = 0.92
    disk = figure.add_axes((0.005, 0.005, side * HEIGHT / WIDTH, side))
    disk.set_aspect("equal")
    disk.set_xlim(-1.03, 1.03)
    disk.set_ylim(-1.03, 1.03)
    disk.set_axis_off()
    # Links and memories are one picture inside an svg; as paths they would be tens of megabytes.
    disk.set_rasterization_zorder(2.5)
    disk.add_patch(Circle((0, 0), 1, facecolor=DISK, edgecolor="none", zorder=0))
    # Circles of equal steps of hyperbolic distance from the centre show how the disk grows towards its rim.
    for distance in (1, 2, 3, 4):
        radius = float(np.tanh(distance / 2))
        disk.add_patch(Circle((0, 0), radius, fill=False, edgecolor="#e4e7ee", linewidth=0.6, zorder=0.5))
    disk.add_patch(Circle((0, 0), 1, fill=False, edgecolor=INK, linewidth=1.2, zorder=6))
    return disk


def _subtitle(shown: GetDreamMapResponse) -> str:
    drawn = _counts(shown)
    of = f" of {shown.memories_placed:,}" if shown.memories_placed > drawn.memories else ""
    flat = (
        "" if shown.dimension <= 2 else f", {shown.dimension} dimensions brought to 2, distances from the centre kept"
    )
    return f"{drawn.memories:,}{of} memories, {drawn.walks:,} walks, {drawn.finds:,} finds, {drawn.links:,} links{flat}"


def _draw_links(disk: Axes, places: Array, links: Sequence[MapEdge]) -> None:
    if not links:
        return
    # Many are drawn fainter, so that they are a ground and not a lid.
    alpha = float(np.clip(0.5 * (1000 / len(links)) ** 0.5, 0.14, 0.5))
    ways = geodesics(*_ends(places, links), COARSE)
    disk.add_collection(LineCollection(list(ways), colors=LINK, linewidths=0.5, alpha=alpha, zorder=1))


def _draw_memories(disk: Axes, shown: GetDreamMapResponse, places: Array) -> None:
    if not len(places):
        return
    colors = _colors(shown)
    importance = np.array([memory.importance for memory in shown.memories])
    size = float(np.clip(14 * (2000 / len(places)) ** 0.5, 3, 60))
    disk.scatter(
        places[:, 0],
        places[:, 1],
        s=size * (0.25 + 2.2 * importance**2),
        c=[colors.get(memory.kind, OTHER) for memory in shown.memories],
        alpha=0.8,
        linewidths=0,
        zorder=2,
    )


def _draw_walks(disk: Axes, shown: GetDreamMapResponse, axes_in_ball: Array) -> None:
    ways: list[Array] = []
    heads: list[Array] = []
    for walk in shown.walks:
        corners = to_disk(np.array(walk.points, np.float64).reshape(-1, shown.dimension), axes_in_ball)
        if len(corners) < 2:
            continue
        way = geodesics(corners[:-1], corners[1:], COARSE).reshape(-1, 2)
        ways.append(way)
        heads.append(_head(way[-2], way[-1]))
    if not ways:
        return
    alpha = float(np.clip(0.75 * (60 / len(ways)) ** 0.35, 0.3, 0.75))
    disk.add_collection(LineCollection(ways, colors=WALK, linewidths=0.9, alpha=alpha, zorder=3))
    disk.add_collection(
        PolyCollection(heads, facecolors=WALK, edgecolors="none", alpha=min(1.0, alpha + 0.2), zorder=3)
    )


def _head(before: Array, tip: Array) -> Array:
    """A triangle that ends at `tip` and points away from `before`; smaller towards the rim, as all is there."""
    way = tip - before
    way = way / max(float(np.linalg.norm(way)), 1e-12)
    length = 0.008 + 0.016 * (1 - float(tip @ tip))
    back, side = tip - length * way, 0.45 * length * np.array([-way[1], way[0]])
    return np.array([tip, back + side, back - side])


def _draw_finds(disk: Axes, places: Array, finds: Sequence[MapEdge]) -> list[_Find]:
    """Draws finds, and the numbers of the strongest that have room for one; gives those."""
    if not finds:
        return []
    ways = geodesics(*_ends(places, finds), FINE)
    alpha = float(np.clip(0.85 * (LABELLED / len(finds)) ** 0.3, 0.3, 0.85))
    disk.add_collection(LineCollection(list(ways), colors=FIND, linewidths=0.9, alpha=alpha, zorder=4))
    ends = np.concatenate(_ends(places, finds))
    disk.scatter(ends[:, 0], ends[:, 1], s=9, c=FIND, edgecolors=PAPER, linewidths=0.4, alpha=0.9, zorder=4.5)
    labelled: list[_Find] = []
    for edge, way in zip(finds, ways, strict=True):
        place = _room(way, labelled)
        if place is not None:
            labelled.append(_Find(len(labelled) + 1, edge, *place))
        if len(labelled) == LABELLED:
            break
    chosen = [find.edge for find in labelled]
    strong = geodesics(*_ends(places, chosen), FINE)
    disk.add_collection(LineCollection(list(strong), colors=FIND, linewidths=2, zorder=4.6))
    for find in labelled:
        disk.text(
            find.x,
            find.y,
            str(find.number),
            size=8.5,
            weight="bold",
            color=PAPER,
            ha="center",
            va="center",
            zorder=7,
            bbox={"boxstyle": "circle,pad=0.22", "facecolor": FIND, "edgecolor": PAPER, "linewidth": 0.8},
        )
    return labelled


def _room(way: Array, taken: Sequence[_Find]) -> tuple[float, float] | None:
    """Where along a way a label fits, as near to its middle as can be."""
    middle = len(way) // 2
    for step in range(0, int(0.35 * len(way)), 2):
        for at in (middle - step, middle + step):
            x, y = float(way[at, 0]), float(way[at, 1])
            if all((x - other.x) ** 2 + (y - other.y) ** 2 >= APART**2 for other in taken):
                return x, y
    return None


def _ends(places: Array, edges: Sequence[MapEdge]) -> tuple[Array, Array]:
    return places[[edge.source for edge in edges]], places[[edge.target for edge in edges]]


def _colors(shown: GetDreamMapResponse) -> dict[str, str]:
    """The most frequent kinds and their colours."""
    counts = Counter(memory.kind for memory in shown.memories)
    ranked = sorted(counts, key=lambda kind: (-counts[kind], kind))
    return dict(zip(ranked[:KINDS_SHOWN], KIND_COLORS, strict=False))


def _legend(figure: Figure, shown: GetDreamMapResponse) -> float:
    """Says what colours mean; gives how far down the figure it reaches, about."""
    counts = Counter(memory.kind for memory in shown.memories)
    colors = _colors(shown)
    drawn = _counts(shown)
    entries: list[tuple[Line2D, str]] = []
    if drawn.finds:
        entries.append((Line2D([], [], color=FIND, linewidth=2), "find: far in meaning, and yet together"))
    if drawn.links:
        entries.append((Line2D([], [], color=LINK, linewidth=1), "link between memories"))
    if drawn.walks:
        line = Line2D([], [], color=WALK, linewidth=1.2, marker=">", markersize=5)
        entries.append((line, "walk, away from a memory"))
    entries += [(_dot(color), f"{counts[kind]:,} {plain(kind)}") for kind, color in colors.items()]
    if others := sum(count for kind, count in counts.items() if kind not in colors):
        entries.append((_dot(OTHER), f"{others:,} of other kinds"))
    made = figure.legend(
        [handle for handle, _ in entries],
        [label for _, label in entries],
        loc="upper left",
        bbox_to_anchor=(LEFT - 0.008, 0.985),
        frameon=False,
        fontsize=10,
        labelcolor=INK,
        handlelength=1.8,
        labelspacing=0.55,
    )
    for text in made.get_texts():
        text.set_parse_math(False)
    return 0.965 - 0.0203 * len(entries)


def _dot(color: str) -> Line2D:
    return Line2D([], [], color=color, linestyle="none", marker="o", markersize=6, markeredgewidth=0)


def _list_finds(figure: Figure, shown: GetDreamMapResponse, labelled: Sequence[_Find], top: float) -> None:
    """The numbered finds with what speaks for them."""
    if not labelled:
        return
    figure.text(LEFT, top - 0.02, "The strongest finds", size=11.5, weight="bold", color=INK, va="top")
    step = min(0.062, (top - 0.06) / len(labelled))
    for find in labelled:
        y = top - 0.052 - step * (find.number - 1)
        one, other = shown.memories[find.edge.source].text, shown.memories[find.edge.target].text
        figure.text(LEFT, y, str(find.number), size=9.5, weight="bold", color=FIND, va="top")
        told = f"{_line(one)}\n{_line(other)}"
        figure.text(LEFT + 0.02, y, told, size=8.8, color=INK, va="top", linespacing=1.2, parse_math=False)
        if find.edge.evidence:
            # The first of what speaks for it, whole, rather than the beginning of all.
            whole = find.edge.evidence
            why = _line(whole if len(whole) <= _LINE else whole.split("; ")[0])
            figure.text(LEFT + 0.02, y - 0.0315, why, size=8, color=FAINT, va="top", style="italic", parse_math=False)


def _line(text: str) -> str:
    return textwrap.shorten(plain(text), _LINE, placeholder="…") or "(no text)"
