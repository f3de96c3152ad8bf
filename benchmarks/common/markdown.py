"""Tables of Markdown."""


def table(heads, rows):
    """Lines with an empty one after them."""
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    return [*lines, *(f"| {' | '.join(cell(value) for value in row)} |" for row in rows), ""]


def cell(value):
    return str(value).replace("|", "/").replace("\n", " ")


def options(section):
    """Names and values of a section, those of a section in it in brackets."""
    return ", ".join(f"{name} ({options(value)})" if isinstance(value, dict) else f"{name} {value}" for name, value in section.items())


def minutes(seconds):
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def with_ends(figure, digits=2, sign=False):
    """A figure and its interval."""
    number = lambda value: f"{value:{'+' if sign else ''}.{digits}f}"
    return f"{number(figure['mean'])} ({number(figure['low'])} to {number(figure['high'])})"
