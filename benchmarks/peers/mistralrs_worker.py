"""mistral.rs on a GGUF file, as the other end of workers.py. It takes text, and its own seconds are after the prompt."""

import pathlib

from mistralrs import CompletionRequest, Runner, Which
from workers import serve


def load(file):
    path = pathlib.Path(file)
    # no prompt is answered from the cache of an earlier one
    return Runner(which=Which.GGUF(quantized_model_id=str(path.parent), quantized_filename=path.name), max_seqs=1, prefix_cache_n=0)


def decode(runner, question):
    request = CompletionRequest(
        model="default", prompt=question["text"], max_tokens=question["max_new_tokens"], temperature=0.0, top_k=1)
    usage = runner.send_completion_request(request).usage
    if usage.prompt_tokens != len(question["ids"]):
        raise ValueError(f"it makes {usage.prompt_tokens} tokens of a prompt of {len(question['ids'])}.")
    return None, usage.completion_tokens - 1, usage.total_completion_time_sec


if __name__ == "__main__":
    serve(load, decode)
