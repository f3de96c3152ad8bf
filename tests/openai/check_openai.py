"""Checks a running server with the official openai client: everything is parsed into its types, every error into its class.

Knows nothing about what the model answers, only that the same question gets the same answer by every way of asking.
"""

import argparse
import sys

import openai
from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

USAGE = {"include_usage": True}
PROMPT = "How many customers are there?"
MESSAGES = [{"role": "user", "content": PROMPT}]
LENGTH = 12


def check_models(client: openai.OpenAI, model: str) -> None:
    listed = list(client.models.list())
    assert [one.id for one in listed] == [model], listed
    retrieved = client.models.retrieve(model)
    assert isinstance(retrieved, Model) and retrieved.object == "model", retrieved


def check_completion(client: openai.OpenAI, model: str) -> None:
    answer = client.completions.create(model=model, prompt=PROMPT, max_tokens=LENGTH, temperature=0, seed=1)
    assert isinstance(answer, Completion) and answer.object == "text_completion", answer
    assert answer.choices[0].finish_reason in ("stop", "length"), answer
    check_usage(answer.usage)
    check_metrics(answer)
    assert answer.system_fingerprint.startswith("cllm-"), answer

    listed = client.completions.create(model=model, prompt=[PROMPT, PROMPT], max_tokens=LENGTH)
    assert [choice.index for choice in listed.choices] == [0, 1], listed
    assert {choice.text for choice in listed.choices} == {answer.choices[0].text}, listed
    assert listed.usage.completion_tokens == 2 * answer.usage.completion_tokens, listed

    chunks = list(client.completions.create(model=model, prompt=PROMPT, max_tokens=LENGTH, stream=True, stream_options=USAGE))
    assert all(isinstance(chunk, Completion) for chunk in chunks)
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == answer.choices[0].text
    check_last_chunk(chunks, answer)


def check_chat(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=MESSAGES, max_completion_tokens=LENGTH, extra_body={"made_up": True}
    )
    assert isinstance(answer, ChatCompletion) and answer.object == "chat.completion", answer
    assert answer.choices[0].message.role == "assistant", answer
    check_usage(answer.usage)
    check_metrics(answer)

    parts = [{"role": "user", "content": [{"type": "text", "text": PROMPT}]}]
    same = client.chat.completions.create(model=model, messages=parts, max_tokens=LENGTH)
    assert same.choices[0].message.content == answer.choices[0].message.content, same

    chunks = list(
        client.chat.completions.create(
            model=model, messages=MESSAGES, max_tokens=LENGTH, stream=True, stream_options=USAGE
        )
    )
    assert all(isinstance(chunk, ChatCompletionChunk) for chunk in chunks)
    assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == answer.choices[0].message.content, text
    check_last_chunk(chunks, answer)


