"""Our decoding against llama.cpp's on one GGUF file: the same token ids in, greedy, in turns, in one run.

Usage: run.py CLLM LLAMA_FOLDER MODEL PROMPTS OUTPUT_FOLDER [ROUNDS]
Writes OUTPUT_FOLDER/peers.json and peers.md. Figures are medians over the rounds; ratios are taken within a round.
"""

import json
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

THREADS = 2
CONTEXT = 1024
MAX_NEW_TOKENS = 96
SIZES = [2, 4, 8]


def main():
    cllm, llama, model, prompts, output = map(pathlib.Path, sys.argv[1:6])
    rounds = int(sys.argv[6]) if len(sys.argv) > 6 else 5
    with tempfile.TemporaryDirectory() as scratch:
        measured = measure_all(cllm, llama, model, prompts, pathlib.Path(scratch), rounds)
    write(output, model, measured)


def measure_all(cllm, llama, model, prompts, scratch, rounds):
    port = free_port()
    with open(scratch / "llama.log", "w") as log:
        server = subprocess.Popen(
            [llama / "llama-server", "--model", model, "--host", "127.0.0.1", "--port", str(port),
             "--threads", str(THREADS), "--ctx-size", str(CONTEXT), "--parallel", "1"], stdout=log, stderr=log)
        try:
            wait_for(port)
            parties = {"own": lambda: our_round(cllm, model, prompts, scratch),
                       "peer": lambda: their_round(llama, model, port, scratch)}
            # Who begins changes. The first round warms up, and the peer needs the ids that ours writes in it.
            orders = [["own", "peer"], ["peer", "own"]]
            measured = [{name: parties[name]() for name in orders[turn % 2]} for turn in range(rounds + 1)]
        finally:
            server.terminate()
            server.wait()
    return measured[1:]


def our_round(cllm, model, prompts, scratch):
    report, tokens = scratch / "report.json", scratch / "tokens.jsonl"
    subprocess.run(
        [cllm, "bench", "--model", model, "--prompts", prompts, "--block-size", ",".join(map(str, SIZES)),
         "--max-new-tokens", str(MAX_NEW_TOKENS), "--report", report, "--tokens", tokens], check=True, stdout=subprocess.DEVNULL)
    return json.loads(report.read_text())


def their_round(llama, model, port, scratch):
    texts = [json.loads(line) for line in (scratch / "tokens.jsonl").read_text().splitlines()]
    count, seconds, same, checked = 0, 0.0, 0, 0
    for text in texts:
        answer = complete(port, text["prompt"])
        timings = answer["timings"]
        # the first token comes from the prompt, as in our own figures
        count += timings["predicted_n"] - 1
        seconds += timings["predicted_ms"] / 1e3
        pairs = list(zip(answer["tokens"], text["tokens"]))
        same += next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))
        checked += len(pairs)
    bench = subprocess.run(
        [llama / "llama-bench", "--model", model, "--threads", str(THREADS), "--n-prompt", ",".join(map(str, [1, *SIZES])),
         "--n-gen", "0", "--repetitions", "10", "--output", "json"], check=True, capture_output=True, text=True)
    cost = {entry["n_prompt"]: entry["avg_ns"] / 1e9 for entry in json.loads(bench.stdout)}
    return {"tokens_per_second": count / seconds, "forward_cost": cost, "same_before_first_difference": same / checked}


def complete(port, prompt):
    body = {"prompt": prompt, "temperature": 0, "n_predict": MAX_NEW_TOKENS, "cache_prompt": False, "return_tokens": True}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def write(output, model, measured):
    median = lambda figure: round(statistics.median(figure(entry) for entry in measured), 3)
    arm = lambda entry, name, size=None: next(
        arm for arm in entry["own"]["arms"] if arm["strategy"] == name and size in (None, arm["blockSize"]))
    rate = lambda entry, name: arm(entry, name)["decodeTokensPerSecond"]
    own_cost = lambda entry, rows: next(cost["ratio"] for cost in entry["own"]["forwardCost"] if cost["rows"] == rows)
    peer_cost = lambda entry, rows: entry["peer"]["forward_cost"][rows] / entry["peer"]["forward_cost"][1]
    conditions = measured[0]["own"]["conditions"]
    result = {
        "command": "make bench-peers",
        "conditions": {**conditions, "model": model.name, "rounds": len(measured), "dataset": "benchmarks/peers/prompts.jsonl"},
        "tokens_per_second": {
            "ours_autoregressive": median(lambda e: rate(e, "Autoregressive")),
            "ours_adaptive": median(lambda e: rate(e, "AdaptiveJacobi")),
            "llama_cpp": median(lambda e: e["peer"]["tokens_per_second"]),
        },
        "ratios": {
            "autoregressive_over_llama_cpp": median(lambda e: rate(e, "Autoregressive") / e["peer"]["tokens_per_second"]),
            "adaptive_on_plain_model": median(lambda e: rate(e, "AdaptiveJacobi") / rate(e, "Autoregressive")),
            "adaptive_over_llama_cpp": median(lambda e: rate(e, "AdaptiveJacobi") / e["peer"]["tokens_per_second"]),
        },
        "forward_cost_over_one_row": {
            str(rows): {"ours": median(lambda e: own_cost(e, rows)), "llama_cpp": median(lambda e: peer_cost(e, rows))}
            for rows in SIZES
        },
        "same_tokens_before_first_difference": median(lambda e: e["peer"]["same_before_first_difference"]),
    }
    output.mkdir(parents=True, exist_ok=True)
    (output / "peers.json").write_text(json.dumps(result, indent=2) + "\n")
    (output / "peers.md").write_text(table(result))


def table(result):
    conditions, rates, ratios = result["conditions"], result["tokens_per_second"], result["ratios"]
    lines = [
        "# Against llama.cpp",
        "",
        f"`{result['command']}` on {conditions['hardware']}, {conditions['threads']} threads, {conditions['instructionSet']}:",
        f"{conditions['model']} ({conditions['dtype']}), {conditions['prompts']} prompts, at most {conditions['maxNewTokens']} tokens each,",
        f"greedy, one at a time; medians of {conditions['rounds']} rounds in turns. llama.cpp is built for this processor, from the sources",
        "that llama-cpp-python carries. This model is no CLLM: on it Jacobi decoding is not expected to gain.",
        "",
        "| | Tokens per second | Over llama.cpp |",
        "|---|---|---|",
        f"| llama.cpp | {rates['llama_cpp']:.0f} | 1.00 × |",
        f"| ours, autoregressive | {rates['ours_autoregressive']:.0f} | {ratios['autoregressive_over_llama_cpp']:.2f} × |",
        f"| ours, adaptive Jacobi | {rates['ours_adaptive']:.0f} | {ratios['adaptive_over_llama_cpp']:.2f} × |",
        "",
        f"Adaptive over our own autoregressive decoding: {ratios['adaptive_on_plain_model']:.2f} ×.",
        f"Of llama.cpp's tokens {100 * result['same_tokens_before_first_difference']:.0f} % come before the first one that differs from ours.",
        "",
        "| Rows of a forward | t(n)/t(1), ours | t(n)/t(1), llama.cpp |",
        "|---|---|---|",
    ]
    lines += [f"| {rows} | {cost['ours']:.2f} | {cost['llama_cpp']:.2f} |"
              for rows, cost in result["forward_cost_over_one_row"].items()]
    return "\n".join(lines) + "\n"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port):
    for _ in range(240):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
            return
        except OSError:
            time.sleep(0.25)
    raise SystemExit("llama-server does not answer")


if __name__ == "__main__":
    main()
