// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/awq_folds.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "absl/types/span.h"
#include "qeff/io/checkpoint.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/quant/awq.h"
#include "qeff/quant/smooth_quant.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Inputs of a layer that SmoothQuant's search looks at.
constexpr int64_t kSampledInputs = 256;

const std::vector<LinearRole>& Attention() {
  static const auto* roles = new std::vector<LinearRole>{
      LinearRole::kQ, LinearRole::kK, LinearRole::kV, LinearRole::kQkv};
  return *roles;
}

const std::vector<LinearRole>& Inner() {
  static const auto* roles =
      new std::vector<LinearRole>{LinearRole::kGate, LinearRole::kUp};
  return *roles;
}

bool ValuesAreLinear(const TransformerSpec& spec) { return spec.clip_qkv == 0; }

bool UpIsLinear(const TransformerSpec& spec) { return spec.gated_ffn; }

// Channel of v that column c of o's inputs comes from.
std::vector<int64_t> ValueChannels(const TransformerSpec& spec) {
  const int64_t heads_of_group = spec.num_heads / spec.num_kv_heads;
  std::vector<int64_t> channels;
  for (int64_t c = 0; c < spec.q_size(); ++c) {
    const int64_t head = c / spec.head_dim;
    channels.push_back(head / heads_of_group * spec.head_dim +
                       c % spec.head_dim);
  }
  return channels;
}

}  // namespace

AwqFolds::AwqFolds(const Transformer& model, const QuantizePlan& plan,
                   ThreadPool& pool, const FoldOptions& options)
    : model_(model), pool_(pool), options_(options) {
  for (const PlannedTensor& tensor : plan.tensors) {
    if (tensor.quantized()) planned_.emplace(tensor.module, &tensor);
  }
  const auto add = [&](const std::string& name, int64_t block) {
    if (!name.empty()) changes_.emplace(name, block);
  };
  for (size_t b = 0; b < model.map().blocks.size(); ++b) {
    const BlockNames& names = model.map().blocks[b];
    const int64_t block = static_cast<int64_t>(b);
    add(names.attention_norm.weight, block);
    add(names.attention_norm.bias, block);
    add(names.ffn_norm.weight, block);
    add(names.ffn_norm.bias, block);
    for (const LinearModule& module : names.linears) {
      const bool produces = module.role == LinearRole::kV ||
                            module.role == LinearRole::kQkv ||
                            module.role == LinearRole::kUp;
      if (produces && module.has_bias) add(module.module + ".bias", block);
    }
  }
}

StatisticsOptions AwqFolds::Wanted() const {
  StatisticsOptions wanted;
  if (options_.search == FoldSearch::kSmoothQuant) {
    wanted.hessian = false;
    wanted.sampled_rows = kSampledInputs;
  }
  return wanted;
}

const LinearModule* AwqFolds::Find(LinearRole role) const {
  for (const LinearModule& module :
       model_.map().blocks[static_cast<size_t>(block_)].linears) {
    if (module.role == role) return &module;
  }
  return nullptr;
}

// Empty where one of the layers is not quantized: it is to stay as it is. Or
// where the inputs are not finite.
absl::StatusOr<std::vector<float>> AwqFolds::SearchPair(
    const std::vector<LinearRole>& consumers,
    const std::vector<int64_t>& channel_of, int64_t channels,
    InputStatistics* inputs) {
  if (!inputs->finite()) {
    for (const LinearRole role : consumers) {
      const LinearModule* module = Find(role);
      if (module != nullptr) skipped_.insert(module->module);
    }
    return std::vector<float>();
  }
  const PlannedTensor* planned = nullptr;
  std::vector<LinearWeights> weights;
  std::vector<MatrixView<const float>> views;
  for (const LinearRole role : consumers) {
    const LinearModule* module = Find(role);
    if (module == nullptr) continue;
    const auto found = planned_.find(module->module);
    if (found == planned_.end()) return std::vector<float>();
    planned = found->second;
    QEFF_ASSIGN_OR_RETURN(LinearWeights loaded,
                          model_.LoadLinear(block_, role));
    weights.push_back(std::move(loaded));
    views.push_back(weights.back().weight.view());
  }
  if (options_.search == FoldSearch::kSmoothQuant) {
    SmoothQuantOptions options;
    options.scheme = IntegersLike(planned->scheme);
    options.scale_dtype = planned->scale_dtype();
    options.observer = options_.observer;
    return SearchSmoothQuantScales(views, inputs->abs_maxima(),
                                   inputs->sample().rows(), channel_of,
                                   channels, options, pool_)
        .scales;
  }
  AwqOptions options;
  options.scheme = IntegersLike(planned->scheme);
  options.scale_dtype = planned->scale_dtype();
  std::vector<double> magnitudes = inputs->abs_sums();
  for (double& sum : magnitudes) sum /= static_cast<double>(inputs->rows());
  return SearchAwqScales(views, magnitudes, inputs->TakeHessian(), channel_of,
                         channels, options, pool_)
      .scales;
}

void AwqFolds::FoldNorm(const std::string& name, std::vector<float>* scales,
                        NormWeights* norm) const {
  const DType dtype = model_.checkpoint().Get(name)->dtype;
  std::vector<uint8_t> stored(DTypeBytes(dtype));
  for (size_t i = 0; i < scales->size(); ++i) {
    float& weight = norm->weight[i];
    float folded = weight / (*scales)[i];
    // As it will be read again.
    ConvertFromFloat(absl::MakeConstSpan(&folded, 1), dtype,
                     absl::MakeSpan(stored));
    ConvertToFloat(dtype, stored, absl::MakeSpan(&folded, 1));
    const float scale = weight / folded;
    if (!(scale > 0) || !std::isfinite(scale)) {
      (*scales)[i] = 1;
      continue;
    }
    (*scales)[i] = scale;
    weight = folded;
    if (!norm->bias.empty()) norm->bias[i] /= scale;
  }
}

