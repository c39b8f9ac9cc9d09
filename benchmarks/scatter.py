"""Points in a plane as an SVG: no library, and a browser or a README shows it."""

from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

SIDE, MARGIN = 480, 56
TICKS = 5
COLOURS = ("#2f6fb2", "#c8553d", "#4a8f4f", "#8a5fa8", "#b8872b", "#3c8f96", "#a03c6f", "#6b6b6b")


class Dot(NamedTuple):
    x: float
    y: float
    group: str


def drawn(dots: Sequence[Dot], *, x: str, y: str, most: float, bound: float) -> str:
    """Both axes from 0 to `most`, in percent; lines where both are equal and at `bound`; a colour for each group.

    Dots beyond an axis stand at its end.
    """
    groups = list(dict.fromkeys(dot.group for dot in dots))
    width = SIDE + 2 * MARGIN + 180

    def at(value: float) -> float:
        return SIDE * min(1.0, max(0.0, value / most))

    def place(left: float, up: float) -> tuple[float, float]:
        return MARGIN + at(left), MARGIN + SIDE - at(up)

    lines = [_line(*place(0, 0), *place(most, most), "#888"), _line(*place(0, bound), *place(most, bound), "#ccc")]
    lines.append(_line(*place(bound, 0), *place(bound, most), "#ccc"))
    for tick in range(TICKS + 1):
        value = most * tick / TICKS
        across, up = place(value, 0), place(0, value)
        lines.append(_text(across[0], across[1] + 18, f"{value:g}", "middle"))
        lines.append(_text(up[0] - 8, up[1] + 4, f"{value:g}", "end"))
    lines.append(_text(MARGIN + SIDE / 2, SIDE + 2 * MARGIN - 12, x, "middle"))
    lines.append(_text(MARGIN, MARGIN - 16, y, "start"))
    for number, group in enumerate(groups):
        high = MARGIN + 20 * number
        lines.append(_dot(MARGIN + SIDE + 24, high, _colour(number)))
        lines.append(_text(MARGIN + SIDE + 34, high + 4, group, "start"))
    lines += [_dot(*place(dot.x, dot.y), _colour(groups.index(dot.group))) for dot in dots]
    frame = f'<rect x="{MARGIN}" y="{MARGIN}" width="{SIDE}" height="{SIDE}" fill="none" stroke="#888"/>'
    high = SIDE + 2 * MARGIN
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{high}" viewBox="0 0 {width} {high}">'
    ground = f'<rect width="{width}" height="{high}" fill="#fff"/>'
    return "\n".join([head, ground, frame, *lines, "</svg>", ""])


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _dot(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}" fill-opacity="0.7"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    style = 'font-family="sans-serif" font-size="12" fill="#333"'
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {style}>{escape(text)}</text>'
