"""Plots as SVG text: bars of ratios, curves by percentile or size, and lines over time.

Written out by hand because a plot of four numbers is sixty lines, and a plotting library is a
hundred megabytes that only a benchmark would ever load.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 50, 60
LEGEND = 150
STEPS = 5
MOST_TICKS = 10
COLOURS = ("#5b6770", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")


def _page(title: str, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="13" role="img" aria-label="{escape(title)}">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    )
    return "\n".join([head, _text(WIDTH / 2, 26, title, "middle", 16), *parts, "</svg>", ""])


def _text(x: float, y: float, said: str, anchor: str = "start", size: int = 13) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
    return f"<text {place}>{escape(said)}</text>"


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = "#c8ccd0") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def bars(title: str, values: Mapping[str, float]) -> str:
    """One horizontal bar for each name, its value behind it; the scale ends at the largest."""
    largest = max([1e-9, *values.values()])
    room = (HEIGHT - TOP - 30) / max(1, len(values))
    left = 150
    parts = []
    for number, (name, value) in enumerate(values.items()):
        y = TOP + number * room
        width = (WIDTH - left - 80) * value / largest
        colour = COLOURS[(number + 1) % len(COLOURS)]
        parts.append(_text(left - 10, y + room / 2 + 4, name, "end"))
        parts.append(
            f'<rect x="{left}" y="{y + room * 0.2:.1f}" width="{width:.1f}" '
            f'height="{room * 0.6:.1f}" fill="{colour}"/>'
        )
        parts.append(_text(left + width + 8, y + room / 2 + 4, f"{value:.3g}"))
    return _page(title, parts)


def _ticks(least: float, most: float) -> list[float]:
    """Round numbers of a logarithmic scale: from the last that is not above `least`, and so on."""
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    fine = [each * 10.0**power for power in powers for each in (1, 2, 5)]
    first = max(number for number, each in enumerate(fine) if each <= least * (1 + 1e-9))
    last = min(number for number, each in enumerate(fine) if each >= most * (1 - 1e-9))
    ticks = fine[first : max(last, first + 1) + 1]
    return ticks if len(ticks) <= MOST_TICKS else [10.0**power for power in powers]


def curves(
    title: str,
    lines: Mapping[str, Sequence[tuple[float, float]]],
    x: str,
    y: str,
    yardstick: str = "",
) -> str:
    """A line for each name over the same x values, y on a logarithmic scale.

    The yardstick is grey, so that the others have the colours that they have as bars.
    """
    points = [point for line in lines.values() for point in line if point[1] > 0]
    places = sorted({point[0] for point in points})
    ticks = _ticks(min(point[1] for point in points), max(point[1] for point in points))
    low, high = math.log10(ticks[0]), math.log10(ticks[-1])

    def at_x(value: float) -> float:
        share = places.index(value) / max(1, len(places) - 1)
        return LEFT + share * (WIDTH - LEFT - RIGHT - LEGEND)

    def at_y(value: float) -> float:
        share = (math.log10(value) - low) / (high - low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    parts = []
    for tick in ticks:
        parts.append(_line(LEFT, at_y(tick), WIDTH - RIGHT - LEGEND, at_y(tick)))
        parts.append(_text(LEFT - 8, at_y(tick) + 4, f"{tick:g}", "end"))
    parts += [_text(at_x(place), HEIGHT - BOTTOM + 20, f"{place:g}", "middle") for place in places]
    parts.append(_text((LEFT + WIDTH - RIGHT - LEGEND) / 2, HEIGHT - 16, x, "middle"))
    parts.append(_text(LEFT - 8, TOP - 14, y, "end"))
    others = [name for name in lines if name != yardstick]
    # In the order in which they end.
    drawn = sorted(lines.items(), key=lambda each: -each[1][-1][1])
    for number, (name, line) in enumerate(drawn):
        place = 0 if name == yardstick else others.index(name) + 1
        colour = COLOURS[place % len(COLOURS)]
        path = " ".join(f"{at_x(a):.1f},{at_y(b):.1f}" for a, b in line if b > 0)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += _legend(number, name, colour)
    return _page(title, parts)


def _legend(number: int, name: str, colour: str) -> list[str]:
    left, height = WIDTH - LEGEND - 10, TOP + 20 * number
    sample = f'<rect x="{left}" y="{height - 2}" width="20" height="4" fill="{colour}"/>'
    return [sample, _text(left + 26, height + 4, name)]


def _step(most: float) -> float:
    """A round step, five of which reach as far as the largest value."""
    power: float = 10 ** math.floor(math.log10(most / STEPS))
    return next(each * power for each in (1, 2, 2.5, 4, 5, 10) if each * power * STEPS >= most)


def lines(title: str, given: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str) -> str:
    """A line for each name, both axes from nought and linear."""
    right = WIDTH - RIGHT - LEGEND
    step_x = _step(max([1e-9, *(point[0] for line in given.values() for point in line)]))
    step_y = _step(max([1e-9, *(point[1] for line in given.values() for point in line)]))

    def at(point: tuple[float, float]) -> str:
        across = LEFT + point[0] / step_x / STEPS * (right - LEFT)
        up = HEIGHT - BOTTOM - point[1] / step_y / STEPS * (HEIGHT - TOP - BOTTOM)
        return f"{across:.1f},{up:.1f}"

    parts = []
    for number in range(STEPS + 1):
        height = HEIGHT - BOTTOM - number / STEPS * (HEIGHT - TOP - BOTTOM)
        across = LEFT + number / STEPS * (right - LEFT)
        parts.append(_line(LEFT, height, right, height))
        parts.append(_text(LEFT - 8, height + 4, f"{step_y * number:,g}", "end"))
        parts.append(_text(across, HEIGHT - BOTTOM + 20, f"{step_x * number:g}", "middle"))
    parts.append(_text((LEFT + right) / 2, HEIGHT - 16, x, "middle"))
    parts.append(_text(18, TOP - 12, y))
    for number, (name, line) in enumerate(given.items()):
        colour = COLOURS[(number + 1) % len(COLOURS)]
        path = " ".join(map(at, line))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += _legend(number, name, colour)
    return _page(title, parts)
