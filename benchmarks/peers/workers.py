"""Parties that are Python packages: each a process of its own, with the python of its own environment.

They speak JSON lines. In: {"file"}, then {"ids", "text", "max_new_tokens"} for each prompt. Out: {"ready"}, then
{"tokens" or null, "decoded", "seconds"}; or {"unavailable": why}.
"""

import json
import os
import pathlib
import subprocess

from party import MAX_NEW_TOKENS, THREADS, Answer, Party, Unavailable

HERE = pathlib.Path(__file__).parent


class Worker(Party):
    def __init__(self, name, python, script):
        self.name, self.python, self.script = name, python, script
        self.process = None

    def start(self, file, scratch):
        if not self.python:
            raise Unavailable("its virtual environment could not be made.")
        threads = {name: str(THREADS) for name in ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"]}
        self.log = scratch / f"{self.script}.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [self.python, HERE / self.script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                env={**os.environ, **threads, "HF_HUB_OFFLINE": "1"})
        self.ask({"file": str(file)})

    def answer(self, prompts):
        def one(prompt):
            found = self.ask({"ids": prompt.ids, "text": prompt.text, "max_new_tokens": MAX_NEW_TOKENS})
            return Answer(found["tokens"], found["decoded"], found["seconds"])
        return [one(prompt) for prompt in prompts]

    def ask(self, question):
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        # what else a package prints is passed over
        for line in self.process.stdout:
            if line.startswith("{"):
                found = json.loads(line)
                if "unavailable" in found:
                    raise Unavailable(found["unavailable"])
                return found
        lines = self.log.read_text(errors="replace").strip().splitlines()
        raise Unavailable(f"it ended with code {self.process.wait()}: {(lines or ['nothing said'])[-1]}")

    def stop(self):
        if self.process:
            self.process.stdin.close()
            self.process.kill()
            self.process.wait()


def serve(load, decode):
    """The other end of the pipe: `load(file)` gives what `decode(loaded, question)` needs; it gives tokens, decoded, seconds."""
    say = lambda message: print(json.dumps(message), flush=True)
    try:
        loaded = load(json.loads(input())["file"])
        say({"ready": True})
        while True:
            tokens, decoded, seconds = decode(loaded, json.loads(input()))
            say({"tokens": tokens, "decoded": decoded, "seconds": seconds})
    except EOFError:
        pass
    except BaseException as error:
        # a package may panic in ways of its own; whatever it is, it is the reason
        say({"unavailable": f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"})
