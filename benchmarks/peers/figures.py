"""Pure arithmetic on what was measured. A round is a dictionary from the name of a party to its answers, in the order of the prompts; the
first has all parties."""

import random
import statistics

DRAWS = 2000


def rate(answers):
    """Tokens after the first per second after the prompt."""
    return sum(answer.decoded for answer in answers) / sum(answer.seconds for answer in answers)


def median_rate(rounds, name):
    return statistics.median(rate(answers[name]) for answers in rounds if name in answers)


def ratio(rounds, name, base):
    """Median over the rounds of ratios within a round."""
    return statistics.median(rate(answers[name]) / rate(answers[base]) for answers in rounds if name in answers)


def slow(answers, base):
    """The parties that are less than half as fast as one of them."""
    return {name for name in answers if rate(answers[name]) < rate(answers[base]) / 2}


def tokens_per_forward(rounds, name):
    answers = rounds[0][name]
    forwards = [answer.forwards for answer in answers]
    return None if None in forwards else sum(answer.decoded for answer in answers) / max(1, sum(forwards))


def best(rounds, names):
    """The fastest of some parties; none of none."""
    return max(names, key=lambda name: median_rate(rounds, name), default=None)


def same_before_first_difference(ours, theirs):
    """The share of their tokens that come before the first one that differs from ours."""
    if any(answer.tokens is None for answer in theirs):
        return None
    same = checked = 0
    for mine, other in zip(ours, theirs):
        pairs = list(zip(mine.tokens, other.tokens))
        same += next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))
        checked += len(pairs)
    return same / checked


def paired(rounds, name, base, sets):
    """Of each set of prompts: the median of the ratios of seconds, prompt by prompt, with its interval."""
    pairs = {}
    for answers in rounds:
        for index, (mine, other) in enumerate(zip(answers[name], answers[base])):
            if mine.decoded > 0:
                pairs.setdefault(sets[index], {}).setdefault(index, []).append(other.seconds / mine.seconds)
    return {name: interval(list(groups.values())) for name, groups in pairs.items()}


def interval(groups):
    """Median and its 95 % interval by bootstrap. Whole groups are drawn: the rounds of one prompt are no new prompts."""
    drawing = random.Random(0)
    median = lambda groups: statistics.median(value for group in groups for value in group)
    drawn = sorted(median(drawing.choices(groups, k=len(groups))) for _ in range(DRAWS))
    return {"median": median(groups), "low": drawn[DRAWS * 25 // 1000], "high": drawn[DRAWS * 975 // 1000 - 1]}


def median_seconds(curves):
    """Of several curves {rows: seconds}: the medians."""
    return {rows: statistics.median(curve[rows] for curve in curves) for rows in curves[0]}


def over_one_row(curve):
    return {rows: seconds / curve[1] for rows, seconds in curve.items()}
