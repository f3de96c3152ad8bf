"""llama.cpp: its server, plain and with each of its own speculations; its lookahead program; its batched bench."""

import json
import re
import subprocess
import time
import urllib.error
import urllib.request

from party import CONTEXT, MAX_NEW_TOKENS, SIZES, THREADS, Answer, Party, Unavailable, free_port

PLAIN = "llama.cpp"
# The defaults look for matches of 12 to 24 tokens, which short answers hardly ever have; so a short one is tried too.
SPECULATIONS = {
    "ngram-simple": [],
    "ngram-simple of 3 for 8": ["--spec-ngram-simple-size-n", "3", "--spec-ngram-simple-size-m", "8"],
    "ngram-map-k": [],
    "ngram-map-k4v": [],
    "ngram-mod": [],
    "ngram-cache": [],
}


class Server(Party):
    def __init__(self, folder, name=PLAIN, options=(), parallel=1):
        self.binary, self.name, self.options, self.parallel = folder / "llama-server", name, list(options), parallel
        self.process = None

    @classmethod
    def speculating(cls, folder, label):
        return cls(folder, f"{PLAIN}, {label}", ["--spec-type", label.split()[0], *SPECULATIONS[label]])

    def start(self, file, scratch):
        self.file, self.scratch, self.port = file, scratch, free_port()
        log = scratch / f"{re.sub('[^a-z0-9]+', '-', self.name)}.log"
        with open(log, "w") as output:
            self.process = subprocess.Popen(
                [self.binary, "--model", file, "--host", "127.0.0.1", "--port", str(self.port), "--threads", str(THREADS),
                 "--ctx-size", str(CONTEXT * self.parallel), "--parallel", str(self.parallel), *self.options], stdout=output, stderr=output)
        for _ in range(480):
            if self.process.poll() is not None:
                raise Unavailable(f"llama-server ended while it loaded: {last_line(log)}")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=1)
                return
            except OSError:
                time.sleep(0.25)
        raise Unavailable("llama-server did not answer within two minutes.")

    def warm_up(self, prompt):
        # one token: what it speculates from must not hold the answer already
        self.complete(prompt, limit=1)

    def begin_round(self, prompt):
        if self.options:
            # some of its speculations draw from all answers that the process ever gave
            self.stop()
            self.start(self.file, self.scratch)
            self.warm_up(prompt)

    def answer(self, prompts):
        return [self.complete(prompt) for prompt in prompts]

    def complete(self, prompt, limit=MAX_NEW_TOKENS):
        answer = self.post("completion", {
            "prompt": prompt.ids, "temperature": 0, "n_predict": limit, "cache_prompt": False, "return_tokens": True})
        timings = answer["timings"]
        return Answer(answer["tokens"], timings["predicted_n"] - 1, timings["predicted_ms"] / 1e3)

    def text_of(self, ids):
        """The text that has these ids, special tokens included."""
        text = self.post("detokenize", {"tokens": ids})["content"]
        again = self.post("tokenize", {"content": text, "add_special": False, "parse_special": True})["tokens"]
        if again != ids:
            raise Unavailable("the token ids of a prompt do not survive decoding and encoding by llama.cpp.")
        return text

    def post(self, path, body):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise Unavailable(f"llama-server answers {error.code} to /{path}: {error.read().decode(errors='replace')[:300]}") from error

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()


class Lookahead(Party):
    """A program for one prompt, given as text; loading is not in its figures."""

    name = f"{PLAIN}, lookahead"

    def __init__(self, folder):
        self.binary = folder / "llama-lookahead"

    def start(self, file, scratch):
        self.file, self.prompt = file, scratch / "lookahead.txt"

    def warm_up(self, prompt):
        """Every answer is a process of its own, so it only has to work."""
        self.decode(prompt, limit=8)

    def answer(self, prompts):
        return [self.decode(prompt) for prompt in prompts]

    def decode(self, prompt, limit=MAX_NEW_TOKENS):
        # the program takes one line break off the end of the file
        self.prompt.write_text(prompt.text + "\n")
        # it may end before its last lines are written; then it is asked again
        for _ in range(5):
            found = self.run(limit)
            if found.keys() >= {"encoded", "decoded"}:
                break
        else:
            raise Unavailable("llama-lookahead ended five times without its figures.")
        if found["encoded"][0] != len(prompt.ids):
            raise Unavailable(f"llama-lookahead makes {found['encoded'][0]} tokens of a prompt of {len(prompt.ids)}.")
        return Answer(None, *found["decoded"])

    def run(self, limit):
        """Tokens and seconds of what it reports, by name."""
        # each of its 31 sequences has its place in the cache
        result = subprocess.run(
            [self.binary, "--model", self.file, "--file", self.prompt, "--no-escape", "--threads", str(THREADS), "--temp", "0",
             "--n-predict", str(limit - 2), "--ctx-size", str(4 * CONTEXT)], capture_output=True, text=True, errors="replace")
        if result.returncode != 0:
            raise Unavailable(f"llama-lookahead ended with code {result.returncode}: {(result.stderr.strip().splitlines() or ['nothing said'])[-1]}")
        figures = re.findall(r"(encoded|decoded)\s+(\d+) tokens in\s+([\d.]+) seconds", result.stdout + result.stderr)
        return {name: (int(tokens), float(seconds)) for name, tokens, seconds in figures}


def forward_seconds(folder, file):
    """By rows: one token of each of so many sequences, logits of all."""
    tokens, before = 16, 64
    result = subprocess.run(
        [folder / "llama-batched-bench", "--model", file, "--threads", str(THREADS), "-c", str((before + tokens) * max(SIZES)),
         "-npp", str(before), "-ntg", str(tokens), "-npl", ",".join(map(str, SIZES)), "--output-format", "jsonl"],
        check=True, capture_output=True, text=True)
    entries = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    return {entry["pl"]: entry["t_tg"] / tokens for entry in entries}


def last_line(log):
    return (log.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1]
