// SPDX-License-Identifier: Apache-2.0
//
// How an engine runs a model; what a package carries as its defaults.

#ifndef QEFF_DEVICE_ENGINE_OPTIONS_H_
#define QEFF_DEVICE_ENGINE_OPTIONS_H_

#include <cstdint>

#include "qeff/tensor/dtype.h"

namespace qeff {

// What the inputs of linear layers are rounded to.
enum class Activations : uint8_t {
  // What the weights are made for: 8-bit codes, one scale a token, with integer
  // weights; bf16 with packed bf16 weights; float32 with rows of floats.
  kFast,
  // Float32 throughout: slow, for evaluation.
  kFloat32,
};

// What EngineOptions may ask for.
inline constexpr int64_t kMaxContextLength = int64_t{1} << 24;
inline constexpr int64_t kMaxBatchSize = int64_t{1} << 16;
inline constexpr int64_t kMaxPrefillChunk = int64_t{1} << 16;

struct EngineOptions {
  // Tokens that fit a slot: prompt and generated ones together.
  int64_t context_length = 0;
  // Slots: sequences that run side by side.
  int64_t batch_size = 1;
  // Tokens that go through a block together, of one prompt or of several
  // slots. More read the weights less often and need more memory.
  int64_t prefill_chunk = 32;
  Activations activations = Activations::kFast;
  // What keys and values are kept as: kF32, kF16 or kI8 (one scale a position
  // and head).
  DType kv_cache = DType::kF32;
};

}  // namespace qeff

#endif  // QEFF_DEVICE_ENGINE_OPTIONS_H_
