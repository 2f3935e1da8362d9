// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/model_weights.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "qeff/transformer/block_backward.h"
#include "qeff/util/random.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr double kDeviation = 0.02;

class Collector {
 public:
  void AddMatrix(std::string name, Matrix<float>& matrix) {
    if (matrix.empty()) return;
    Parameter parameter;
    parameter.name = std::move(name);
    parameter.rows = matrix.rows();
    parameter.cols = matrix.cols();
    parameter.values = matrix.span();
    parameter.matrix = true;
    parameters_.push_back(std::move(parameter));
  }

  void AddVector(std::string name, std::vector<float>& values) {
    if (values.empty()) return;
    Parameter parameter;
    parameter.name = std::move(name);
    parameter.rows = 1;
    parameter.cols = static_cast<int64_t>(values.size());
    parameter.values = absl::MakeSpan(values);
    parameters_.push_back(std::move(parameter));
  }

  void AddNorm(const std::string& name, NormWeights& norm) {
    AddVector(name + ".weight", norm.weight);
    AddVector(name + ".bias", norm.bias);
  }

  void AddLinear(const std::string& name, LinearRole role,
                 LinearWeights& linear) {
    if (linear.weight.empty()) return;
    AddMatrix(name + ".weight", linear.weight);
    parameters_.back().is_block_linear = true;
    parameters_.back().role = role;
    AddVector(name + ".bias", linear.bias);
  }

  void AddBlock(int64_t index, BlockWeights& block) {
    const size_t first = parameters_.size();
    const std::string prefix = absl::StrCat("blocks.", index, ".");
    AddNorm(prefix + "attention_norm", block.attention_norm);
    AddNorm(prefix + "q_norm", block.q_norm);
    AddNorm(prefix + "k_norm", block.k_norm);
    AddLinear(prefix + "q", LinearRole::kQ, block.q);
    AddLinear(prefix + "k", LinearRole::kK, block.k);
    AddLinear(prefix + "v", LinearRole::kV, block.v);
    AddLinear(prefix + "o", LinearRole::kO, block.o);
    AddNorm(prefix + "ffn_norm", block.ffn_norm);
    AddLinear(prefix + "gate", LinearRole::kGate, block.gate);
    AddLinear(prefix + "up", LinearRole::kUp, block.up);
    AddLinear(prefix + "down", LinearRole::kDown, block.down);
    for (size_t i = first; i < parameters_.size(); ++i) {
      parameters_[i].block = index;
    }
  }

  std::vector<Parameter> Take() { return std::move(parameters_); }

 private:
  std::vector<Parameter> parameters_;
};

NormWeights OnesNorm(int64_t size, bool bias) {
  const size_t count = static_cast<size_t>(size);
  return {std::vector<float>(count, 1.0f),
          std::vector<float>(bias ? count : 0)};
}

LinearWeights Zeros(int64_t out, int64_t in, bool bias) {
  return {Matrix<float>(out, in),
          std::vector<float>(bias ? static_cast<size_t>(out) : 0)};
}

BlockWeights EmptyBlock(const TransformerSpec& spec) {
  const int64_t hidden = spec.hidden_size;
  BlockWeights block;
  block.attention_norm = OnesNorm(hidden, spec.norm_bias);
  block.ffn_norm = OnesNorm(hidden, spec.norm_bias);
  if (spec.qk_norm) {
    block.q_norm = OnesNorm(spec.head_dim, false);
    block.k_norm = OnesNorm(spec.head_dim, false);
  }
  block.q = Zeros(spec.q_size(), hidden, spec.qkv_bias);
  block.k = Zeros(spec.kv_size(), hidden, spec.qkv_bias);
  block.v = Zeros(spec.kv_size(), hidden, spec.qkv_bias);
  block.o = Zeros(hidden, spec.q_size(), spec.attention_output_bias);
  if (spec.gated_ffn) block.gate = Zeros(spec.ffn_size, hidden, spec.ffn_bias);
  block.up = Zeros(spec.ffn_size, hidden, spec.ffn_bias);
  block.down = Zeros(hidden, spec.ffn_size, spec.ffn_bias);
  return block;
}

}  // namespace

