"""A plot as SVG, without libraries: one panel of lines beside another, one legend."""

from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, GAP = 300, 240, 60, 56, 50, 40
COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"]


def lines(title, x_label, y_label, panels):
    """`panels`: {name: {series: {x: y}}}. x is spaced by doublings, y starts at 0; all panels have the same scale."""
    xs = sorted({x for series in panels.values() for curve in series.values() for x in curve})
    top = max(y for series in panels.values() for curve in series.values() for y in curve.values())
    ticks = ticks_to(top)
    names = list(dict.fromkeys(name for series in panels.values() for name in series))
    colors = dict(zip(names, COLORS))
    width = LEFT + len(panels) * (WIDTH + GAP)
    drawn = [text(LEFT, 20, title, size=15, weight="bold"), *legend(names, colors, LEFT + 40 + 9 * len(title))]
    for index, (name, series) in enumerate(panels.items()):
        left = LEFT + index * (WIDTH + GAP)
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


def ticks_to(top):
    """From 0 in steps of 1, 2 or 5, with their powers of ten, to at least `top`; at most about eight."""
    step = next(base * 10.0**power for power in range(-6, 9) for base in (1, 2, 5) if top / (base * 10.0**power) <= 8)
    return [step * index for index in range(int(-(-top // step)) + 1)]


def panel(left, name, series, xs, ticks, colors):
    place_x = lambda x: left + WIDTH * (xs.index(x) + 0.5) / len(xs)
    place_y = lambda y: TOP + HEIGHT * (1 - y / ticks[-1])
    drawn = [text(left + WIDTH / 2, TOP - 8, name, anchor="middle")]
    for tick in ticks:
        y = place_y(tick)
        drawn.append(f'<line x1="{left}" x2="{left + WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        drawn.append(text(left - 6, y + 4, f"{tick:g}", anchor="end", size=11))
    for x in xs:
        drawn.append(text(place_x(x), TOP + HEIGHT + 18, str(x), anchor="middle", size=11))
    for label, curve in series.items():
        points = [(place_x(x), place_y(y)) for x, y in sorted(curve.items())]
        drawn.append(
            f'<polyline fill="none" stroke="{colors[label]}" stroke-width="2" points="'
            + " ".join(f"{x:.1f},{y:.1f}" for x, y in points) + '"/>')
        drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colors[label]}"/>' for x, y in points]
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
