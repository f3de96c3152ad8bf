"""A plot as SVG, without libraries: one panel of lines beside another, one legend."""

import math
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, GAP = 300, 240, 60, 56, 50, 40
COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"]


class Spread(NamedTuple):
    """A value and between which it lies."""

    low: float
    middle: float
    high: float


def lines(title, x_label, y_label, panels, own_scales=False):
    """`panels`: {name: {series: {x: y}}}. y may be a Spread, which gets a bar. Values on x are evenly spaced, numbers in their order, words as
    they come. 0 is always on the scale of y, which is the same for all panels, or of each panel alone.
    """
    xs = in_order([x for series in panels.values() for curve in series.values() for x in curve])
    of_panel = {name: heights(series) for name, series in panels.items()}
    shared = ticks_over([height for values in of_panel.values() for height in values])
    names = list(dict.fromkeys(name for series in panels.values() for name in series))
    colors = dict(zip(names, COLORS))
    width = LEFT + len(panels) * (WIDTH + GAP)
    drawn = [text(LEFT, 20, title, size=15, weight="bold"), *legend(names, colors, LEFT + 40 + 9 * len(title))]
    for index, (name, series) in enumerate(panels.items()):
        left = LEFT + index * (WIDTH + GAP)
        ticks = ticks_over(of_panel[name]) if own_scales else shared
        drawn += panel(left, name, series, xs, ticks, colors)
        drawn.append(text(left + WIDTH / 2, TOP + HEIGHT + 38, x_label, anchor="middle"))
    middle = TOP + HEIGHT / 2
    drawn.append(f'<g transform="rotate(-90 18 {middle})">{text(18, middle, y_label, anchor="middle")}</g>')
    height = TOP + HEIGHT + BOTTOM
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif"><title>{escape(title)}</title><rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(drawn) + "\n</svg>\n"
    )


def in_order(xs):
    """Each once."""
    once = list(dict.fromkeys(xs))
    return once if any(isinstance(x, str) for x in once) else sorted(once)


def spread(y):
    return y if isinstance(y, Spread) else Spread(y, y, y)


def heights(series):
    return [height for curve in series.values() for y in curve.values() for height in spread(y)]


def ticks_over(values):
    """From at most 0 and all values to at least them, in steps of 1, 2 or 5 with their powers of ten; about eight."""
    low, high = min(0, *values), max(0, *values)
    span = high - low or 1
    step = next(base * 10.0**power for power in range(-6, 9) for base in (1, 2, 5) if span / (base * 10.0**power) <= 8)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * index for index in range(first, max(first + 1, last) + 1)]


def panel(left, name, series, xs, ticks, colors):
    place_x = lambda x: left + WIDTH * (xs.index(x) + 0.5) / len(xs)
    place_y = lambda y: TOP + HEIGHT * (ticks[-1] - y) / (ticks[-1] - ticks[0])
    drawn = [text(left + WIDTH / 2, TOP - 8, name, anchor="middle")]
    for tick in ticks:
        y = place_y(tick)
        drawn.append(f'<line x1="{left}" x2="{left + WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        drawn.append(text(left - 6, y + 4, f"{tick:g}", anchor="end", size=11))
    for x in xs:
        drawn.append(text(place_x(x), TOP + HEIGHT + 18, str(x), anchor="middle", size=11))
    for label, curve in series.items():
        drawn += line([(place_x(x), *map(place_y, spread(curve[x]))) for x in xs if x in curve], colors[label])
    return drawn


def line(points, color):
    """Through points (x, low, middle, high)."""
    path = " ".join(f"{x:.1f},{middle:.1f}" for x, _, middle, _ in points)
    drawn = [f'<polyline fill="none" stroke="{color}" stroke-width="2" points="{path}"/>']
    for x, low, middle, high in points:
        if low != high:
            drawn.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke="{color}"/>')
        drawn.append(f'<circle cx="{x:.1f}" cy="{middle:.1f}" r="3" fill="{color}"/>')
    return drawn


def legend(names, colors, x):
    drawn = []
    for name in names:
        drawn.append(f'<line x1="{x}" x2="{x + 22}" y1="16" y2="16" stroke="{colors[name]}" stroke-width="3"/>')
        drawn.append(text(x + 28, 20, name))
        x += 60 + 7 * len(name)
    return drawn


def text(x, y, words, anchor="start", size=12, weight="normal"):
    return (f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" fill="#222">'
            f"{escape(words)}</text>")
