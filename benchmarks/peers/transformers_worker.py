"""transformers, greedy, in f32 on the values of a GGUF file, as the other end of workers.py."""

import pathlib
import time

import torch
from transformers import AutoModelForCausalLM

from party import THREADS
from workers import serve


class Clock:
    """A streamer of `generate`: when the first new token came."""

    def __init__(self):
        self.calls, self.first = 0, None

    def put(self, _):
        # the first call brings the prompt
        self.calls += 1
        if self.calls == 2:
            self.first = time.perf_counter()

    def end(self):
        pass


def load(file):
    torch.set_num_threads(THREADS)
    path = pathlib.Path(file)
    return AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()


def decode(model, question):
    ids, clock = torch.tensor([question["ids"]]), Clock()
    with torch.no_grad():
        result = model.generate(ids, max_new_tokens=question["max_new_tokens"], do_sample=False, streamer=clock)
    tokens = result[0, ids.shape[1] :].tolist()
    return tokens, len(tokens) - 1, time.perf_counter() - clock.first


if __name__ == "__main__":
    serve(load, decode)