def check_stop(client: openai.OpenAI, model: str) -> None:
    """A stop string that is taken from the middle of an answer cuts it there."""
    whole = client.completions.create(model=model, prompt=PROMPT, max_tokens=LENGTH).choices[0].text
    stop = whole[len(whole) // 2 :][:3]
    if stop:
        cut = client.completions.create(model=model, prompt=PROMPT, max_tokens=LENGTH, stop=[stop]).choices[0]
        assert cut.text == whole[: whole.index(stop)] and cut.finish_reason == "stop", (whole, stop, cut)


def check_sampling(client: openai.OpenAI, model: str) -> None:
    """An answer that was drawn can be drawn again from its seed, whole or streamed; choices are numbered."""
    drawn = client.completions.create(model=model, prompt=PROMPT, max_tokens=LENGTH, temperature=1, top_p=0.95)
    seed = drawn.model_extra["metrics"]["seed"]
    for stream in (False, True):
        again = client.completions.create(
            model=model, prompt=PROMPT, max_tokens=LENGTH, temperature=1, top_p=0.95, seed=seed, stream=stream
        )
        chunks = again if stream else [again]
        assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == drawn.choices[0].text, seed

    several = client.chat.completions.create(
        model=model, messages=MESSAGES, max_tokens=LENGTH, temperature=1.5, n=3, frequency_penalty=0.5, logit_bias={"1": -1}
    )
    assert [choice.index for choice in several.choices] == [0, 1, 2], several
    assert 0 < several.usage.completion_tokens <= 3 * LENGTH, several.usage


def check_usage(usage) -> None:
    assert usage.prompt_tokens > 0 and 0 < usage.completion_tokens <= LENGTH, usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage


def check_metrics(answer) -> None:
    metrics = answer.model_extra["metrics"]
    if answer.usage.completion_tokens > 1:
        assert metrics["tokens_per_forward"] >= 1, metrics
        assert metrics["speculative_decoding"]["num_spec_steps"] > 0, metrics


def check_last_chunk(chunks, answer) -> None:
    last = chunks[-1]
    assert last.choices == [] and last.usage == answer.usage, last
    # the figures themselves follow from how many rows paid at the time
    assert last.model_extra["metrics"].keys() == answer.model_extra["metrics"].keys(), last
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-2].choices[0].finish_reason == answer.choices[0].finish_reason, chunks[-2]
    assert len({chunk.id for chunk in chunks}) == 1


def check_errors(client: openai.OpenAI, model: str) -> None:
    def complete(**changes):
        return lambda: client.completions.create(**({"model": model, "prompt": PROMPT} | changes))

    def chat(**changes):
        return lambda: client.chat.completions.create(**({"model": model, "messages": MESSAGES} | changes))

    for act, kind, code, param in [
        (complete(model="not-served"), openai.NotFoundError, "model_not_found", "model"),
        (chat(model="not-served"), openai.NotFoundError, "model_not_found", "model"),
        (lambda: client.models.retrieve("not-served"), openai.NotFoundError, "model_not_found", "model"),
        (complete(n=2), openai.BadRequestError, "invalid_value", "n"),
        (complete(max_tokens=10_000_000), openai.BadRequestError, "context_length_exceeded", "prompt"),
        (complete(stop=["a"] * 5), openai.BadRequestError, "invalid_value", "stop"),
        (chat(temperature=2.5), openai.BadRequestError, "invalid_value", "temperature"),
        (chat(logprobs=True), openai.BadRequestError, "invalid_value", "logprobs"),
        (chat(messages=[]), openai.BadRequestError, "invalid_value", "messages"),
        (chat(response_format={"type": "json_object"}), openai.BadRequestError, "invalid_value", "response_format"),
    ]:
        error = raised(act, kind)
        assert (error.code, error.param) == (code, param), (error.code, error.param, error.message)
        assert error.type == "invalid_request_error", error.type


def check_key(base_url: str, model: str) -> None:
    stranger = openai.OpenAI(base_url=base_url, api_key="not-a-key", max_retries=0)
    error = raised(lambda: stranger.completions.create(model=model, prompt=PROMPT), openai.AuthenticationError)
    assert error.code == "invalid_api_key", error.code


def raised(act, kind: type[openai.APIStatusError]) -> openai.APIStatusError:
    try:
        answer = act()
    except kind as error:
        assert str(error.message), "an error without words"
        return error
    raise AssertionError(f"expected {kind.__name__}, got {answer}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("base_url", help="for example http://127.0.0.1:8000/v1")
    arguments.add_argument("model", help="the served name")
    arguments.add_argument("--api-key", help="where the server asks for one")
    given = arguments.parse_args()
    client = openai.OpenAI(base_url=given.base_url, api_key=given.api_key or "none", max_retries=0, timeout=120)
    for check in (check_models, check_completion, check_chat, check_stop, check_sampling, check_errors):
        check(client, given.model)
        print(f"ok {check.__name__}")
    if given.api_key:
        check_key(given.base_url, given.model)
        print("ok check_key")
    print(f"openai {openai.__version__}: everything is as it should be", file=sys.stderr)


if __name__ == "__main__":
    main()