std::vector<Parameter> Parameters(ModelWeights& weights) {
  Collector collector;
  collector.AddMatrix("tokens", weights.tokens);
  collector.AddMatrix("positions", weights.positions);
  for (size_t i = 0; i < weights.blocks.size(); ++i) {
    collector.AddBlock(static_cast<int64_t>(i), weights.blocks[i]);
  }
  collector.AddNorm("final_norm", weights.final_norm);
  collector.AddMatrix("lm_head", weights.lm_head);
  return collector.Take();
}

int64_t CountElems(ModelWeights& weights) {
  int64_t count = 0;
  for (const Parameter& parameter : Parameters(weights)) {
    count += parameter.rows * parameter.cols;
  }
  return count;
}

absl::StatusOr<ModelWeights> LoadModelWeights(const Transformer& model) {
  const TransformerSpec& spec = model.spec();
  ModelWeights weights;
  QEFF_ASSIGN_OR_RETURN(weights.tokens, model.LoadTokenEmbedding());
  if (spec.position == PositionKind::kLearned) {
    QEFF_ASSIGN_OR_RETURN(weights.positions, model.LoadPositionEmbedding());
  }
  for (int64_t i = 0; i < spec.num_layers; ++i) {
    QEFF_ASSIGN_OR_RETURN(BlockWeights block, model.LoadBlock(i));
    weights.blocks.push_back(std::move(block));
    model.ReleaseBlock(i);
  }
  QEFF_ASSIGN_OR_RETURN(weights.final_norm, model.LoadFinalNorm());
  if (!spec.tied_lm_head) {
    QEFF_ASSIGN_OR_RETURN(LinearWeights head,
                          model.LoadLinear(-1, LinearRole::kLmHead));
    weights.lm_head = std::move(head.weight);
  }
  model.ReleaseBlock(-1);
  for (const Parameter& parameter : Parameters(weights)) {
    for (const float value : parameter.values) {
      if (std::isfinite(value)) continue;
      return absl::DataLossError(
          absl::StrCat(model.checkpoint().folder(), ": ", parameter.name,
                       ": expected finite weights, found ", value));
    }
  }
  return weights;
}

ModelWeights InitialWeights(const TransformerSpec& spec, uint64_t seed) {
  ModelWeights weights;
  weights.tokens = Matrix<float>(spec.vocab_size, spec.hidden_size);
  if (spec.position == PositionKind::kLearned) {
    weights.positions = Matrix<float>(spec.max_positions, spec.hidden_size);
  }
  for (int64_t i = 0; i < spec.num_layers; ++i) {
    weights.blocks.push_back(EmptyBlock(spec));
  }
  weights.final_norm = OnesNorm(spec.hidden_size, spec.norm_bias);
  if (!spec.tied_lm_head) {
    weights.lm_head = Matrix<float>(spec.vocab_size, spec.hidden_size);
  }
  const double residual =
      kDeviation / std::sqrt(2.0 * static_cast<double>(spec.num_layers));
  uint64_t stream = 0;
  for (const Parameter& parameter : Parameters(weights)) {
    if (!parameter.matrix) continue;
    const bool writes_residual =
        parameter.role == LinearRole::kO || parameter.role == LinearRole::kDown;
    const float deviation =
        static_cast<float>(writes_residual ? residual : kDeviation);
    const Random random(seed, stream++);
    for (size_t i = 0; i < parameter.values.size(); ++i) {
      parameter.values[i] = deviation * random.NormalAt(i);
    }
  }
  return weights;
}

ModelWeights ZerosLike(const ModelWeights& weights) {
  const auto zeros = [](const Matrix<float>& matrix) {
    return Matrix<float>(matrix.rows(), matrix.cols());
  };
  ModelWeights result;
  result.tokens = zeros(weights.tokens);
  result.positions = zeros(weights.positions);
  for (const BlockWeights& block : weights.blocks) {
    result.blocks.push_back(ZerosLike(block));
  }
  result.final_norm = {std::vector<float>(weights.final_norm.weight.size()),
                       std::vector<float>(weights.final_norm.bias.size())};
  result.lm_head = zeros(weights.lm_head);
  return result;
}

}  // namespace qeff
