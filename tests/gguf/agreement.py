"""Compares what we and llama.cpp predict after every token of one text.

Usage: agreement.py STORAGE OURS THEIRS CONTROL. Each file has a line for each token: its id, the two most likely ids after it, their
logits, and the log-probability of the token that follows. CONTROL is llama.cpp again, with keys and values rounded to sixteen bits: how
much it agrees with itself when something small changes. Fails where less agrees than was promised.

Where activations are rounded to eight bits, a value that lies between two integers falls to either side for the least of reasons, and
thirty layers carry that on. So on quantised files nobody agrees with anybody to 99 %, llama.cpp with itself included; there we promise
to be no further from it than it is from itself. In f32 nothing hides a mistake.
"""

import math
import sys
from typing import NamedTuple

LEAST_TOKENS = 10_000
LEAST_AGREEMENT_F32 = 0.999
# of all tokens: the misses of two comparisons differ by chance by some 0.2 %
MOST_BELOW_CONTROL = 0.01
# relative
MOST_PERPLEXITY = 0.005
# where the most likely tokens differ, the two best logits lie this close to each other, on both sides
MOST_GAP = {"f32": 0.01, "q8_0": 2.5, "q4_1": 2.5}


class Row(NamedTuple):
    token: int
    best: int
    second: int
    logit: float
    second_logit: float
    log_probability: float

    @property
    def gap(self):
        return self.logit - self.second_logit


def read(path):
    with open(path) as lines:
        return [Row(*map(int, words[:3]), *map(float, words[3:])) for words in map(str.split, lines)]


def perplexity(rows):
    known = [row.log_probability for row in rows if not math.isnan(row.log_probability)]
    return math.exp(-sum(known) / len(known))


def compare(ours, theirs):
    assert [row.token for row in ours] == [row.token for row in theirs], "the tokenizers differ"
    misses = [(mine, other) for mine, other in zip(ours, theirs) if mine.best != other.best]
    gaps = sorted(max(mine.gap, other.gap) for mine, other in misses)
    return {
        "tokens": len(ours),
        "agreement": 1 - len(misses) / len(ours),
        "misses": len(misses),
        "swapped": sum(mine.best == other.second and other.best == mine.second for mine, other in misses),
        "median_gap": gaps[len(gaps) // 2] if gaps else 0.0,
        "largest_gap": gaps[-1] if gaps else 0.0,
        "perplexity": perplexity(ours),
        "perplexity_difference": perplexity(ours) / perplexity(theirs) - 1,
    }


def main():
    storage = sys.argv[1]
    ours, theirs, control = map(read, sys.argv[2:])
    found, itself = compare(ours, theirs), compare(control, theirs)
    print(
        f"{storage}: {found['agreement']:.2%} of {found['tokens']} most likely tokens agree with llama.cpp's, whose own agree to "
        f"{itself['agreement']:.2%} when its attention rounds to sixteen bits; {found['misses']} do not, {found['swapped']} of them with "
        f"the two best swapped, and there the two best logits differ by at most {found['largest_gap']:.3g} (median "
        f"{found['median_gap']:.2g}); perplexity {found['perplexity']:.4f}, {found['perplexity_difference']:+.3%} of llama.cpp's"
    )
    least = LEAST_AGREEMENT_F32 if storage == "f32" else itself["agreement"] - MOST_BELOW_CONTROL
    assert found["tokens"] >= LEAST_TOKENS, f"fewer than {LEAST_TOKENS} tokens"
    assert found["agreement"] >= least, f"agreement below {least:.2%}"
    assert found["largest_gap"] <= MOST_GAP[storage], f"a miss outside a gap of {MOST_GAP[storage]}"
    assert abs(found["perplexity_difference"]) <= MOST_PERPLEXITY, f"perplexities differ by more than {MOST_PERPLEXITY:.1%}"


if __name__ == "__main__":
    main()
