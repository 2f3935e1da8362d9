// SPDX-License-Identifier: Apache-2.0
//
// Where the time of an engine goes.

#ifndef QEFF_DEVICE_OP_TIMES_H_
#define QEFF_DEVICE_OP_TIMES_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace qeff {

// Steps of the forward.
enum class Op : uint8_t {
  kEmbed,       // embeddings and tables of positions
  kNorm,        // norms, residuals
  kQuantize,    // inputs of linear layers to codes or bf16
  kProduct,     // linear layers of the blocks
  kRope,        // limits, norms and rotation of queries and keys
  kAttention,   // with storing keys and values
  kActivation,  // of the feed-forward layer
  kLogits,      // final norm and lm_head
};
inline constexpr size_t kNumOps = 8;

// "embed", "norm", ...
inline absl::string_view OpName(Op op) {
  constexpr absl::string_view kNames[kNumOps] = {
      "embed", "norm",      "quantize",   "product",
      "rope",  "attention", "activation", "logits"};
  return kNames[static_cast<size_t>(op)];
}

// Seconds by the clock, of all threads together once. Not thread-safe. Cost:
// one reading of the clock, about 25 ns, a step.
class OpTimes {
 public:
  double seconds(Op op) const { return seconds_[static_cast<size_t>(op)]; }

  // The work that follows is not counted to what was before.
  void Start() { last_ = Clock::now(); }

  // The time since the last call of either belongs to `op`.
  void Add(Op op) {
    const Clock::time_point now = Clock::now();
    seconds_[static_cast<size_t>(op)] +=
        std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }

 private:
  using Clock = std::chrono::steady_clock;

  std::array<double, kNumOps> seconds_{};
  Clock::time_point last_ = Clock::now();
};

}  // namespace qeff

#endif  // QEFF_DEVICE_OP_TIMES_H_
