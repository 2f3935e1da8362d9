// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/reference_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "qeff/kernels/matvec/matvec_reference.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

using Row = std::vector<double>;
using Rows = std::vector<Row>;  // [tokens, features]

// Random weights, each from its own stream.
class Weights {
 public:
  Weights(uint64_t seed, DType dtype) : seed_(seed), dtype_(dtype) {}

  DeviceMatrix Matrix(int64_t rows, int64_t cols) {
    const double scale = 1.0 / std::sqrt(static_cast<double>(cols));
    const std::vector<float> values = Vector(rows * cols, 0.0, scale);
    const size_t size = DTypeBytes(dtype_);
    auto bytes = std::make_shared<std::vector<uint8_t>>(values.size() * size);
    for (size_t i = 0; i < values.size(); ++i) {
      const uint16_t half = dtype_ == DType::kBF16 ? FloatToBF16(values[i])
                                                   : FloatToF16(values[i]);
      const void* from = dtype_ == DType::kF32
                             ? static_cast<const void*>(&values[i])
                             : static_cast<const void*>(&half);
      std::memcpy(bytes->data() + i * size, from, size);
    }
    return DeviceMatrix{FloatRows{dtype_}, rows, cols,
                        absl::MakeConstSpan(*bytes), bytes};
  }

  std::vector<float> Vector(int64_t size, double mean, double deviation) {
    const Random random(seed_, stream_++);
    std::vector<float> values(static_cast<size_t>(size));
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(mean + deviation * random.NormalAt(i));
    }
    return values;
  }

  DeviceLinear Linear(int64_t out, int64_t in, bool bias) {
    DeviceLinear linear;
    linear.weight = Matrix(out, in);
    if (bias) linear.bias = Vector(out, 0.0, 0.3);
    return linear;
  }

  DeviceNorm Norm(const TransformerSpec& spec) {
    DeviceNorm norm;
    norm.weight = Vector(spec.hidden_size, 1.0, 0.2);
    if (spec.norm_bias) norm.bias = Vector(spec.hidden_size, 0.0, 0.2);
    return norm;
  }

 private:
  uint64_t seed_;
  DType dtype_;
  uint64_t stream_ = 0;
};

Row Linear(const DeviceLinear& linear, const Row& x) {
  const WeightRows w = linear.weight.view();
  Row y(static_cast<size_t>(w.rows), 0.0);
  for (size_t r = 0; r < y.size(); ++r) {
    if (!linear.bias.empty()) y[r] = linear.bias[r];
    for (size_t c = 0; c < x.size(); ++c) {
      y[r] +=
          WeightAt(w, static_cast<int64_t>(r), static_cast<int64_t>(c)) * x[c];
    }
  }
  return y;
}

Row Norm(const TransformerSpec& spec, const DeviceNorm& norm, const Row& x) {
  const double n = static_cast<double>(x.size());
  double mean = 0;
  if (spec.norm == NormKind::kLayerNorm) {
    for (double v : x) mean += v / n;
  }
  double variance = 0;
  for (double v : x) variance += (v - mean) * (v - mean) / n;
  Row y(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    y[i] = (x[i] - mean) / std::sqrt(variance + spec.norm_epsilon) *
           norm.weight[i];
    if (!norm.bias.empty()) y[i] += norm.bias[i];
  }
  return y;
}

double Activate(Activation activation, double x) {
  switch (activation) {
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGelu:
      return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
    case Activation::kGeluTanh:
      return 0.5 * x *
             (1 + std::tanh(std::sqrt(2.0 / std::acos(-1.0)) *
                            (x + 0.044715 * x * x * x)));
    case Activation::kRelu:
      return std::max(x, 0.0);
  }
  return 0;
}

