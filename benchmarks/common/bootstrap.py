"""95 % intervals by bootstrap over prompts and seeds: everything that is compared comes from the same draws. Pure.

Every seed has answered the same prompts, so both are drawn anew, with replacement, and crossed: a draw of seeds, and one of prompts for all of
them. Few seeds make the interval a little narrow: a mean of k of them varies by a factor of the root of k / (k - 1) more than the draws do.
"""

import random

DRAWS = 2000


def pooled(tables, figures):
    """Figures of all seeds and prompts. `tables`: of each seed {column: a number for each prompt}. `figures`: {name: what makes it from
    {column: sum}}.
    """
    return values_of(figures, {column: sum(sum(table[column]) for table in tables) for column in tables[0]})


def intervals(tables, figures, draws=DRAWS):
    """{name: (low, high)} of the same."""
    drawing, prompts = random.Random(0), range(len(next(iter(tables[0].values()))))
    merged = Merged(tables)
    drawn = []
    for _ in range(draws):
        seeds = tuple(sorted(drawing.choices(range(len(tables)), k=len(tables))))
        chosen = drawing.choices(prompts, k=len(prompts))
        drawn.append(values_of(figures, {column: sum(map(values.__getitem__, chosen)) for column, values in merged.of(seeds).items()}))
    return {name: middle_95([values[name] for values in drawn]) for name in figures}


class Merged:
    """Columns of several seeds added up prompt by prompt, each combination once."""

    def __init__(self, tables):
        self.tables, self.known = tables, {}

    def of(self, seeds):
        if seeds not in self.known:
            chosen = [self.tables[seed] for seed in seeds]
            self.known[seeds] = {column: [sum(row) for row in zip(*(table[column] for table in chosen))] for column in chosen[0]}
        return self.known[seeds]


def values_of(figures, sums):
    return {name: figure(sums) for name, figure in figures.items()}


def middle_95(values):
    ordered = sorted(values)
    at = lambda share: ordered[round(share * (len(ordered) - 1))]
    return at(0.025), at(0.975)
