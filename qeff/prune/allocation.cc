// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/allocation.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "qeff/calibration/input_statistics.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/prune/remove_lowest.h"
#include "qeff/prune/sparse_gpt.h"
#include "qeff/quant/bit_allocation.h"
#include "qeff/quant/gptq.h"
#include "qeff/quant/layer_groups.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr SparsityAllocation kAllocations[] = {SparsityAllocation::kUniform,
                                               SparsityAllocation::kOwl,
                                               SparsityAllocation::kBudget};

// Shares are this far apart, and reach this far from the mean.
constexpr double kBudgetStep = 0.025;
constexpr double kBudgetReach = 0.25;

constexpr double kOwlReach = 0.08;
constexpr double kOwlOutlier = 5;

// SparseGPT without a fit, on inputs that several layers may share.
class SharedPruner {
 public:
  explicit SharedPruner(ThreadPool& pool) : pool_(pool) {}

  void Prune(const SparsityPattern& pattern, const PlannedTensor& tensor,
             MatrixView<const float> inputs, MatrixView<float> weights) {
    if (tensor.block != block_ || inputs.data() != inputs_) {
      block_ = tensor.block;
      inputs_ = inputs.data();
      InputStatistics statistics(inputs.cols());
      statistics.Add(inputs, pool_);
      hessian_ =
          FactorHessian(statistics.TakeHessian(),
                        SparseGptFactorOptions(pattern, kDamping), pool_);
    }
    if (hessian_.usable()) {
      PruneSparseGpt(pattern, hessian_, /*fit_passes=*/0, weights, pool_);
    } else {
      RemoveLowest(pattern, ScoreScope::kRow, {}, weights, pool_);
    }
  }

 private:
  static constexpr double kDamping = 0.1;

  ThreadPool& pool_;
  // What hessian_ is of.
  int64_t block_ = -1;
  const float* inputs_ = nullptr;
  FactoredHessian hessian_;
};

SparsityPattern Share(double sparsity) {
  SparsityPattern pattern;
  pattern.sparsity = sparsity;
  return pattern;
}

// The groups of the layers that `plan` prunes. `found` must outlive them.
absl::StatusOr<std::vector<LayerGroup>> GroupsOf(const Transformer& model,
                                                 const PrunePlan& plan,
                                                 QuantizePlan* found) {
  QuantizeOptions options;
  QEFF_ASSIGN_OR_RETURN(options.scheme, ParseQuantScheme("int8"));
  QEFF_ASSIGN_OR_RETURN(
      *found, PlanQuantization(model.checkpoint(), model.map(), options));
  for (PlannedTensor& tensor : found->tensors) {
    if (tensor.quantized() && plan.Find(tensor.module) == nullptr) {
      tensor.action = PlannedTensor::Action::kKeep;
    }
  }
  return FindLayerGroups(model.map(), *found, {options.scheme}, 8);
}

// The shares that a group may get, around that of the plan.
std::vector<double> Shares(double wanted) {
  std::vector<double> shares;
  const int reach = static_cast<int>(std::lround(kBudgetReach / kBudgetStep));
  for (int i = -reach; i <= reach; ++i) {
    const double share = wanted + i * kBudgetStep;
    if (share >= 0 && share < 1) shares.push_back(share);
  }
  return shares;
}

int64_t Removed(const LayerGroup& group, double share) {
  int64_t removed = 0;
  for (const PlannedTensor* tensor : group.tensors) {
    removed += tensor->rows * Share(share).Removed(tensor->cols);
  }
  return removed;
}

void SetPatterns(const LayerGroup& group, double share, PrunePlan* plan) {
  for (PrunedLayer& layer : plan->layers) {
    for (const PlannedTensor* tensor : group.tensors) {
      if (tensor->module == layer.module) layer.pattern = Share(share);
    }
  }
}

absl::Status AllocateBudget(std::shared_ptr<const Transformer> model,
                            const TokenSample& sample,
                            const SensitivityOptions& options, PrunePlan* plan,
                            ThreadPool& pool) {
  const std::vector<double> shares = Shares(plan->pattern.sparsity);
  QuantizePlan found;
  QEFF_ASSIGN_OR_RETURN(std::vector<LayerGroup> groups,
                        GroupsOf(*model, *plan, &found));
  for (LayerGroup& group : groups) {
    group.choices.clear();
    for (size_t i = 0; i < shares.size(); ++i) {
      LayerGroup::Choice choice;
      choice.scheme = i;
      choice.bytes =
          static_cast<uint64_t>(group.Weights() - Removed(group, shares[i]));
      group.choices.push_back(choice);
      if (shares[i] == plan->pattern.sparsity) group.measured = i;
    }
  }
  SharedPruner pruner(pool);
  const LayerChange prune = [&](const PlannedTensor& tensor, size_t share,
                                MatrixView<const float> inputs,
                                MatrixView<float> weights) {
    pruner.Prune(Share(shares[share]), tensor, inputs, weights);
  };
  QEFF_RETURN_IF_ERROR(
      MeasureChanges(std::move(model), prune, sample, options, &groups, pool));
  std::vector<AllocationItem> items;
  for (const LayerGroup& group : groups) {
    AllocationItem item;
    item.name = group.modules[0]->module;
    for (const LayerGroup::Choice& choice : group.choices) {
      item.choices.push_back({choice.bytes, choice.cost});
    }
    items.push_back(std::move(item));
  }
  QEFF_ASSIGN_OR_RETURN(
      const Allocation best,
      AllocateBits(items,
                   static_cast<uint64_t>(plan->Weights() - plan->Removed())));
  for (size_t i = 0; i < groups.size(); ++i) {
    SetPatterns(groups[i], shares[best.choices[i]], plan);
  }
  return absl::OkStatus();
}

