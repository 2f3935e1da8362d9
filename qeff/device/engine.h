// SPDX-License-Identifier: Apache-2.0
//
// Runs a model with a cache of keys and values: a token is computed once,
// whatever is appended after it. Several sequences run side by side, each in a
// slot with a position of its own. For taps and gradients use the host forward
// (qeff/transformer).
//
//   EngineOptions options;
//   options.context_length = 512;
//   QEFF_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine,
//                         Engine::Create(model, pool, options));
//   QEFF_ASSIGN_OR_RETURN(absl::Span<const float> logits,
//                         engine->Append(prompt));
//   int32_t next = ...;  // from logits, see sampler.h and generate.h
//   QEFF_ASSIGN_OR_RETURN(logits, engine->Append({next}));

#ifndef QEFF_DEVICE_ENGINE_H_
#define QEFF_DEVICE_ENGINE_H_

#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/device/engine_options.h"
#include "qeff/device/model.h"
#include "qeff/device/op_times.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Tokens to append to a slot.
struct SlotTokens {
  int64_t slot = 0;
  absl::Span<const int32_t> tokens;
  // False for a part of a prompt whose rest comes later: nothing is computed
  // from its logits, so Run leaves them out.
  bool wants_logits = true;
};

// Not thread-safe; engines may share a model and a pool.
class Engine {
 public:
  // Allocates everything that the engine will need: the cache of a slot takes
  // num_layers * context_length * kv_size * 8 bytes in float32, 4 in f16 and
  // about 2 in int8 (address space at once, memory as positions are used; see
  // KvLayout). `pool` must outlive the engine.
  // Errors: kInvalidArgument when the model is not valid (ValidateModel), or an
  // option is out of range: context_length below 1, above 2^24, or above
  // max_positions of a model with learned positions; batch_size or
  // prefill_chunk below 1 or above 2^16; a kv_cache of
  // another type. kResourceExhausted when memory is
  // out, naming the bytes. Positions beyond max_positions are allowed with
  // rope and ALiBi: what a model does there is its own matter.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(
      std::shared_ptr<const DeviceModel> model, ThreadPool* pool,
      const EngineOptions& options);

  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  ~Engine();

  // Runs the tokens of each of `inputs` after those that its slot has and
  // returns the logits after the last one of each that wants them, in order:
  // [inputs that want logits, vocab_size], valid until the next call. They are
  // not checked for NaN. Does not allocate.
  // Errors, with the state as it was: kInvalidArgument for no inputs, an input
  // without tokens, a slot that does not exist or is named twice, or an id
  // outside the vocabulary (index, id and bound are named); kOutOfRange when
  // the context of a slot has no room for all of its tokens.
  // Cost: reads all weights once for prefill_chunk tokens (lm_head for the last
  // ones of each input only), and the cached keys and values that they see.
  // Numerics: float32 with rows of floats, otherwise as EngineOptions says;
  // the same bits for any number of threads, any split of the tokens over
  // calls, and whatever runs in other slots; and on any machine, but for the
  // tables of rope (libm's sine and cosine in double, rounded to float) and for
  // what MatMulBF16 says of subnormal numbers.
  absl::StatusOr<MatrixView<const float>> Run(
      absl::Span<const SlotTokens> inputs);

  // The error that Run would return for `inputs` now, which it would not run.
  absl::Status Check(absl::Span<const SlotTokens> inputs) const;

  // Run for slot 0 alone: the logits after the last token, [vocab_size].
  absl::StatusOr<absl::Span<const float>> Append(
      absl::Span<const int32_t> tokens);

  // Runs the tokens of `input` as Run does, and passes the logits after every
  // one of them: `sink` gets [count, vocab_size] for the tokens from `first`
  // on, in order, valid during the call. Errors as Run.
  absl::Status Score(
      const SlotTokens& input,
      absl::FunctionRef<void(int64_t first, MatrixView<const float> logits)>
          sink);

  // Forgets the tokens of a slot, or of all. Precondition: the slot exists.
  void Reset(int64_t slot);
  void Reset();

  // Forgets the tokens of a slot from `position` on: what is run next gives the
  // bits that it would give had they never been run. Precondition: the slot
  // exists and has at least that many.
  void Truncate(int64_t slot, int64_t position);

  // Number of tokens that a slot has. Precondition: it exists.
  int64_t position(int64_t slot = 0) const;
  const EngineOptions& options() const;
  int64_t context_length() const { return options().context_length; }
  const DeviceModel& model() const;

  // Where the time since Create went.
  const OpTimes& times() const;

 private:
  class Impl;
  explicit Engine(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace qeff

#endif  // QEFF_DEVICE_ENGINE_H_
