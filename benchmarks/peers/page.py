"""`peers.json` as a page and its curves as a plot."""

import figures
from common import plot as drawing


def page(found):
    conditions = found["conditions"]
    lines = [
        "# Against others",
        "",
        f"`{found['command']}` on {conditions['hardware']}, {conditions['threads']} threads, {conditions['instructionSet']}: all parties open the same",
        f"GGUF files and get the same token ids, at most {conditions['maxNewTokens']} new tokens each, greedy, one prompt at a time, in turns. Figures are",
        f"medians of {conditions['rounds']} rounds, ratios are taken within a round; what is less than half as fast as llama.cpp",
        "in the first round is not asked again. Decoding only, without the prompt. llama.cpp is built for this",
        f"processor, from the sources that llama-cpp-python carries ({', '.join(conditions['peers'])}). The f32 and q8_0 files of SmolLM2 have the values of the published",
        "Q4_1 file. SmolLM2 is no CLLM: on it Jacobi decoding is not expected to gain, and adaptive decoding should lose nothing.",
        "",
    ]
    for file in found["files"]:
        lines += section(file)
    if not any(file["is_cllm"] for file in found["files"]):
        lines += ["A CLLM was not measured: `CLLM_BENCH_CLLM=FOLDER make bench-peers` does.", ""]
    return "\n".join(lines + cost_section(found))


def section(file):
    sets = ", ".join(f"{count} {name}" for name, count in file["prompts"].items())
    lines = [
        f"## {file['model']} in {file['storage']}",
        "",
        f"Prompts: {sets}.",
        "",
        "| | Tokens per second | Over llama.cpp | Tokens per forward | Same tokens before the first difference |",
        "|---|---|---|---|---|",
    ]
    for name, party in file["parties"].items():
        same, per_forward = party["same_tokens_before_first_difference"], party["tokens_per_forward"]
        lines.append(
            f"| {name} | {party['tokens_per_second']:.0f} | {party['over_llama_cpp']:.2f} × | {number(per_forward)} | "
            f"{'-' if same is None else f'{same:.0%}'} |")
    lines += [f"| {name} | cannot: {cell(reason)} | | | |" for name, reason in file["unavailable"].items()]
    return [*lines, "", *paired(file), ""]


def paired(file):
    lines = [
        "Adaptive over autoregressive, prompt by prompt, median with its 95 % interval:", "", "| Prompts | Ratio |", "|---|---|"]
    for name, ratio in file["adaptive_over_autoregressive"].items():
        lines.append(f"| {name} | {ratio['median']:.2f} × ({ratio['low']:.2f} to {ratio['high']:.2f}) |")
    return lines


def cost_section(found):
    lines = [
        "## What forwards of several rows cost",
        "",
        "t(n)/t(1), SmolLM2. Ours: n tokens of one text, logits of all. llama.cpp's batched bench: one token of each of n texts. candle:",
        "its matrix products of those shapes alone.",
        "",
        "![t(n)/t(1) by storage](forward-cost.svg)",
        "",
    ]
    for storage, series in curves(found).items():
        rows = sorted(next(iter(series.values())))
        lines += [f"| {storage} | " + " | ".join(f"n = {row}" for row in rows) + " |", "|---" * (len(rows) + 1) + "|"]
        lines += [f"| {name} | " + " | ".join(f"{curve[row]:.2f}" for row in rows) + " |" for name, curve in series.items()]
        lines.append("")
    return lines


def plot(found):
    return drawing.lines("Cost of a forward, SmolLM2-135M", "rows n", "t(n)/t(1)", curves(found))


def curves(found):
    """{storage: {party: {rows: t(n)/t(1)}}}"""
    series = {}
    for file in found["files"]:
        if not file["is_cllm"]:
            candle = found["candle_forward_seconds"].get(file["storage"])
            seconds = {**file["forward_seconds"], **({"candle": candle} if candle else {})}
            series[file["storage"]] = {name: figures.over_one_row(curve) for name, curve in seconds.items()}
    return series


def number(value):
    return "-" if value is None else f"{value:.2f}"


def cell(words):
    return words.replace("|", "/").replace("<", "&lt;")
