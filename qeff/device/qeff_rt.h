/* SPDX-License-Identifier: Apache-2.0
 *
 * The device runtime for programs in C and for whatever can call C: opens a
 * device package, turns text into tokens and back, runs the model and chooses
 * tokens. For C++, qeff_rt_cpp.h frees handles by itself.
 *
 *   qeff_rt_error error;
 *   qeff_rt_package* package;
 *   if (qeff_rt_package_open(QEFF_RT_ABI_VERSION, "model.qeff", &package,
 *                            &error) != QEFF_RT_OK) {
 *     fprintf(stderr, "%s\n", error.message);
 *   }
 *
 * Every function returns a status. After an error, what `out` arguments point
 * to is unchanged, and `error`, unless it is NULL, holds the message. Pointers
 * may be NULL only where that is said; handles are what the functions gave and
 * are freed once. A package is thread-safe, an engine and a sampler are not.
 * No exception leaves the library, and nothing is kept between calls but what
 * handles hold. */

#ifndef QEFF_DEVICE_QEFF_RT_H_
#define QEFF_DEVICE_QEFF_RT_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Changes with every incompatible change of this header. */
#define QEFF_RT_ABI_VERSION 1u

typedef enum qeff_rt_status {
  QEFF_RT_OK = 0,
  QEFF_RT_INVALID_ARGUMENT = 1, /* an argument, or what a file contains */
  QEFF_RT_NOT_FOUND = 2,        /* a file, or a package's tokenizer */
  QEFF_RT_OUT_OF_RANGE = 3,     /* the context, or a buffer, is too small */
  QEFF_RT_RESOURCE_EXHAUSTED = 4,
  QEFF_RT_UNAVAILABLE = 5, /* input and output */
  QEFF_RT_DATA_LOSS = 6,   /* a logit that is not finite */
  QEFF_RT_OTHER = 7
} qeff_rt_status;

/* A message, cut to fit, with a NUL at its end. */
typedef struct qeff_rt_error {
  char message[1024];
} qeff_rt_error;

typedef struct qeff_rt_package qeff_rt_package;
typedef struct qeff_rt_engine qeff_rt_engine;
typedef struct qeff_rt_sampler qeff_rt_sampler;

/* The version that the library was built with. */
uint32_t qeff_rt_abi_version(void);

/* Opens a package, whose file must not be changed until it and its engines are
 * freed. `abi_version` is QEFF_RT_ABI_VERSION: a library of another version
 * refuses it with QEFF_RT_INVALID_ARGUMENT. */
qeff_rt_status qeff_rt_package_open(uint32_t abi_version, const char* path,
                                    qeff_rt_package** package,
                                    qeff_rt_error* error);
/* NULL is allowed. Engines that were made from it stay. */
void qeff_rt_package_free(qeff_rt_package* package);

/* Rows of the embedding: the number of logits. */
int64_t qeff_rt_package_vocab_size(const qeff_rt_package* package);
/* Whether a sequence ends with `token`: 1 or 0. */
int qeff_rt_package_is_end(const qeff_rt_package* package, int32_t token);
/* 1 when the package has a tokenizer, else 0. */
int qeff_rt_package_has_tokenizer(const qeff_rt_package* package);

/* The tokens of `text`, of `text_bytes` bytes; with `add_special` those that a
 * prompt begins with, too. *count becomes their number, also when there are
 * more than `capacity`, which is QEFF_RT_OUT_OF_RANGE; `tokens` may be NULL
 * when `capacity` is 0. */
qeff_rt_status qeff_rt_package_encode(const qeff_rt_package* package,
                                      const char* text, size_t text_bytes,
                                      int add_special, int32_t* tokens,
                                      size_t capacity, size_t* count,
                                      qeff_rt_error* error);

/* The text of `tokens`, without special ones; not terminated by a NUL.
 * *text_bytes and `capacity` as in encode. */
qeff_rt_status qeff_rt_package_decode(const qeff_rt_package* package,
                                      const int32_t* tokens, size_t count,
                                      char* text, size_t capacity,
                                      size_t* text_bytes, qeff_rt_error* error);

/* Text of tokens that come one by one, without special ones. It stays usable
 * when its package is freed. Not thread-safe. */
typedef struct qeff_rt_decoder qeff_rt_decoder;
qeff_rt_status qeff_rt_decoder_create(const qeff_rt_package* package,
                                      qeff_rt_decoder** decoder,
                                      qeff_rt_error* error);
/* NULL is allowed. */
void qeff_rt_decoder_free(qeff_rt_decoder* decoder);

