"""Pure arithmetic on rounds, in which all sides do the same work in turns. A round is {side: seconds} for this work."""

import statistics


def rates(work, rounds):
    """Work per second of each side: median over the rounds."""
    return {side: statistics.median(work / seconds[side] for seconds in rounds) for side in rounds[0]}


def ratio(rounds, side, base):
    """How much faster a side is, within a round: median, least and most of the rounds."""
    found = [seconds[base] / seconds[side] for seconds in rounds]
    return {"median": statistics.median(found), "low": min(found), "high": max(found)}