// Clip, per-head norm and rope of q or k at `position`.
void FinishHeads(const TransformerSpec& spec, const std::vector<float>& norm,
                 size_t position, Row* heads) {
  const size_t n = static_cast<size_t>(spec.head_dim);
  for (double& v : *heads) {
    if (spec.clip_qkv > 0) v = std::clamp(v, -spec.clip_qkv, spec.clip_qkv);
  }
  for (size_t at = 0; at < heads->size(); at += n) {
    double* h = heads->data() + at;
    if (spec.qk_norm) {
      double mean = 0;
      for (size_t i = 0; i < n; ++i)
        mean += h[i] * h[i] / static_cast<double>(n);
      for (size_t i = 0; i < n; ++i) {
        h[i] *= norm[i] / std::sqrt(mean + spec.norm_epsilon);
      }
    }
    if (spec.position != PositionKind::kRope) continue;
    const std::vector<double> frequencies = RopeFrequencies(spec);
    for (size_t i = 0; i < n / 2; ++i) {
      const double angle = static_cast<double>(position) * frequencies[i];
      const double a = h[i], b = h[i + n / 2];
      h[i] = a * std::cos(angle) - b * std::sin(angle);
      h[i + n / 2] = a * std::sin(angle) + b * std::cos(angle);
    }
  }
}

// Output of one head for the query at `t`, added into `out`.
void Attend(const TransformerSpec& spec, size_t head, size_t t, const Row& q,
            const Rows& keys, const Rows& values, Row* out) {
  const size_t n = static_cast<size_t>(spec.head_dim);
  const size_t group = static_cast<size_t>(spec.num_heads / spec.num_kv_heads);
  const size_t at = head * n, kv_at = head / group * n;
  const double slope =
      spec.position == PositionKind::kAlibi ? AlibiSlopes(spec)[head] : 0.0;
  Row scores;
  double sum = 0;
  for (size_t j = 0; j <= t; ++j) {
    double dot = 0;
    for (size_t i = 0; i < n; ++i) dot += q[at + i] * keys[j][kv_at + i];
    const double distance = static_cast<double>(t - j);
    const bool visible = spec.sliding_window == 0 ||
                         distance < static_cast<double>(spec.sliding_window);
    scores.push_back(
        visible ? std::exp(dot * spec.attention_scale - slope * distance)
                : 0.0);
    sum += scores.back();
  }
  for (size_t j = 0; j <= t; ++j) {
    for (size_t i = 0; i < n; ++i) {
      (*out)[at + i] += scores[j] / sum * values[j][kv_at + i];
    }
  }
}

Row Ffn(const TransformerSpec& spec, const DeviceBlock& block, const Row& x) {
  Row up = Linear(block.up, x);
  if (!spec.gated_ffn) {
    for (double& v : up) v = Activate(spec.activation, v);
    return Linear(block.down, up);
  }
  const Row gate = Linear(block.gate, x);
  for (size_t i = 0; i < up.size(); ++i) {
    up[i] *= Activate(spec.activation, gate[i]);
  }
  return Linear(block.down, up);
}

void AddTo(const Row& y, Row* x) {
  for (size_t i = 0; i < y.size(); ++i) (*x)[i] += y[i];
}

void RunBlock(const TransformerSpec& spec, const DeviceBlock& block,
              Rows* hidden) {
  Rows queries, keys, values;
  for (size_t t = 0; t < hidden->size(); ++t) {
    const Row x = Norm(spec, block.attention_norm, (*hidden)[t]);
    queries.push_back(Linear(block.q, x));
    keys.push_back(Linear(block.k, x));
    values.push_back(Linear(block.v, x));
    FinishHeads(spec, block.q_norm, t, &queries.back());
    FinishHeads(spec, block.k_norm, t, &keys.back());
    for (double& v : values.back()) {
      if (spec.clip_qkv > 0) v = std::clamp(v, -spec.clip_qkv, spec.clip_qkv);
    }
  }
  for (size_t t = 0; t < hidden->size(); ++t) {
    Row attended(static_cast<size_t>(spec.q_size()), 0.0);
    for (size_t head = 0; head < static_cast<size_t>(spec.num_heads); ++head) {
      Attend(spec, head, t, queries[t], keys, values, &attended);
    }
    Row& x = (*hidden)[t];
    AddTo(Linear(block.o, attended), &x);
    AddTo(Ffn(spec, block, Norm(spec, block.ffn_norm, x)), &x);
  }
}

