"""Small random models of every family with the logits that transformers computes for them.

Usage: make_golden.py FOLDER. For each case FOLDER/NAME holds config.json as transformers writes it, model.safetensors (bf16, so that it
is small; widened to f32 everywhere) and golden.safetensors: `tokens` [context] and the f32 `logits` [rows, vocabulary] of `rows` [rows].
The text is as long as the context. Weights are drawn by a generator of our own: torch's changes between versions.
"""

import pathlib
import shutil
import sys

import numpy
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

CONTEXT = 160
KEPT_ROWS = sorted({*range(0, CONTEXT, 9), 1, 2, 62, 64, 65, 127, 128, CONTEXT - 1})

SHAPE = {
    "vocab_size": 48,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": None,
    "eos_token_id": 0,
}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 40}

# The fields of published configurations, under the names of their time; sizes are shrunk.
CASES = {
    "llama2": {"model_type": "llama", "rms_norm_eps": 1e-5, "num_key_value_heads": 4, "rope_scaling": None},
    "llama3": {"model_type": "llama", "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
    "llama-bias": {"model_type": "llama", "attention_bias": True, "rope_theta": 300.0},
    "smollm2": {"model_type": "llama", "rope_theta": 100000.0, "tie_word_embeddings": True, "num_attention_heads": 3, "num_key_value_heads": 1},
    "deepseek-coder": {"model_type": "llama", "rope_theta": 100000.0, "rope_scaling": {"type": "linear", "factor": 4.0}},
    "mistral-window": {"model_type": "mistral", "sliding_window": 13},
    "mistral": {"model_type": "mistral", "sliding_window": None, "rope_theta": 1000000.0, "head_dim": 10},
    "qwen2": {"model_type": "qwen2", "rope_theta": 1000000.0, "use_sliding_window": False, "sliding_window": 20, "max_window_layers": 1, "tie_word_embeddings": True},
    "qwen2-window": {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 20, "max_window_layers": 1},
    "qwen3": {"model_type": "qwen3", "rope_theta": 1000000.0, "head_dim": 8, "tie_word_embeddings": True},
    "qwen3-window": {"model_type": "qwen3", "attention_bias": True, "head_dim": 14, "use_sliding_window": True, "sliding_window": 66, "max_window_layers": 0},
}


def fill(model, random):
    """Matrices large enough for logits to depend on the whole context, norms near one, biases near zero; all exact in bf16."""
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            values = random.uniform(-1.0, 1.0, size=tuple(weight.shape))
            if weight.dim() == 2:
                values *= 3.0 / weight.shape[1] ** 0.5
            elif not name.endswith(".bias"):
                values = 1.0 + 0.3 * values
            weight.copy_(torch.from_numpy(values).to(torch.bfloat16).to(weight.dtype))


def make(folder, name, fields, seed):
    config = AutoConfig.for_model(**{**SHAPE, **fields})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    random = numpy.random.RandomState(seed)
    fill(model, random)
    tokens = torch.from_numpy(random.randint(1, SHAPE["vocab_size"], size=CONTEXT))
    with torch.no_grad():
        logits = model(tokens[None], use_cache=False).logits[0]
    assert torch.isfinite(logits).all()
    # as f32, so that the configuration says so; the weights are stored in half of that
    model.config.save_pretrained(folder)
    tied = config.tie_word_embeddings
    weights = {key: value for key, value in model.state_dict().items() if not (tied and key == "lm_head.weight")}
    save_file({key: value.to(torch.bfloat16).contiguous() for key, value in sorted(weights.items())}, folder / "model.safetensors", {"format": "pt"})
    golden = {"tokens": tokens.to(torch.int32), "rows": torch.tensor(KEPT_ROWS, dtype=torch.int32), "logits": logits[KEPT_ROWS].contiguous()}
    save_file(golden, folder / "golden.safetensors")
    largest = logits.abs().max().item()
    print(f"{name}: {sum(value.numel() for value in weights.values())} weights, largest logit {largest:.2f}")


def main():
    folder = pathlib.Path(sys.argv[1])
    for seed, (name, fields) in enumerate(CASES.items()):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
        make(folder / name, name, fields, seed)


if __name__ == "__main__":
    main()
