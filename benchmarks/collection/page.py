"""`collection.json` as a page."""

BATCHED, SINGLE, REFERENCE = "batched", "single", "reference"

WAYS = {
    BATCHED: "many texts at a time, as many as fill the forwards of a thread",
    SINGLE: "one text at a time on each thread (`--concurrency=1`)",
    REFERENCE: "as the CLLM reference collects: one text at a time, no KV cache",
}


def page(found):
    conditions, trajectories = found["conditions"], found["trajectories"]
    lines = [
        "# Collection of trajectories",
        "",
        f"`{found['command']}` on {conditions['hardware']}, {conditions['threads']} threads, {conditions['instructionSet']}, weights in {conditions['storage']}: `cllm-trainer collect` {conditions['cllmVersion']} of",
        f"`{found['model']}`, {conditions['prompts']} prompts of the training split, blocks of {conditions['blockSize']} tokens, at most {conditions['maxNewTokens']} new tokens, greedy. All ways in turns,",
        f"{conditions['rounds']} rounds; the figures are medians, ratios are taken within a round, with their least and most.",
        "",
        "| Way | Generated tokens per second | Over the reference's way |",
        "|---|---|---|",
        *(row(found, way) for way in WAYS),
        "",
        f"Many at a time over one at a time: {ratio(found['batched_over_single'])}.",
        "",
        f"All ways find the same {trajectories['states']} states of {trajectories['blocks']} blocks ({trajectories['examples']} answers with {trajectories['tokens']} tokens, "
        f"{trajectories['tokensPerForward']} tokens per forward), or there is no page.",
        "",
        "The reference's way is computed with our kernels, on all threads, from the same drafts: each forward computes prompt, answer and block from the",
        "start, and a block ends with a forward that changes nothing. It has logits of the block alone, and blocks end with the answer, which is more than",
        "the reference spares itself. So the ratios are what cache and batches are worth, not what one program is worth over another.",
    ]
    if trajectories["dropped"] > 0:
        lines += ["", f"{trajectories['dropped']} more answers are dropped; ours generates them in its time, and counts their tokens. The reference's way is spared them."]
    return "\n".join(lines) + "\n"


def row(found, way):
    over = found["over_reference"].get(way)
    return f"| {WAYS[way]} | {found['tokens_per_second'][way]:.0f} | {ratio(over) if over else '1'} |"


def ratio(found):
    return f"{found['median']:.2f} × ({found['low']:.2f} to {found['high']:.2f})"