/* *text becomes what is complete with `token`, of *text_bytes bytes, not
 * terminated by a NUL and valid until the next call with this decoder. It may
 * be empty: a UTF-8 sequence that the next token could complete is held back.
 * All texts together, with flush's, are what qeff_rt_package_decode gives for
 * all tokens. After QEFF_RT_INVALID_ARGUMENT for a token that the tokenizer
 * does not have, the decoder is as it was. */
qeff_rt_status qeff_rt_decoder_append(qeff_rt_decoder* decoder, int32_t token,
                                      const char** text, size_t* text_bytes,
                                      qeff_rt_error* error);

/* The same for what was held back, when no more tokens come. The decoder is
 * then as new. */
qeff_rt_status qeff_rt_decoder_flush(qeff_rt_decoder* decoder,
                                     const char** text, size_t* text_bytes,
                                     qeff_rt_error* error);

/* 0 in any field is what the package says or, for threads, all processors. */
typedef struct qeff_rt_engine_options {
  int64_t context_length;
  int64_t batch_size;
  int64_t prefill_chunk;
  int32_t threads;
} qeff_rt_engine_options;

/* `options` may be NULL: all zero. */
qeff_rt_status qeff_rt_engine_create(const qeff_rt_package* package,
                                     const qeff_rt_engine_options* options,
                                     qeff_rt_engine** engine,
                                     qeff_rt_error* error);
/* NULL is allowed. */
void qeff_rt_engine_free(qeff_rt_engine* engine);

/* The options that it was made with: none is 0. */
void qeff_rt_engine_get_options(const qeff_rt_engine* engine,
                                qeff_rt_engine_options* options);

/* Runs `count` tokens after those of slot `slot`, from 0 to batch_size - 1.
 * *logits becomes the logits after the last one, vocab_size numbers that are
 * valid until the next call with this engine. */
qeff_rt_status qeff_rt_engine_append(qeff_rt_engine* engine, int64_t slot,
                                     const int32_t* tokens, size_t count,
                                     const float** logits,
                                     qeff_rt_error* error);

/* Tokens to append to a slot. */
typedef struct qeff_rt_slot_tokens {
  int64_t slot;
  const int32_t* tokens;
  size_t count;
  /* Not 0: no logits, for a part of a prompt whose rest comes later. */
  int32_t skip_logits;
} qeff_rt_slot_tokens;

/* As append, for several slots together, which costs less than one after the
 * other: weights are read once for all. Each slot may be named once. *logits
 * becomes vocab_size numbers for each input that does not skip them, in order,
 * one after the other, or NULL when all do. On an error nothing is appended to
 * any slot. */
qeff_rt_status qeff_rt_engine_run(qeff_rt_engine* engine,
                                  const qeff_rt_slot_tokens* inputs,
                                  size_t count, const float** logits,
                                  qeff_rt_error* error);

/* Number of tokens that a slot has, or -1 when there is no such slot. */
int64_t qeff_rt_engine_position(const qeff_rt_engine* engine, int64_t slot);

/* Forgets the tokens of a slot. */
qeff_rt_status qeff_rt_engine_reset(qeff_rt_engine* engine, int64_t slot,
                                    qeff_rt_error* error);

/* As SamplerOptions (sampler.h): all 0 but top_p = 1 and
 * repetition_penalty = 1 is greedy. */
typedef struct qeff_rt_sampler_options {
  double temperature;
  double top_p;
  double min_p;
  double repetition_penalty;
  int64_t top_k;
  uint64_t seed;
} qeff_rt_sampler_options;

/* `options` may be NULL: greedy. Chooses among the tokens that the tokenizer
 * has, or all without one. */
qeff_rt_status qeff_rt_sampler_create(const qeff_rt_package* package,
                                      const qeff_rt_sampler_options* options,
                                      qeff_rt_sampler** sampler,
                                      qeff_rt_error* error);
/* NULL is allowed. */
void qeff_rt_sampler_free(qeff_rt_sampler* sampler);

/* Tokens of the prompt, which the repetition penalty applies to. */
void qeff_rt_sampler_accept(qeff_rt_sampler* sampler, const int32_t* tokens,
                            size_t count);

/* Chooses a token from logits, vocab_size numbers as an engine gives them, and
 * accepts it. QEFF_RT_DATA_LOSS when one that may be chosen is not a number or
 * infinite: the weights are no good, or numbers became too large. */
qeff_rt_status qeff_rt_sampler_next(qeff_rt_sampler* sampler,
                                    const float* logits, int32_t* token,
                                    qeff_rt_error* error);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* QEFF_DEVICE_QEFF_RT_H_ */
