"""Throughput of servers with 1 to 16 concurrent streaming requests: ours, adaptive and autoregressive, against llama.cpp's, in turns.

Writes concurrency.json and concurrency.md into --output. Every server gets the same conversations over the OpenAI API, greedy.
"""

import argparse
import concurrent.futures
import http.client
import itertools
import json
import pathlib
import statistics
import subprocess
import tempfile
import time
from typing import NamedTuple

import figures
import llama
from common.output import publish
from common.rounding import rounded
from party import CONTEXT, MAX_NEW_TOKENS, THREADS, free_port

LEVELS = [1, 2, 4, 8, 16]
# of each level, for each of its clients
REQUESTS = 3
ADAPTIVE, AUTOREGRESSIVE, PEER = "ours, adaptive", "ours, autoregressive", "llama.cpp"


class Reply(NamedTuple):
    prompt_tokens: int
    tokens: int
    first_seconds: float
    seconds: float


class OwnServer:
    def __init__(self, binary, strategy):
        self.binary, self.strategy, self.process = binary, strategy, None

    def start(self, file, scratch):
        self.port, self.log = free_port(), scratch / f"{self.strategy}.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [self.binary, "--model", file, "--served-name", "model", "--http-port", str(self.port), "--metrics-port", "0",
                 "--threads", str(THREADS), "--strategy", self.strategy, "--context-length", str(CONTEXT),
                 "--max-concurrent-requests", str(max(LEVELS))], stdout=log, stderr=log)
        for _ in range(480):
            if self.process.poll() is not None:
                raise SystemExit(f"cllm-server ended while it loaded:\n{self.log.read_text()[-2000:]}")
            if ready(self.port):
                return
            time.sleep(0.25)
        raise SystemExit("cllm-server was not ready within two minutes")

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()


def ready(port):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False


def ask(port, messages):
    """One streaming request; seconds are until the first text and until the end."""
    body = {"model": "model", "messages": messages, "max_tokens": MAX_NEW_TOKENS, "temperature": 0, "stream": True,
            "stream_options": {"include_usage": True}}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    begin, first, usage = time.perf_counter(), None, None
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise SystemExit(f"port {port} answers {response.status}: {response.read()[:500]}")
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        if first is None and any(choice["delta"].get("content") for choice in event.get("choices", [])):
            first = time.perf_counter() - begin
        usage = event.get("usage") or usage
    seconds = time.perf_counter() - begin
    return Reply(usage["prompt_tokens"], usage["completion_tokens"], first or seconds, seconds)


def load(port, clients, conversations):
    """All conversations by so many clients at once. Tokens per second of all of them, and what each waited for its first text."""
    begin = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        replies = list(pool.map(lambda messages: ask(port, messages), conversations))
    seconds = time.perf_counter() - begin
    return {
        "tokens_per_second": sum(reply.tokens for reply in replies) / seconds,
        "first_token_seconds": statistics.median(reply.first_seconds for reply in replies),
        "prompt_tokens": sum(reply.prompt_tokens for reply in replies),
    }


def measure(servers, conversations, rounds):
    """Of every level: of every server its loads, one for each round."""
    found = {}
    endless = itertools.cycle(conversations)
    for clients in LEVELS:
        chosen = list(itertools.islice(endless, clients * REQUESTS))
        loads = {name: [] for name in servers}
        for turn in range(rounds):
            names = list(servers)
            for name in names[turn % len(names):] + names[: turn % len(names)]:
                loads[name].append(load(servers[name].port, clients, chosen))
        asked = {name: entries[0]["prompt_tokens"] for name, entries in loads.items()}
        if len(set(asked.values())) > 1:
            raise SystemExit(f"the servers do not read the same prompts: {asked} tokens")
        found[clients] = loads
    return found


def result(found, model, rounds):
    rate = lambda entries: statistics.median(entry["tokens_per_second"] for entry in entries)
    over = lambda loads, name, base: figures.interval(
        [[mine["tokens_per_second"] / other["tokens_per_second"]] for mine, other in zip(loads[name], loads[base])])
    return rounded({
        "command": "make bench-concurrency",
        "model": model,
        "threads": THREADS,
        "max_new_tokens": MAX_NEW_TOKENS,
        "requests_per_client": REQUESTS,
        "rounds": rounds,
        "levels": [
            {
                "concurrent_requests": clients,
                "tokens_per_second": {name: rate(entries) for name, entries in loads.items()},
                "first_token_seconds": {
                    name: statistics.median(entry["first_token_seconds"] for entry in entries) for name, entries in loads.items()},
                "adaptive_over_llama_cpp": over(loads, ADAPTIVE, PEER),
                "adaptive_over_autoregressive": over(loads, ADAPTIVE, AUTOREGRESSIVE),
            }
            for clients, loads in found.items()
        ],
    })


def page(found):
    lines = [
        "# Concurrent requests",
        "",
        f"`{found['command']}`: {found['model']}, {found['threads']} threads for the server, the client on the same machine; streaming requests over the OpenAI",
        f"API, at most {found['max_new_tokens']} tokens each, greedy, {found['requests_per_client']} requests for each client, prompts included in the time; medians of",
        f"{found['rounds']} rounds in turns. llama.cpp's server has 16 slots. Ratios with the 95 % interval of their median.",
        "",
        "| Requests at once | llama.cpp, tokens/s | ours, autoregressive | ours, adaptive | adaptive over llama.cpp | adaptive over autoregressive |",
        "|---|---|---|---|---|---|",
    ]
    ratio = lambda entry: f"{entry['median']:.2f} × ({entry['low']:.2f} to {entry['high']:.2f})"
    for level in found["levels"]:
        rates = level["tokens_per_second"]
        lines.append(
            f"| {level['concurrent_requests']} | {rates[PEER]:.0f} | {rates[AUTOREGRESSIVE]:.0f} | {rates[ADAPTIVE]:.0f} | "
            f"{ratio(level['adaptive_over_llama_cpp'])} | {ratio(level['adaptive_over_autoregressive'])} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    for name in ["server", "llama", "model", "prompts", "output"]:
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    conversations = [json.loads(line)["messages"] for line in options.prompts.read_text().splitlines()]
    # conversations that follow each other are of different sets
    conversations = [conversation for start in range(6) for conversation in conversations[start::6]]
    servers = {
        ADAPTIVE: OwnServer(options.server, "Jacobi"),
        AUTOREGRESSIVE: OwnServer(options.server, "Autoregressive"),
        # a prompt that comes again is computed again
        PEER: llama.Server(options.llama, options=["--no-cache-prompt"], parallel=max(LEVELS)),
    }
    with tempfile.TemporaryDirectory() as scratch:
        try:
            for server in servers.values():
                server.start(options.model, pathlib.Path(scratch))
                load(server.port, 2, conversations[:2])
            found = result(measure(servers, conversations, options.rounds), options.model.name, options.rounds)
        finally:
            for server in servers.values():
                server.stop()
    publish(options.output, "concurrency", found, page(found))


if __name__ == "__main__":
    main()
