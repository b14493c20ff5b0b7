/* What tools/bench_llama_cpp.py measures of llama.cpp, in a process that holds nothing else.
 *
 *     driver about
 *     driver quantize IN.gguf OUT.gguf TYPE THREADS      TYPE is a number of enum llama_ftype
 *     driver tokenize MODEL.gguf TEXT                    ids to stdout, int32
 *     driver run MODEL.gguf PROMPT N THREADS [warm]      greedy text to stdout as it comes, figures to stderr
 *     driver perplexity MODEL.gguf TEXT CONTEXT CHUNKS FIRST THREADS
 *
 * Everything is as llama.cpp has it by default (memory map, repacked weights, f16 cache, flash attention where it
 * thinks fit), but the context: as long as the run needs and no longer, since the cache counts as memory. `warm` runs
 * the prompt once before the run that is timed, as llama-bench does. FIRST is the first token of a chunk that is scored.
 * Figures are one line of JSON. Exit code 1 and a line on stderr where something fails.
 */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "llama.h"

static void fail(const char *what, const char *of) {
    fprintf(stderr, "driver: %s %s\n", what, of);
    exit(1);
}

static void log_errors(enum ggml_log_level level, const char *text, void *user) {
    (void) user;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static double seconds(void) { return 1e-6 * (double) llama_time_us(); }

static char *read_text(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) fail("cannot read", path);
    size_t size = 0, room = 1 << 16;
    char *text = malloc(room + 1);
    for (size_t got; text && (got = fread(text + size, 1, room - size, file)) > 0;) {
        size += got;
        if (size == room) text = realloc(text, (room *= 2) + 1);
    }
    if (!text) fail("no memory for", path);
    fclose(file);
    text[size] = 0;
    return text;
}

static struct llama_model *load(const char *path, bool vocab_only) {
    struct llama_model_params params = llama_model_default_params();
    params.vocab_only = vocab_only;
    struct llama_model *model = llama_model_load_from_file(path, params);
    if (!model) fail("cannot load", path);
    return model;
}

/* Without special tokens: neither added nor found in the text. */
static llama_token *tokenize(const struct llama_model *model, const char *text, int32_t *count) {
    int32_t room = (int32_t) strlen(text) + 1;
    llama_token *ids = malloc((size_t) room * sizeof *ids);
    if (!ids) fail("no memory for", "tokens");
    *count = llama_tokenize(llama_model_get_vocab(model), text, (int32_t) strlen(text), ids, room, false, false);
    if (*count < 0) fail("cannot tokenize", "the text");
    return ids;
}

static struct llama_context *context(struct llama_model *model, uint32_t tokens, uint32_t batch, int threads) {
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = tokens;
    params.n_batch = params.n_ubatch = batch;
    params.n_threads = params.n_threads_batch = threads;
    struct llama_context *made = llama_init_from_model(model, params);
    if (!made) fail("cannot make", "a context");
    return made;
}

