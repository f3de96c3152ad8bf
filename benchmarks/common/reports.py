"""What a report of `cllm-trainer evaluate` says, prompt by prompt, and figures that come of sums over prompts. Pure but for reading."""

import json

TARGET, TARGET_LOOKUP, TARGET_LOOKUP_FASTEST = "target", "target with lookup", "target with lookup, fastest"
CLLM, CLLM_LOOKUP, CLLM_FASTEST, CLLM_AUTOREGRESSIVE = "cllm", "cllm with lookup", "cllm, fastest", "cllm, autoregressive"


def read(done):
    """Of a complete stage `evaluate`."""
    (file,) = done.output.glob("*/report.json")
    return json.loads(file.read_text())


def ways(report):
    """{way of decoding: its place among the arms}. Jacobi has the block size of the conditions where nothing else is said."""
    size = report["conditions"]["blockSize"]
    arms = report["arms"]

    def find(checkpoint, strategy, sizes):
        is_wanted = lambda arm: (arm["checkpoint"], arm["strategy"]) == (checkpoint, strategy) and (not sizes or arm["blockSize"] in sizes)
        return max((at for at, arm in enumerate(arms) if is_wanted(arm)), key=lambda at: arms[at]["decodeTokensPerSecond"])

    return {
        TARGET: find("Target", "Autoregressive", None),
        TARGET_LOOKUP: find("Target", "JacobiWithLookup", {size}),
        TARGET_LOOKUP_FASTEST: find("Target", "JacobiWithLookup", None),
        CLLM_AUTOREGRESSIVE: find("Cllm", "Autoregressive", None),
        CLLM: find("Cllm", "Jacobi", {size}),
        CLLM_LOOKUP: find("Cllm", "JacobiWithLookup", {size}),
        CLLM_FASTEST: find("Cllm", "Jacobi", {report["speedup"]["bestBlockSize"]}),
    }


def table(report, names):
    """{column: a number for each prompt}, in the order of the data set, with what each of these ways took. Tokens are those after the first,
    which the prompt gives.
    """
    prompts = sorted(report["prompts"], key=lambda prompt: prompt["index"])
    columns = {
        "prompts": [1] * len(prompts),
        "agreeing": [int(prompt["agreesWithTarget"]) for prompt in prompts],
        "target, right": [int(prompt["targetCorrect"]) for prompt in prompts],
        "cllm, right": [int(prompt["cllmCorrect"]) for prompt in prompts],
    }
    places = ways(report)
    for way in names:
        arms = [prompt["arms"][places[way]] for prompt in prompts]
        columns[f"{way}: tokens"] = [arm["tokens"] - 1 for arm in arms]
        columns[f"{way}: forwards"] = [arm["forwards"] for arm in arms]
        columns[f"{way}: seconds"] = [arm["decodeSeconds"] for arm in arms]
    return columns


def indexes(report):
    return sorted(prompt["index"] for prompt in report["prompts"])


def tokens_per_forward(way):
    return lambda sums: sums[f"{way}: tokens"] / max(1, sums[f"{way}: forwards"])


def speed(way):
    """Tokens per second of decoding."""
    return lambda sums: sums[f"{way}: tokens"] / max(1e-9, sums[f"{way}: seconds"])


def speed_over(way, base):
    return lambda sums: speed(way)(sums) / max(1e-9, speed(base)(sums))


def per_cent(column):
    return lambda sums: 100 * sums[column] / sums["prompts"]


def points_lost(before, after):
    return lambda sums: 100 * (sums[before] - sums[after]) / sums["prompts"]


def predictions(report):
    """Of the block size of the conditions and of the fastest: tokens per forward divided by what a forward costs, beside the clock."""
    cost = {entry["rows"]: entry["ratio"] for entry in report["forwardCost"]}
    arms, target = report["arms"], report["arms"][ways(report)[TARGET]]
    found = []
    for at in dict.fromkeys([ways(report)[CLLM], ways(report)[CLLM_FASTEST]]):
        arm = arms[at]
        if arm["blockSize"] in cost:
            predicted = arm["tokensPerForward"] / cost[arm["blockSize"]]
            measured = arm["decodeTokensPerSecond"] / target["decodeTokensPerSecond"]
            found.append({
                "block_size": arm["blockSize"], "tokens_per_forward": arm["tokensPerForward"], "forward_cost": cost[arm["blockSize"]],
                "predicted": predicted, "measured": measured, "measured_over_predicted": measured / predicted})
    return found


def stored(conditions):
    """How weights are stored, of both sides where they differ."""
    target = conditions.get("targetDtype")
    return f"{conditions['dtype']} (the target {target})" if target else conditions["dtype"]


def conditions(found, done):
    """Of reports and stages: every value that occurs, so that a reader sees where there were several."""
    of = lambda name: sorted({str(stored(report["conditions"]) if name == "dtype" else report["conditions"][name]) for report in found})
    shared = {name: ", ".join(of(name)) for name in ["hardware", "threads", "instructionSet", "dtype", "cllmVersion", "maxNewTokens", "sampling"]}
    trainers = sorted({f"{stage.record['trainer']['version']} ({stage.record['trainer']['digest']})" for stage in done})
    return {**shared, "trainers": trainers}
