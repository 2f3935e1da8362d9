// SPDX-License-Identifier: Apache-2.0

#include "qeff/spec/transformer_spec.h"

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr int64_t kMaxSize = 0x7FFFFFFF;
constexpr double kPi = 3.14159265358979323846;

absl::Status CheckSize(const char* field, int64_t value) {
  if (value >= 1 && value <= kMaxSize) return absl::OkStatus();
  return InvalidInputError(field, ": expected 1 to ", kMaxSize, ", found ",
                           value);
}

// Everything is computed in float32: what is 0 or infinite there is no value.
absl::Status CheckPositive(const char* field, double value) {
  constexpr double kMin = std::numeric_limits<float>::min();
  constexpr double kMax = std::numeric_limits<float>::max();
  if (value >= kMin && value <= kMax) return absl::OkStatus();
  return InvalidInputError(field, ": expected a number from ", kMin, " to ",
                           kMax, ", found ", value);
}

absl::Status CheckSizes(const TransformerSpec& spec) {
  QEFF_RETURN_IF_ERROR(CheckSize("hidden_size", spec.hidden_size));
  QEFF_RETURN_IF_ERROR(CheckSize("num_layers", spec.num_layers));
  QEFF_RETURN_IF_ERROR(CheckSize("num_heads", spec.num_heads));
  QEFF_RETURN_IF_ERROR(CheckSize("num_kv_heads", spec.num_kv_heads));
  QEFF_RETURN_IF_ERROR(CheckSize("head_dim", spec.head_dim));
  QEFF_RETURN_IF_ERROR(CheckSize("ffn_size", spec.ffn_size));
  QEFF_RETURN_IF_ERROR(CheckSize("vocab_size", spec.vocab_size));
  QEFF_RETURN_IF_ERROR(CheckSize("max_positions", spec.max_positions));
  QEFF_RETURN_IF_ERROR(CheckSize("num_heads * head_dim", spec.q_size()));
  if (spec.num_heads % spec.num_kv_heads != 0) {
    return InvalidInputError("num_kv_heads: expected a divisor of num_heads ",
                             spec.num_heads, ", found ", spec.num_kv_heads);
  }
  if (spec.sliding_window < 0) {
    return InvalidInputError("sliding_window: expected 0 or more, found ",
                             spec.sliding_window);
  }
  return absl::OkStatus();
}

absl::Status CheckRope(const TransformerSpec& spec) {
  if (spec.head_dim % 2 != 0) {
    return InvalidInputError("head_dim: rope needs an even size, found ",
                             spec.head_dim);
  }
  QEFF_RETURN_IF_ERROR(CheckPositive("rope_theta", spec.rope.theta));
  QEFF_RETURN_IF_ERROR(CheckPositive("rope factor", spec.rope.factor));
  if (spec.rope.scaling != RopeScaling::kLlama3) return absl::OkStatus();
  QEFF_RETURN_IF_ERROR(
      CheckPositive("rope low_freq_factor", spec.rope.low_freq_factor));
  QEFF_RETURN_IF_ERROR(
      CheckPositive("rope high_freq_factor", spec.rope.high_freq_factor));
  if (spec.rope.high_freq_factor <= spec.rope.low_freq_factor) {
    return InvalidInputError(
        "rope high_freq_factor: expected more than low_freq_factor ",
        spec.rope.low_freq_factor, ", found ", spec.rope.high_freq_factor);
  }
  return CheckSize("rope original_max_position_embeddings",
                   spec.rope.original_max_positions);
}

absl::Status CheckToken(const char* field, int64_t id, int64_t vocab_size) {
  if (id >= 0 && id < vocab_size) return absl::OkStatus();
  return InvalidInputError(field, ": expected 0 to ", vocab_size - 1,
                           ", found ", id);
}

}  // namespace

absl::Status ValidateSpec(const TransformerSpec& spec) {
  QEFF_RETURN_IF_ERROR(CheckSizes(spec));
  QEFF_RETURN_IF_ERROR(CheckPositive("norm_epsilon", spec.norm_epsilon));
  QEFF_RETURN_IF_ERROR(CheckPositive("attention_scale", spec.attention_scale));
  if (spec.clip_qkv != 0) {
    QEFF_RETURN_IF_ERROR(CheckPositive("clip_qkv", spec.clip_qkv));
  }
  if (spec.position == PositionKind::kRope) {
    QEFF_RETURN_IF_ERROR(CheckRope(spec));
  }
  if (spec.position == PositionKind::kAlibi) {
    QEFF_RETURN_IF_ERROR(CheckPositive("alibi_bias_max", spec.alibi_bias_max));
  }
  if (spec.bos_token_id != -1) {
    QEFF_RETURN_IF_ERROR(
        CheckToken("bos_token_id", spec.bos_token_id, spec.vocab_size));
  }
  for (int64_t id : spec.eos_token_ids) {
    QEFF_RETURN_IF_ERROR(CheckToken("eos_token_id", id, spec.vocab_size));
  }
  return absl::OkStatus();
}

std::vector<double> RopeFrequencies(const TransformerSpec& spec) {
  QEFF_CHECK(spec.position == PositionKind::kRope);
  const RopeSpec& rope = spec.rope;
  std::vector<double> frequencies(spec.head_dim / 2);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    double f = std::pow(rope.theta, -2.0 * static_cast<double>(i) /
                                        static_cast<double>(spec.head_dim));
    if (rope.scaling == RopeScaling::kLinear) f /= rope.factor;
    if (rope.scaling == RopeScaling::kLlama3) {
      // Long waves are stretched, short ones kept, those between blended.
      const double original = static_cast<double>(rope.original_max_positions);
      const double turns = original * f / (2.0 * kPi);
      const double smooth = (turns - rope.low_freq_factor) /
                            (rope.high_freq_factor - rope.low_freq_factor);
      if (turns < rope.low_freq_factor) {
        f /= rope.factor;
      } else if (turns <= rope.high_freq_factor) {
        f = (1.0 - smooth) * f / rope.factor + smooth * f;
      }
    }
    frequencies[i] = f;
  }
  return frequencies;
}

std::vector<double> AlibiSlopes(const TransformerSpec& spec) {
  QEFF_CHECK(spec.position == PositionKind::kAlibi);
  int64_t power = 1;
  while (power < spec.num_heads) power *= 2;
  const auto slope = [&](int64_t k) {  // k from 1 to power
    return std::exp2(-static_cast<double>(k) * spec.alibi_bias_max /
                     static_cast<double>(power));
  };
  std::vector<double> slopes;
  if (power == spec.num_heads) {
    for (int64_t k = 1; k <= power; ++k) slopes.push_back(slope(k));
    return slopes;
  }
  for (int64_t k = 2; k <= power; k += 2) slopes.push_back(slope(k));
  for (int64_t k = 1; k <= power; k += 2) slopes.push_back(slope(k));
  slopes.resize(static_cast<size_t>(spec.num_heads));
  return slopes;
}

}  // namespace qeff