Row EmbeddingRow(const DeviceMatrix& matrix, int64_t row) {
  Row x;
  for (int64_t c = 0; c < matrix.cols; ++c) {
    x.push_back(WeightAt(matrix.view(), row, c));
  }
  return x;
}

}  // namespace

TransformerSpec SmallSpec() {
  TransformerSpec spec;
  spec.family = "llama";
  spec.hidden_size = 24;
  spec.num_layers = 2;
  spec.num_heads = 4;
  spec.num_kv_heads = 2;
  spec.head_dim = 6;
  spec.ffn_size = 40;
  spec.vocab_size = 50;
  spec.max_positions = 64;
  spec.attention_scale = 1.0 / std::sqrt(6.0);
  return spec;
}

std::shared_ptr<DeviceModel> RandomModel(const TransformerSpec& spec,
                                         uint64_t seed, DType dtype) {
  Weights weights(seed, dtype);
  auto model = std::make_shared<DeviceModel>();
  model->spec = spec;
  const int64_t hidden = spec.hidden_size;
  model->token_embedding = weights.Matrix(spec.vocab_size, hidden);
  if (spec.position == PositionKind::kLearned) {
    model->position_embedding = weights.Matrix(spec.max_positions, hidden);
  }
  for (int64_t i = 0; i < spec.num_layers; ++i) {
    DeviceBlock block;
    block.attention_norm = weights.Norm(spec);
    block.ffn_norm = weights.Norm(spec);
    if (spec.qk_norm) {
      block.q_norm = weights.Vector(spec.head_dim, 1.0, 0.2);
      block.k_norm = weights.Vector(spec.head_dim, 1.0, 0.2);
    }
    block.q = weights.Linear(spec.q_size(), hidden, spec.qkv_bias);
    block.k = weights.Linear(spec.kv_size(), hidden, spec.qkv_bias);
    block.v = weights.Linear(spec.kv_size(), hidden, spec.qkv_bias);
    block.o = weights.Linear(hidden, spec.q_size(), spec.attention_output_bias);
    if (spec.gated_ffn) {
      block.gate = weights.Linear(spec.ffn_size, hidden, spec.ffn_bias);
    }
    block.up = weights.Linear(spec.ffn_size, hidden, spec.ffn_bias);
    block.down = weights.Linear(hidden, spec.ffn_size, spec.ffn_bias);
    model->blocks.push_back(std::move(block));
  }
  model->final_norm = weights.Norm(spec);
  if (!spec.tied_lm_head) {
    model->lm_head.weight = weights.Matrix(spec.vocab_size, hidden);
  }
  return model;
}

std::vector<std::vector<double>> ReferenceLogits(
    const DeviceModel& model, absl::Span<const int32_t> tokens) {
  const TransformerSpec& spec = model.spec;
  Rows hidden;
  for (size_t t = 0; t < tokens.size(); ++t) {
    hidden.push_back(EmbeddingRow(model.token_embedding, tokens[t]));
    if (spec.position == PositionKind::kLearned) {
      AddTo(EmbeddingRow(model.position_embedding, static_cast<int64_t>(t)),
            &hidden.back());
    }
  }
  for (const DeviceBlock& block : model.blocks) {
    RunBlock(spec, block, &hidden);
  }
  DeviceLinear head = model.lm_head;
  if (spec.tied_lm_head) head.weight = model.token_embedding;
  Rows logits;
  for (const Row& x : hidden) {
    logits.push_back(Linear(head, Norm(spec, model.final_norm, x)));
  }
  return logits;
}

double RelativeError(absl::Span<const float> found,
                     const std::vector<double>& expected) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += (found[i] - expected[i]) * (found[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  return std::sqrt(difference / norm);
}

}  // namespace qeff
