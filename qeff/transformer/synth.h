// SPDX-License-Identifier: Apache-2.0
//
// Checkpoints of random weights in any supported shape: to measure speed and
// memory where no trained model of that size is at hand. Their text is noise.

#ifndef QEFF_TRANSFORMER_SYNTH_H_
#define QEFF_TRANSFORMER_SYNTH_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/dtype.h"
#include "qeff/util/json.h"

namespace qeff {

struct SynthOptions {
  DType dtype = DType::kBF16;  // F32, F16 or BF16
  uint64_t seed = 1;
  // Makes the model as awkward as trained ones can be: one weight in 1024 is
  // 4 to 19 times larger, one norm weight in 64 is 10 times larger, and of
  // every 32 hidden channels the last equals the one before it, so that the
  // inputs of a layer are linearly dependent.
  bool outliers = false;
};

// Writes the model that `config` (a config.json) describes to the new folder
// `folder`, with a byte-level tokenizer that fits it: ids 0 to 2 are <unk>,
// <s> and </s>, the 256 bytes follow. Linear weights have a variance of
// 1 / in_features, embeddings of 1. Streamed: memory does not grow with the
// model. The bytes depend on config and options alone. `progress`, unless
// null, is called from any thread with the elements that were written, and ends
// the work by returning false. Errors, after which nothing is left at `folder`:
// those of MapConfig and CheckpointWriter; kInvalidArgument for a vocabulary
// below 259 or a dtype other than the three; kCancelled by `progress`.
absl::Status WriteSynthCheckpoint(
    const Json& config, const SynthOptions& options, const std::string& folder,
    ThreadPool* pool, const std::function<bool(int64_t)>& progress = nullptr);

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_SYNTH_H_
