"""Pure arithmetic on losses: whether both sides compute the same."""

import math

# a new loss's share of the smoothed one in history.json
NEWEST = 0.05
# how far losses of the first step may lie apart: it is the same function of the same weights
FIRST_TOLERANCE = 1e-3
# and later ones: the first updates divide gradients by their own size, so roundings grow
LATER_TOLERANCE = 1e-2


def unsmoothed(values):
    """Losses of every step from smoothed ones."""
    return [values[0], *(before + (value - before) / NEWEST for before, value in zip(values, values[1:]))]


def differences(ours, theirs):
    """Of two {term: losses by step}: the largest of the first step and of the later ones."""
    of = lambda part: largest([abs(a - b) for name in ours for a, b in zip(part(ours[name]), part(theirs[name]))])
    return {"first": of(lambda losses: losses[:1]), "later": of(lambda losses: losses[1:])}


def largest(values):
    """No number where one of them is none."""
    return math.nan if any(map(math.isnan, values)) else max(values)


def agree(differences):
    """Not where one is no number."""
    return differences["first"] <= FIRST_TOLERANCE and differences["later"] <= LATER_TOLERANCE
