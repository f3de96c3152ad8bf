"""The JSON of a table as a page and a plot. Pure."""

from common import plot
from common.markdown import minutes, options, table, with_ends

# figure: what it is called and how it is written
ROWS = {
    "tokens_per_forward": ("tokens per forward, n = {n}, without lookup", "{:.2f}"),
    "tokens_per_forward_with_lookup": ("tokens per forward with lookup", "{:.2f}"),
    "tokens_per_forward_of_target_with_lookup": ("the target's with lookup", "{:.2f}"),
    "tokens_per_forward_of_control": ("the control's without lookup", "{:.2f}"),
    "over_target": ("decoding at the fastest block size, over the target autoregressively", "{:.2f}"),
    "over_target_at_block_size": ("decoding with n = {n}, over the target autoregressively", "{:.2f}"),
    "over_target_with_lookup": ("decoding at the fastest block size, over the target's fastest with lookup", "{:.2f}"),
    "over_own_autoregressive": ("decoding at the fastest block size, over itself autoregressively", "{:.2f}"),
    "tokens_per_second_of_target": ("tokens per second of decoding, the target autoregressively", "{:.0f}"),
    "tokens_per_second": ("the CLLM at the fastest block size", "{:.0f}"),
    "measured_over_predicted": ("clock over tokens per forward × t(1)/t(n), least and most of all seeds", "{:.2f}"),
    "quality_target": ("right answers of the target, %", "{:.2f}"),
    "quality_control": ("of the control, %", "{:.2f}"),
    "quality": ("of the CLLM, %", "{:.2f}"),
    "points_lost_to_target": ("points lost against the target", "{:+.2f}"),
    "points_lost_to_control": ("points lost against the control", "{:+.2f}"),
    "agreement": ("the CLLM answers as the target does, token for token, %", "{:.1f}"),
    "agreement_of_control": ("so does the control, %", "{:.1f}"),
}


def page(found, name):
    """`name`: of the plot beside it."""
    lines = [f"# {found['title']}", "", *lead(found), *main_table(found), *seed_by_seed(found), *goals(found["goals"])]
    lines += [*clock(found, name), *times(found["seeds"]), *recipe(found)]
    return "\n".join(lines)


def lead(found):
    conditions = found["conditions"]
    machine = ", ".join([conditions["hardware"], f"{conditions['threads']} threads", conditions["instructionSet"], conditions["dtype"]])
    version = f"cllm {conditions['cllmVersion']}" + (f" at {conditions['commit']}" if conditions["commit"] else "")
    measured, whole = conditions["prompts"], conditions["prompts_of_split"]
    split = "the whole test split" if measured == whole else f"of {whole} of the test split"
    return [
        f"`{found['command']}` on {machine}, {version}: models of {conditions['parameters'] / 1e6:.1f} million parameters, {measured} prompts of {conditions['dataset']} ({split}),",
        f"judged by {conditions['metric']}, greedy, at most {conditions['maxNewTokens']} new tokens. The *control* is the same target after the same steps on the same answers with the",
        "cross-entropy alone. Means of all seeds with 95 % intervals by bootstrap over prompts and seeds, both sides of a comparison from the same draws; *over* is a ratio of tokens per",
        "second in one run, decoding only.",
        "",
    ]


def main_table(found):
    seeds, size = found["seeds"], found["conditions"]["block_size"]
    heads = ["", "mean (95 %)", *(f"seed {seed['seed']}" for seed in seeds)]
    rows = []
    for name, (words, form) in ROWS.items():
        figure = found["figures"][name]
        singles = [form.format(seed["figures"][name]) if name in seed["figures"] else "" for seed in seeds]
        written = [form.format(figure[end]) for end in ["mean", "low", "high"]]
        rows.append([words.format(n=size), f"{written[0]} ({written[1]} to {written[2]})", *singles])
    return table(heads, rows)