// Share of the weights whose score is far beyond the mean of their layer.
double Outliers(MatrixView<const float> weights,
                const std::vector<float>& norms) {
  const auto score = [&](int64_t r, int64_t c) {
    return static_cast<double>(std::abs(weights.row(r)[c])) *
           static_cast<double>(norms[static_cast<size_t>(c)]);
  };
  const double count =
      static_cast<double>(weights.rows()) * static_cast<double>(weights.cols());
  double sum = 0;
  for (int64_t r = 0; r < weights.rows(); ++r) {
    for (int64_t c = 0; c < weights.cols(); ++c) sum += score(r, c);
  }
  int64_t outliers = 0;
  for (int64_t r = 0; r < weights.rows(); ++r) {
    for (int64_t c = 0; c < weights.cols(); ++c) {
      outliers += score(r, c) > kOwlOutlier * sum / count;
    }
  }
  return static_cast<double>(outliers);
}

absl::Status AllocateOwl(std::shared_ptr<const Transformer> model,
                         const TokenSample& sample,
                         const SensitivityOptions& options, PrunePlan* plan,
                         ThreadPool& pool) {
  QuantizePlan found;
  QEFF_ASSIGN_OR_RETURN(std::vector<LayerGroup> groups,
                        GroupsOf(*model, *plan, &found));
  struct Block {
    double outliers = 0;
    int64_t weights = 0;
  };
  std::vector<Block> blocks(model->map().blocks.size());
  const LayerChange count = [&](const PlannedTensor& tensor, size_t /*share*/,
                                MatrixView<const float> inputs,
                                MatrixView<float> weights) {
    // Not the rows that errors are measured on.
    if (weights.rows() != tensor.rows) return;
    StatisticsOptions norms_only;
    norms_only.hessian = false;
    InputStatistics statistics(inputs.cols(), norms_only);
    statistics.Add(inputs, pool);
    Block& block = blocks[static_cast<size_t>(tensor.block)];
    block.outliers += Outliers(weights, InputNorms(statistics));
    block.weights += tensor.rows * tensor.cols;
  };
  SensitivityOptions inputs_only = options;
  inputs_only.inputs_only = true;
  QEFF_RETURN_IF_ERROR(MeasureChanges(std::move(model), count, sample,
                                      inputs_only, &groups, pool));
  double least = 1, most = 0, mean = 0;
  std::vector<double> ratios;
  for (const Block& block : blocks) {
    ratios.push_back(0);
    if (block.weights == 0) continue;  // all of it is ignored
    ratios.back() = block.outliers / static_cast<double>(block.weights);
    least = std::min(least, ratios.back());
    most = std::max(most, ratios.back());
  }
  const double scale = most > least ? 2 * kOwlReach / (most - least) : 0;
  double weights = 0;
  for (size_t b = 0; b < blocks.size(); ++b) {
    ratios[b] = (ratios[b] - least) * scale;
    mean += ratios[b] * static_cast<double>(blocks[b].weights);
    weights += static_cast<double>(blocks[b].weights);
  }
  mean /= weights;
  const int64_t asked = plan->Removed();
  const auto set_shares = [&](double middle) {
    for (const LayerGroup& group : groups) {
      const double share =
          middle - (ratios[static_cast<size_t>(group.block)] - mean);
      SetPatterns(group, std::min(std::max(share, 0.0), 0.999), plan);
    }
  };
  // Shares that would be below 0, and whole numbers of weights a row, can add
  // up to more than was asked.
  double low = -1, high = plan->pattern.sparsity;
  set_shares(high);
  if (plan->Removed() <= asked) return absl::OkStatus();
  for (int i = 0; i < 40; ++i) {
    const double middle = (low + high) / 2;
    set_shares(middle);
    (plan->Removed() <= asked ? low : high) = middle;
  }
  set_shares(low);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SparsityAllocation> ParseSparsityAllocation(
    absl::string_view name) {
  for (const SparsityAllocation allocation : kAllocations) {
    if (name == SparsityAllocationName(allocation)) return allocation;
  }
  return InvalidInputError("\"", name, "\": expected uniform, owl or budget");
}

absl::string_view SparsityAllocationName(SparsityAllocation allocation) {
  switch (allocation) {
    case SparsityAllocation::kUniform:
      return "uniform";
    case SparsityAllocation::kOwl:
      return "owl";
    case SparsityAllocation::kBudget:
      return "budget";
  }
  return "";
}

absl::Status AllocateSparsity(std::shared_ptr<const Transformer> model,
                              SparsityAllocation allocation,
                              const TokenSample& sample,
                              const SensitivityOptions& options,
                              PrunePlan* plan, ThreadPool& pool) {
  if (allocation == SparsityAllocation::kUniform) return absl::OkStatus();
  if (plan->pattern.grouped()) {
    return InvalidInputError("pattern ", SparsityPatternName(plan->pattern),
                             ": every layer gives the same; an allocation "
                             "needs a share");
  }
  const TokenSample some = SensitivitySample(*model, sample);
  if (allocation == SparsityAllocation::kOwl) {
    QEFF_RETURN_IF_ERROR(
        AllocateOwl(std::move(model), some, options, plan, pool));
  } else {
    QEFF_RETURN_IF_ERROR(
        AllocateBudget(std::move(model), some, options, plan, pool));
  }
  DescribeSparsity(SparsityAllocationName(allocation), plan);
  return absl::OkStatus();
}

}  // namespace qeff
