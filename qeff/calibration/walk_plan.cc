// SPDX-License-Identifier: Apache-2.0

#include "qeff/calibration/walk_plan.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "qeff/calibration/hidden_states.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// The program itself, and what the pages of mapped files add.
constexpr uint64_t kBaseBytes = uint64_t{96} << 20;

uint64_t FloatBytes(int64_t rows, int64_t cols) {
  return static_cast<uint64_t>(rows) * static_cast<uint64_t>(cols) *
         sizeof(float);
}

// k and v have the inputs of q, and up those of gate.
bool SharesInputs(const TransformerSpec& spec, LinearRole role) {
  return role == LinearRole::kK || role == LinearRole::kV ||
         (role == LinearRole::kUp && spec.gated_ffn);
}

// Keys that the tokens of the sample look at, in one layer.
double KeysSeen(const TransformerSpec& spec, const TokenSample& sample) {
  double keys = 0;
  for (const std::vector<int32_t>& sequence : sample.sequences) {
    const int64_t length = static_cast<int64_t>(sequence.size());
    const int64_t window = spec.sliding_window > 0
                               ? std::min(spec.sliding_window, length)
                               : length;
    // The first `window` tokens see all before them, the others as many.
    keys += static_cast<double>(window * (window + 1) / 2 +
                                (length - window) * window);
  }
  return keys;
}

// Sums up the products, and returns the widest layer that is solved.
int64_t CountFlops(const Transformer& model, const TokenSample& sample,
                   const LayerSolver& solver, WalkPlan* plan) {
  const bool gaps = solver.WantsGaps();
  const double streams = gaps ? 2 : 1;
  const double tokens = static_cast<double>(sample.tokens);
  // Half of x x^T; of its gap all, and of what the output is added to.
  const auto hessian_flops = [&](int64_t features, int64_t added_to) {
    const int64_t rows = gaps ? 3 * features + 2 * added_to : features;
    return tokens * static_cast<double>(features) * static_cast<double>(rows);
  };
  const double attention_flops = streams * 4 *
                                 static_cast<double>(model.spec().q_size()) *
                                 KeysSeen(model.spec(), sample);
  int64_t widest = 0;
  if (plan->lm_head) {
    widest = model.spec().hidden_size;
    plan->hessian_flops += hessian_flops(widest, 0);
  }
  for (const BlockNames& block : model.map().blocks) {
    plan->forward_flops += attention_flops;
    for (const LinearModule& linear : block.linears) {
      plan->forward_flops += streams * 2 * tokens *
                             static_cast<double>(linear.in_features) *
                             static_cast<double>(linear.out_features);
      if (!solver.Changes(linear)) continue;
      widest = std::max(widest, linear.in_features);
      if (SharesInputs(model.spec(), linear.role)) continue;
      const bool added =
          linear.role == LinearRole::kO || linear.role == LinearRole::kDown;
      plan->hessian_flops +=
          hessian_flops(linear.in_features, added ? linear.out_features : 0);
    }
  }
  return widest;
}

// Of resident memory, besides what can be spilled. Statistics are summed while
// blocks run, and solved when only what ran before is left.
uint64_t FixedBytes(const TransformerSpec& spec, int64_t chunk, int64_t widest,
                    bool gaps, uint64_t solver_bytes) {
  const int64_t scratch_width =
      2 * (spec.hidden_size + spec.ffn_size + spec.q_size() + spec.kv_size());
  const int64_t ffn_elems =
      spec.hidden_size * spec.ffn_size * (spec.gated_ffn ? 3 : 2);
  const int64_t attention_elems = spec.block_linear_elems() - ffn_elems;
  const int64_t half_elems = std::max(ffn_elems, attention_elems);
  // Layers with the same inputs are solved together, alone in memory: q, k and
  // v, or gate and up, which are more than o and down.
  const int64_t solved_elems =
      std::max(ffn_elems - spec.hidden_size * spec.ffn_size,
               attention_elems - spec.hidden_size * spec.q_size());
  uint64_t bytes = kBaseBytes + FloatBytes(chunk, scratch_width);
  // A triangle in double, or a matrix in float32.
  uint64_t statistics = FloatBytes(widest, widest);
  uint64_t layers = FloatBytes(1, half_elems);
  if (gaps) {
    bytes += FloatBytes(chunk, scratch_width + widest + spec.hidden_size);
    statistics += FloatBytes(widest + spec.hidden_size, widest);
    layers *= 2;
  }
  // The triangle becomes a matrix first.
  return bytes + statistics +
         std::max(layers,
                  FloatBytes(1, solved_elems) +
                      std::max(solver_bytes, FloatBytes(widest, widest)));
}

}  // namespace

absl::StatusOr<WalkPlan> PlanWalk(const Transformer& model,
                                  const TokenSample& sample,
                                  const LayerSolver& solver, bool lm_head,
                                  uint64_t solver_bytes,
                                  uint64_t memory_limit_bytes) {
  const TransformerSpec& spec = model.spec();
  int64_t chunk = kWalkChunkTokens;
  for (const std::vector<int32_t>& sequence : sample.sequences) {
    QEFF_RETURN_IF_ERROR(model.CheckTokens(sequence));
    chunk = std::max(chunk, static_cast<int64_t>(sequence.size()));
  }
  WalkPlan plan;
  plan.lm_head = lm_head;
  const int64_t widest = CountFlops(model, sample, solver, &plan);
  const int64_t inner = std::max(spec.ffn_size, spec.q_size());
  const bool gaps = solver.WantsGaps();
  const uint64_t hidden_bytes =
      FloatBytes(sample.tokens, spec.hidden_size) * (gaps ? 2 : 1);
  // The inputs of the block at hand are kept for tuning it.
  const uint64_t spilled_bytes =
      hidden_bytes + FloatBytes(sample.tokens, inner) +
      (solver.WantsBlock() ? FloatBytes(sample.tokens, spec.hidden_size) : 0);
  const uint64_t fixed_bytes =
      FixedBytes(spec, chunk, widest, gaps, solver_bytes);
  plan.scratch_bytes = 2 * hidden_bytes;
  plan.peak_bytes = fixed_bytes + spilled_bytes;
  if (memory_limit_bytes == 0 || plan.peak_bytes <= memory_limit_bytes) {
    return plan;
  }
  plan.spill = true;
  plan.scratch_bytes += spilled_bytes;
  plan.peak_bytes =
      fixed_bytes + FloatBytes(chunk, 2 * spec.hidden_size + inner);
  if (plan.peak_bytes > memory_limit_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "memory limit: expected at least ", plan.peak_bytes,
        " bytes, with activations in files; found ", memory_limit_bytes));
  }
  return plan;
}

}  // namespace qeff
