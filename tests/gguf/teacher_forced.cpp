// What llama.cpp predicts after every token of a text, given the true tokens before it.
//
// Usage: teacher_forced MODEL TEXT CHUNK THREADS ATTENTION. The text is cut into chunks of CHUNK tokens, each with an empty cache. A line for
// each token: its id, the two most likely ids after it, their logits, and the log-probability of the token that follows (nan after the
// last of a chunk). ATTENTION is f32, or f16 for the default: flash attention, which rounds keys and values to sixteen bits even where the
// cache has them in f32.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "llama.h"

static void fail(const std::string & problem) {
    std::fprintf(stderr, "%s\n", problem.c_str());
    std::exit(1);
}

static std::vector<llama_token> tokens_of(const llama_vocab * vocab, const char * path) {
    std::ifstream file(path);
    if (!file) fail(std::string("cannot read ") + path);
    const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    std::vector<llama_token> tokens(text.size() + 2);
    const int count = llama_tokenize(vocab, text.data(), text.size(), tokens.data(), tokens.size(), true, false);
    if (count < 0) fail("the text cannot be tokenized");
    tokens.resize(count);
    return tokens;
}

static void print_row(llama_token token, const float * logits, int size, llama_token next) {
    int best = 0, second = -1;
    for (int id = 1; id < size; id++) {
        if (logits[id] > logits[best]) {
            second = best;
            best = id;
        } else if (second < 0 || logits[id] > logits[second]) {
            second = id;
        }
    }
    double sum = 0;
    for (int id = 0; id < size; id++) sum += std::exp(double(logits[id]) - logits[best]);
    const double log_probability = next < 0 ? NAN : double(logits[next]) - logits[best] - std::log(sum);
    std::printf("%d %d %d %.9g %.9g %.12g\n", token, best, second, logits[best], logits[second], log_probability);
}

int main(int count, char ** arguments) {
    if (count != 6) fail("usage: teacher_forced MODEL TEXT CHUNK THREADS ATTENTION");
    const int chunk = std::atoi(arguments[3]), threads = std::atoi(arguments[4]);
    llama_log_set([](ggml_log_level level, const char * text, void *) {
        if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
    }, nullptr);
    llama_backend_init();
    llama_model * model = llama_model_load_from_file(arguments[1], llama_model_default_params());
    if (!model) fail("the model does not load");
    const llama_vocab * vocab = llama_model_get_vocab(model);
    llama_context_params parameters = llama_context_default_params();
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = chunk;
    parameters.n_threads = parameters.n_threads_batch = threads;
    if (std::string(arguments[5]) == "f32") {
        parameters.type_k = parameters.type_v = GGML_TYPE_F32;
        parameters.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    }
    llama_context * context = llama_init_from_model(model, parameters);
    if (!context) fail("no context for the model");

    const std::vector<llama_token> tokens = tokens_of(vocab, arguments[2]);
    llama_batch batch = llama_batch_init(chunk, 0, 1);
    for (size_t begin = 0; begin < tokens.size(); begin += chunk) {
        batch.n_tokens = std::min<size_t>(chunk, tokens.size() - begin);
        for (int i = 0; i < batch.n_tokens; i++) {
            batch.token[i] = tokens[begin + i];
            batch.pos[i] = i;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = 1;
        }
        llama_memory_clear(llama_get_memory(context), true);
        if (llama_decode(context, batch) != 0) fail("llama_decode failed");
        for (int i = 0; i < batch.n_tokens; i++) {
            const llama_token next = i + 1 < batch.n_tokens ? tokens[begin + i + 1] : -1;
            print_row(tokens[begin + i], llama_get_logits_ith(context, i), llama_vocab_n_tokens(vocab), next);
        }
    }
    llama_batch_free(batch);
    llama_free(context);
    llama_model_free(model);
}