absl::Status AwqFolds::Search(int64_t block, BlockInputs* inputs,
                              BlockWeights* norms) {
  const TransformerSpec& spec = model_.spec();
  const BlockNames& names = model_.map().blocks[static_cast<size_t>(block)];
  block_ = block;
  skipped_.clear();
  factors_.clear();
  biases_.clear();
  const auto quantized = [&](LinearRole role) {
    const LinearModule* module = Find(role);
    return module == nullptr || planned_.contains(module->module);
  };
  const auto fold_norm =
      [&](const std::vector<LinearRole>& consumers, InputStatistics* statistics,
          const std::string& name, NormWeights* norm) -> absl::Status {
    QEFF_ASSIGN_OR_RETURN(
        std::vector<float> scales,
        SearchPair(consumers, {}, spec.hidden_size, statistics));
    if (scales.empty()) return absl::OkStatus();
    FoldNorm(name, &scales, norm);
    for (const LinearRole role : consumers) factors_[role].columns = scales;
    return absl::OkStatus();
  };
  QEFF_RETURN_IF_ERROR(fold_norm(Attention(), &inputs->qkv,
                                 names.attention_norm.weight,
                                 &norms->attention_norm));
  QEFF_RETURN_IF_ERROR(fold_norm(Inner(), &inputs->ffn, names.ffn_norm.weight,
                                 &norms->ffn_norm));
  if (ValuesAreLinear(spec) && quantized(LinearRole::kV) &&
      quantized(LinearRole::kQkv)) {
    const std::vector<int64_t> channel_of = ValueChannels(spec);
    QEFF_ASSIGN_OR_RETURN(
        const std::vector<float> scales,
        SearchPair({LinearRole::kO}, channel_of, spec.kv_size(), &inputs->o));
    if (!scales.empty()) {
      std::vector<float>& columns = factors_[LinearRole::kO].columns;
      for (const int64_t channel : channel_of) {
        columns.push_back(scales[static_cast<size_t>(channel)]);
      }
      factors_[LinearRole::kV].rows = scales;
      std::vector<float>& fused = factors_[LinearRole::kQkv].rows;
      fused.assign(static_cast<size_t>(spec.q_size() + spec.kv_size()), 1.0f);
      fused.insert(fused.end(), scales.begin(), scales.end());
    }
  }
  if (UpIsLinear(spec) && quantized(LinearRole::kUp)) {
    QEFF_ASSIGN_OR_RETURN(
        const std::vector<float> scales,
        SearchPair({LinearRole::kDown}, {}, spec.ffn_size, &inputs->down));
    factors_[LinearRole::kDown].columns = scales;
    factors_[LinearRole::kUp].rows = scales;
  }
  return absl::OkStatus();
}

void AwqFolds::Apply(CalibratedLinear* layer) const {
  LinearWeights& weights = layer->weights;
  const auto found = factors_.find(layer->module->role);
  if (found != factors_.end()) {
    const Factors& factors = found->second;
    for (int64_t r = 0; r < weights.weight.rows(); ++r) {
      const size_t row = static_cast<size_t>(r);
      const float divisor = factors.rows.empty() ? 1.0f : factors.rows[row];
      for (int64_t c = 0; c < weights.weight.cols(); ++c) {
        const float factor = factors.columns.empty()
                                 ? 1.0f
                                 : factors.columns[static_cast<size_t>(c)];
        weights.weight.row(r)[c] *= factor / divisor;
      }
      if (!weights.bias.empty()) weights.bias[row] /= divisor;
    }
  }
  const std::string bias = layer->module->module + ".bias";
  if (changes_.contains(bias)) biases_[bias] = weights.bias;
}

absl::StatusOr<AwqFolds::ChangedTensor> AwqFolds::Store(
    const std::string& name, const std::vector<float>& values) const {
  QEFF_ASSIGN_OR_RETURN(const TensorView view, model_.checkpoint().Get(name));
  ChangedTensor tensor{name, std::vector<uint8_t>(view.bytes.size())};
  ConvertFromFloat(values, view.dtype, absl::MakeSpan(tensor.bytes));
  return tensor;
}

std::vector<std::string> AwqFolds::NamesOf(int64_t block) const {
  std::vector<std::string> names;
  for (const auto& change : changes_) {
    if (change.second == block) names.push_back(change.first);
  }
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<std::vector<AwqFolds::ChangedTensor>> AwqFolds::Changed(
    const BlockWeights& norms) const {
  const BlockNames& names = model_.map().blocks[static_cast<size_t>(block_)];
  std::vector<ChangedTensor> tensors;
  for (const std::string& name : NamesOf(block_)) {
    const std::vector<float>* values = nullptr;
    if (name == names.attention_norm.weight) {
      values = &norms.attention_norm.weight;
    } else if (name == names.attention_norm.bias) {
      values = &norms.attention_norm.bias;
    } else if (name == names.ffn_norm.weight) {
      values = &norms.ffn_norm.weight;
    } else if (name == names.ffn_norm.bias) {
      values = &norms.ffn_norm.bias;
    } else {
      values = &biases_.at(name);
    }
    QEFF_ASSIGN_OR_RETURN(ChangedTensor tensor, Store(name, *values));
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

}  // namespace qeff