static llama_token greedy(struct llama_context *ctx, int32_t vocabulary) {
    const float *logits = llama_get_logits_ith(ctx, -1);
    int32_t best = 0;
    for (int32_t i = 1; i < vocabulary; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static void show(const struct llama_vocab *vocab, llama_token id) {
    char piece[256];
    int32_t length = llama_token_to_piece(vocab, id, piece, sizeof piece, 0, false);
    if (length > 0) fwrite(piece, 1, (size_t) length, stdout);
    fflush(stdout);
}

static void run(const char *path, const char *prompt_path, int n, int threads, bool warm) {
    double start = seconds();
    struct llama_model *model = load(path, false);
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    int32_t vocabulary = llama_vocab_n_tokens(vocab), count;
    llama_token *prompt = tokenize(model, read_text(prompt_path), &count);
    if (!count) fail("no token in", prompt_path);
    struct llama_context *ctx = context(model, (uint32_t) (count + n), count < 512 ? 512 : (uint32_t) count, threads);
    if (warm) {
        if (llama_decode(ctx, llama_batch_get_one(prompt, count))) fail("cannot run", path);
        llama_synchronize(ctx);
        llama_memory_clear(llama_get_memory(ctx), true);
    }

    double loaded = seconds();
    if (llama_decode(ctx, llama_batch_get_one(prompt, count))) fail("cannot run", path);
    llama_token next = greedy(ctx, vocabulary);
    double prefilled = seconds();
    show(vocab, next);
    for (int i = 1; i < n; i++) {
        if (llama_decode(ctx, llama_batch_get_one(&next, 1))) fail("cannot run", path);
        next = greedy(ctx, vocabulary);
        show(vocab, next);
    }
    double done = seconds();
    fprintf(stderr, "{\"load_seconds\": %.6f, \"prompt_tokens\": %d, \"prompt_seconds\": %.6f, \"tokens\": %d, "
            "\"seconds\": %.6f}\n", loaded - start, count, prefilled - loaded, n - 1, done - prefilled);
}

static void perplexity(const char *path, const char *text, int size, int chunks, int first, int threads) {
    struct llama_model *model = load(path, false);
    int32_t vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model)), count;
    llama_token *ids = tokenize(model, read_text(text), &count);
    if (first < 1 || size <= first || count < size) fail("nothing to score in", text);
    if (chunks <= 0 || chunks > count / size) chunks = count / size;
    struct llama_context *ctx = context(model, (uint32_t) size, (uint32_t) size, threads);
    struct llama_batch batch = llama_batch_init(size, 0, 1);
    double start = seconds(), total = 0.0;
    for (int chunk = 0; chunk < chunks; chunk++) {
        const llama_token *at = ids + (size_t) chunk * size;
        batch.n_tokens = size;
        for (int i = 0; i < size; i++) {
            batch.token[i] = at[i];
            batch.pos[i] = i;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = i + 1 >= first && i + 1 < size;
        }
        llama_memory_clear(llama_get_memory(ctx), true);
        if (llama_decode(ctx, batch)) fail("cannot run", path);
        for (int i = first - 1; i + 1 < size; i++) {
            const float *logits = llama_get_logits_ith(ctx, i);
            float most = logits[0];
            for (int32_t j = 1; j < vocabulary; j++)
                if (logits[j] > most) most = logits[j];
            double sum = 0.0;
            for (int32_t j = 0; j < vocabulary; j++) sum += exp((double) logits[j] - most);
            total += log(sum) + most - logits[at[i + 1]];
        }
    }
    double scored = (double) chunks * (size - first);
    fprintf(stderr, "{\"perplexity\": %.8f, \"chunks\": %d, \"scored\": %.0f, \"seconds\": %.3f}\n", exp(total / scored),
            chunks, scored, seconds() - start);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    llama_log_set(log_errors, NULL);
    llama_backend_init();
    if (!strcmp(what, "about")) {
        puts(llama_print_system_info());
    } else if (!strcmp(what, "quantize") && argc == 6) {
        struct llama_model_quantize_params params = llama_model_quantize_default_params();
        params.ftype = (enum llama_ftype) atoi(argv[4]);
        params.nthread = atoi(argv[5]);
        if (llama_model_quantize(argv[2], argv[3], &params)) fail("cannot quantize", argv[2]);
    } else if (!strcmp(what, "tokenize") && argc == 4) {
        int32_t count;
        llama_token *ids = tokenize(load(argv[2], true), read_text(argv[3]), &count);
        fwrite(ids, sizeof *ids, (size_t) count, stdout);
    } else if (!strcmp(what, "run") && (argc == 6 || (argc == 7 && !strcmp(argv[6], "warm")))) {
        run(argv[2], argv[3], atoi(argv[4]), atoi(argv[5]), argc == 7);
    } else if (!strcmp(what, "perplexity") && argc == 8) {
        perplexity(argv[2], argv[3], atoi(argv[4]), atoi(argv[5]), atoi(argv[6]), atoi(argv[7]));
    } else {
        fail("see the head of driver.c for what it takes, not", what);
    }
    return 0;
}