def seed_by_seed(found):
    """What has no interval: end to end, perplexity, how blocks become right."""
    seeds = found["seeds"]
    listed = lambda value: ", ".join(f"{value(seed):.3f}" for seed in seeds)
    end_to_end = ", ".join(f"{seed['over_target_end_to_end']:.2f}" for seed in seeds)
    counts = lambda side, what: ", ".join(f"{seed['convergence'][side][what]:.2f}" for seed in seeds)
    return [
        f"Seed by seed: with prompts and tokenisation included, the fastest is {end_to_end} times the target. Perplexity of the target's answers, over the target's own, is {listed(lambda seed: seed['perplexity_ratio']['cllm'])} for the CLLM, "
        f"{listed(lambda seed: seed['perplexity_ratio']['control'])} for the control.",
        f"An iteration fast-forwards {counts('cllm', 'fastForwarded')} tokens (the target: {counts('target', 'fastForwarded')}), and a block has {counts('cllm', 'stationary')} stationary "
        f"tokens ({counts('target', 'stationary')}), counted as the paper does.",
        "",
    ]


def goals(found):
    if not found:
        return []
    rows = [[ROWS[goal["figure"]][0].replace(", n = {n}", ""), f"{goal['wanted']} {goal['goal']}", "reached" if goal["reached"] else "**not reached**"] for goal in found]
    return ["## Goals", "", *table(["figure", "goal", ""], rows)]


def clock(found, name):
    heads = ["seed", "n", "tokens per forward", "t(n)/t(1)", "predicted", "measured", "measured over predicted"]
    rows = [
        [seed["seed"], entry["block_size"], *(f"{entry[column]:.2f}" for column in ["tokens_per_forward", "forward_cost", "predicted", "measured", "measured_over_predicted"])]
        for seed in found["seeds"] for entry in seed["predictions"]]
    return ["## Forwards and the clock", "", "Decoding over the target autoregressively, at the block size of the trajectories and at the fastest one.", "",
            *table(heads, rows), f"![by block size]({name}.svg)", ""]


def times(seeds):
    names = list(dict.fromkeys(stage for seed in seeds for stage in seed["seconds"]))
    cell = lambda seed, stage: minutes(seed["seconds"][stage]) + attempts(seed["attempts"][stage]) if stage in seed["seconds"] else ""
    rows = [[stage, *(cell(seed, stage) for seed in seeds)] for stage in names]
    return ["## Times", "", *table(["", *(f"seed {seed['seed']}" for seed in seeds)], rows)]


def attempts(count):
    return "" if count == 1 else f" in {count} attempts"


def recipe(found):
    lines = ["## The recipe", "", *table(["stage", "options"], [[f"`{stage}`", options(section)] for stage, section in found["recipe"].items()])]
    choice = found["choice"]
    if choice:
        rows = [
            [entry["name"] + (" (chosen)" if entry["chosen"] else ""), *(f"{entry['figures'][name]:.2f}" for name in ["tokens_per_forward", "quality_target", "quality"]),
             f"{entry['figures']['points_lost']:+.2f}", minutes(entry["seconds"]["train"])]
            for entry in choice["candidates"]]
        heads = ["candidate, on the dev split", "tokens per forward", "right, target, %", "right, %", "points lost", "training"]
        lines += ["How it was chosen, by the dev split alone:", "", choice["rule"], "", *table(heads, rows)]
    else:
        lines += ["There was nothing to choose: one recipe was declared.", ""]
    return lines


def drawn(found):
    """By block size: the clock with its prediction, and tokens per forward; bars are from the least seed to the most."""
    panels = {"over the target autoregressively": {"measured": "measured", "t(1)/t(n) predicts": "predicted"}, "tokens per forward": {"measured": "tokens_per_forward"}}
    curves = {panel: {series: spreads(found["seeds"], column) for series, column in columns.items()} for panel, columns in panels.items()}
    return plot.lines(found["title"], "n", "", curves, own_scales=True)


def spreads(seeds, column):
    values = {}
    for seed in seeds:
        for point in seed["block_sizes"]:
            values.setdefault(point["block_size"], []).append(point[column])
    return {size: plot.Spread(min(found), sum(found) / len(found), max(found)) for size, found in values.items()}
