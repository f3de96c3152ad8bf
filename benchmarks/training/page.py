"""`training.json` as a page."""

import profiles
from result import OURS, TORCH
from settings import ADAPT, TRAIN

STAGES = {ADAPT: "`adapt`: supervised fine-tuning", TRAIN: "`train`: consistency training"}


def page(found):
    conditions = found["conditions"]
    lines = [
        "# Training against eager PyTorch",
        "",
        f"`{found['command']}` on {conditions['hardware']}, {conditions['instructionSet']}: `cllm-trainer` {conditions['cllmVersion']} and the same",
        f"model, weights, examples and loss in eager PyTorch ({', '.join(conditions['peers'])}, no `torch.compile`), both in f32 with {conditions['threads']} threads on the",
        f"same {conditions['threads']} processors, in turns, {conditions['rounds']} rounds. Rows are the inputs of a forward, without padding: a step computes logits, loss, gradients,",
        "clipping and AdamW. Figures are medians of the rounds; ratios are taken within a round, with their least and most.",
        "",
        "| Model | Stage | Examples a step | Rows a step | Rows per second, ours | Rows per second, PyTorch | Ours over PyTorch |",
        "|---|---|---|---|---|---|---|",
        *(speed_row(run) for run in found["runs"]),
        "",
        "Above 1 ours is faster.",
        "",
        *conditions_section(found),
    ]
    for run in found["runs"]:
        lines += profile_section(run)
    return "\n".join(lines)


def name(run):
    return f"{run['size']}, {run['parameters'] / 1e6:.1f} M parameters"


def speed_row(run):
    rates, ratio = run["rows_per_second"], run["ours_over_torch"]
    return (f"| {name(run)} | `{run['stage']}` | {run['batch_size']} | {run['rows_of_step']:.0f} | {rates[OURS]:.0f} | {rates[TORCH]:.0f} | "
            f"{ratio['median']:.2f} × ({ratio['low']:.2f} to {ratio['high']:.2f}) |")


def conditions_section(found):
    lines = [
        "## The same, and PyTorch's best",
        "",
        "On one batch both losses of the first step must agree within 0.001, those of the next steps within 0.01, or there is no page. PyTorch",
        "computes no padding in its products either; how it attends was tried first, and the fastest way is what is timed (rows per second of the trial).",
        "",
        "| Model | Stage | Largest difference of the first losses | Of later ones | PyTorch's attention |",
        "|---|---|---|---|---|",
    ]
    for run in found["runs"]:
        differences, attention = run["loss_differences"], run["torch_attention"]
        tried = ", ".join(f"{way} {rate:.0f}" for way, rate in attention["rows_per_second"].items())
        lines.append(f"| {name(run)} | `{run['stage']}` | {differences['first']:.1e} | {differences['later']:.1e} | {attention['chosen']} ({tried}) |")
    return [*lines, ""]


def profile_section(run):
    lines = [f"## Where the time goes: {name(run)}, {STAGES[run['stage']]}", ""]
    known = {side: profile for side, profile in run["profiles"].items() if "unavailable" not in profile}
    if known:
        lines += ["| | " + " | ".join(known) + " |", "|---" * (len(known) + 1) + "|"]
        for class_ in [*profiles.CLASSES, profiles.OTHER]:
            lines.append(f"| {class_} | " + " | ".join(f"{profile['classes'][class_]:.0%}" for profile in known.values()) + " |")
        lines.append("")
    for side, profile in run["profiles"].items():
        if side in known:
            top = ", ".join(f"`{symbol}` {share:.0%}" for symbol, share in profile["top"].items())
            lines += [f"The costliest of {side}: {top}.", ""]
        else:
            lines += [f"No profile of {side}: {profile['unavailable']}", ""]
    return lines
