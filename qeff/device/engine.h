// SPDX-License-Identifier: Apache-2.0
//
// Runs a model one token at a time with a cache of keys and values: a token is
// computed once, whatever is appended after it. For whole sequences, taps and
// gradients use the host forward (qeff/transformer).
//
//   QEFF_ASSIGN_OR_RETURN(
//       std::unique_ptr<Engine> engine,
//       Engine::Create(model, pool, {/*context_length=*/512}));
//   QEFF_ASSIGN_OR_RETURN(absl::Span<const float> logits,
//                         engine->Append(prompt));
//   int32_t next = ...;  // from logits, see sampler.h and generate.h
//   QEFF_ASSIGN_OR_RETURN(logits, engine->Append({next}));

#ifndef QEFF_DEVICE_ENGINE_H_
#define QEFF_DEVICE_ENGINE_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/device/model.h"
#include "qeff/parallel/thread_pool.h"

namespace qeff {

struct EngineOptions {
  // Tokens that fit: prompt and generated ones together.
  int64_t context_length = 0;
};

// Not thread-safe; engines may share a model and a pool.
class Engine {
 public:
  // Allocates everything that the engine will need: the cache takes
  // num_layers * context_length * kv_size * 8 bytes (address space at once,
  // memory as positions are used). `pool` must outlive the engine.
  // Errors: kInvalidArgument when the model is not valid (ValidateModel) or
  // context_length is below 1, above 2^24, or above max_positions of a model
  // with learned positions; kResourceExhausted when memory is out, naming the
  // bytes. Positions beyond max_positions are allowed with rope and ALiBi:
  // what a model does there is its own matter.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(
      std::shared_ptr<const DeviceModel> model, ThreadPool* pool,
      const EngineOptions& options);

  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  ~Engine();

  // Runs `tokens` after those appended before and returns the logits after the
  // last one: [vocab_size], valid until the next call. They are not checked
  // for NaN. Does not allocate.
  // Errors, with the state as it was: kInvalidArgument for no tokens or an id
  // outside the vocabulary (index, id and bound are named);
  // kOutOfRange when the context has no room for all of them.
  // Cost: reads all weights once a token (lm_head for the last one only) and
  // the cached keys and values of the positions that the token sees.
  // Numerics: float32; the same bits for any number of threads and any split
  // of the tokens over calls, and on any machine (but for the tables of rope,
  // which are libm's sine and cosine in double, rounded to float).
  absl::StatusOr<absl::Span<const float>> Append(
      absl::Span<const int32_t> tokens);

  // Forgets all tokens.
  void Reset();

  // Number of tokens appended since the last Reset.
  int64_t position() const;
  int64_t context_length() const;
  const DeviceModel& model() const;

 private:
  class Impl;
  explicit Engine(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace qeff

#endif  // QEFF_DEVICE_ENGINE_H_
