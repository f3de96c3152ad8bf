"""`study.json` as a page and plots. Pure."""

from common import plot
from common.markdown import minutes, options, table, with_ends

HEADS = ["tokens per forward", "with lookup", "over the target", "right answers", "points lost", "the same answer as the target",
         "perplexity of the target's answers", "collect", "train"]


def page(found):
    lines = [f"# {found['title']}", "", *lead(found)]
    for axis in found["axes"]:
        lines += section(axis)
    total = minutes(found["seconds"])
    lines += ["## All of it", "", f"{len(found['experiments'])} experiments, {total} of computation. Every figure, seed by seed, is in [`study.json`](study.json).", ""]
    return "\n".join(lines)


def lead(found):
    conditions, base = found["conditions"], found["base"]
    machine = ", ".join([conditions["hardware"], f"{conditions['threads']} threads", conditions["instructionSet"], conditions["dtype"]])
    version = f"cllm {conditions['cllmVersion']}" + (f" at {conditions['commit']}" if conditions["commit"] else "")
    return [
        f"`{found['command']}` on {machine}, {version}: {conditions['prompts']} prompts of {conditions['dataset']}, the dev split, greedy, at most",
        f"{conditions['maxNewTokens']} new tokens. One thing is changed at a time; everything else is the base:",
        "",
        *table(["stage", "options"], [[f"`{stage}`", options(base[stage])] for stage in ["target", "collect", "train", "evaluate"]]),
        f"Figures are of seeds {', '.join(map(str, found['seeds']))} together, which decide over collection and training, with 95 % intervals by",
        "bootstrap over prompts and seeds. Tokens per forward are at the block size of collection; *over the target* is decoding at the fastest block",
        "size over the target autoregressively, in the same run; *points lost* are of right answers, against the target; perplexity is that of the",
        "trained checkpoint over that of the target. Times are means, of all attempts of a stage; a stage that several settings share counts in each.",
        "",
    ]


def section(axis):
    return [
        f"## {axis['title']}", "", axis["question"], "", f"![{axis['title']}]({axis['name']}.svg)", "",
        *table([axis["label"], *HEADS], [row(setting) for setting in axis["settings"]]),
    ]


def row(setting):
    figures, seconds = setting["figures"], setting["seconds"]
    mean = lambda name, digits: f"{figures[name]['mean']:.{digits}f}"
    sizes = ", ".join(map(str, dict.fromkeys(setting["best_block_sizes"])))
    return [
        setting["at"],
        with_ends(figures["tokens_per_forward"]), mean("tokens_per_forward_with_lookup", 2),
        f"{with_ends(figures['over_target'])}, n = {sizes}",
        f"{mean('quality', 1)} %", with_ends(figures["points_lost"], sign=True),
        f"{mean('agreement', 1)} %", f"{setting['perplexity_ratio']:.3f} ×",
        minutes(seconds["collect"]), minutes(seconds["train"]),
    ]


def plots(found):
    """{file name: SVG} of every axis."""
    return {f"{axis['name']}.svg": drawn(axis) for axis in found["axes"]}


def drawn(axis):
    spread = lambda figure: plot.Spread(figure["low"], figure["mean"], figure["high"])
    curve = lambda name: {setting["at"]: spread(setting["figures"][name]) for setting in axis["settings"]}
    figures = {"tokens per forward": "tokens_per_forward", "decoding, over the target": "over_target", "points lost against the target": "points_lost"}
    panels = {words: {"all seeds, 95 %": curve(name)} for words, name in figures.items()}
    return plot.lines(axis["title"], axis["label"], "", panels, own_scales=True)
