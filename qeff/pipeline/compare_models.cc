// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/compare_models.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "absl/types/optional.h"
#include "qeff/transformer/forward_observer.h"
#include "qeff/transformer/host_forward.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr size_t kSampleSize = 100'000;
constexpr int kBins = 60;
// Share of the values before that the bins leave out on either side.
constexpr double kTail = 0.0005;

const char* NameOf(LinearRole role) {
  switch (role) {
    case LinearRole::kQ:
      return "q";
    case LinearRole::kK:
      return "k";
    case LinearRole::kV:
      return "v";
    case LinearRole::kQkv:
      return "qkv";
    case LinearRole::kO:
      return "o";
    case LinearRole::kGate:
      return "gate";
    case LinearRole::kUp:
      return "up";
    case LinearRole::kDown:
      return "down";
    case LinearRole::kLmHead:
      return "lm_head";
  }
  return "";
}

// Values of each role, at even distances.
class Samples {
 public:
  // `total` values of `role` are to come.
  void Expect(LinearRole role, size_t total) { roles_[role].total += total; }

  void Add(LinearRole role, absl::Span<const float> values) {
    Role& to = roles_[role];
    const size_t stride = std::max<size_t>(1, to.total / kSampleSize);
    for (; to.next < values.size(); to.next += stride) {
      to.values.push_back(values[to.next]);
    }
    to.next -= values.size();
  }

  // `before` and `after`, role by role.
  static Json Histograms(Samples& before, Samples& after) {
    Json histograms = Json::array();
    for (auto& [role, samples] : before.roles_) {
      std::vector<float>& values = samples.values;
      if (values.empty()) continue;
      std::sort(values.begin(), values.end());
      const size_t tail =
          static_cast<size_t>(kTail * static_cast<double>(values.size()));
      const double low = values[tail];
      const double high = values[values.size() - 1 - tail];
      if (!(low < high)) continue;
      histograms.push_back(
          {{"role", NameOf(role)},
           {"low", low},
           {"high", high},
           {"before", Counts(values, low, high)},
           {"after", Counts(after.roles_[role].values, low, high)}});
    }
    return histograms;
  }

 private:
  struct Role {
    size_t total = 0;
    size_t next = 0;  // index of the next sample in what comes
    std::vector<float> values;
  };

  static std::vector<int64_t> Counts(const std::vector<float>& values,
                                     double low, double high) {
    std::vector<int64_t> counts(kBins);
    for (const float value : values) {
      if (!std::isfinite(value)) continue;
      const double place = (value - low) / (high - low) * kBins;
      counts[static_cast<size_t>(
          std::min(std::max(place, 0.0), kBins - 1.0))]++;
    }
    return counts;
  }

  std::map<LinearRole, Role> roles_;
};

// ||a - b|| / ||b||.
double RelativeError(absl::Span<const float> a, absl::Span<const float> b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    norm += double{b[i]} * b[i];
  }
  return norm == 0 ? 0 : std::sqrt(difference / norm);
}

void ExpectWeights(const Transformer& model, Samples* samples) {
  for (const BlockNames& block : model.map().blocks) {
    for (const LinearModule& linear : block.linears) {
      samples->Expect(linear.role, static_cast<size_t>(linear.out_features *
                                                       linear.in_features));
    }
  }
}

// Weights of all blocks of one model, or of both where they have the layer.
absl::Status AddWeights(const Transformer& before, const Transformer& after,
                        Samples* of_before, Samples* of_after, Json* layers) {
  ExpectWeights(before, of_before);
  ExpectWeights(after, of_after);
  const size_t blocks =
      std::max(before.map().blocks.size(), after.map().blocks.size());
  const bool same_depth =
      before.map().blocks.size() == after.map().blocks.size();
  const auto load =
      [](const Transformer& model, size_t block, size_t i,
         Samples* samples) -> absl::StatusOr<absl::optional<LinearWeights>> {
    if (block >= model.map().blocks.size()) {
      return absl::optional<LinearWeights>();
    }
    const auto& linears = model.map().blocks[block].linears;
    QEFF_ASSIGN_OR_RETURN(
        LinearWeights weights,
        model.LoadLinear(static_cast<int64_t>(block), linears[i].role));
    samples->Add(linears[i].role, weights.weight.span());
    return absl::optional<LinearWeights>(std::move(weights));
  };
  for (size_t block = 0; block < blocks; ++block) {
    const auto& linears = before.map().blocks[0].linears;
    for (size_t i = 0; i < linears.size(); ++i) {
      QEFF_ASSIGN_OR_RETURN(const auto a, load(before, block, i, of_before));
      QEFF_ASSIGN_OR_RETURN(const auto b, load(after, block, i, of_after));
      if (!same_depth || a->weight.rows() != b->weight.rows() ||
          a->weight.cols() != b->weight.cols()) {
        continue;
      }
      const LinearModule& module = before.map().blocks[block].linears[i];
      layers->push_back({{"name", module.module},
                         {"role", NameOf(module.role)},
                         {"block", module.block},
                         {"relative_error",
                          RelativeError(b->weight.span(), a->weight.span())}});
    }
    if (block < before.map().blocks.size()) {
      before.ReleaseBlock(static_cast<int64_t>(block));
    }
    if (block < after.map().blocks.size()) {
      after.ReleaseBlock(static_cast<int64_t>(block));
    }
  }
  return absl::OkStatus();
}

class InputSampler : public ForwardObserver {
 public:
  InputSampler(const Transformer& model, int64_t tokens, Samples* samples)
      : samples_(samples) {
    for (const BlockNames& block : model.map().blocks) {
      for (const LinearModule& linear : block.linears) {
        samples->Expect(linear.role,
                        static_cast<size_t>(linear.in_features * tokens));
      }
    }
  }
  absl::Status OnLinear(const LinearTap& tap) override {
    for (int64_t r = 0; r < tap.input.rows(); ++r) {
      samples_->Add(tap.module.role,
                    {tap.input.row(r), static_cast<size_t>(tap.input.cols())});
    }
    return absl::OkStatus();
  }

 private:
  Samples* samples_;
};

absl::Status AddInputs(const std::shared_ptr<const Transformer>& model,
                       absl::Span<const int32_t> tokens, ThreadPool* pool,
                       Samples* samples) {
  InputSampler sampler(*model, static_cast<int64_t>(tokens.size()), samples);
  HostForwardOptions options;
  options.weight_budget_bytes = 0;  // one run
  QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<HostForward> forward,
                        HostForward::Create(model, pool, options));
  const std::vector<int32_t> sequence(tokens.begin(), tokens.end());
  return forward->Run(
      {sequence}, &sampler,
      [](int64_t, MatrixView<const float>) { return absl::OkStatus(); });
}

}  // namespace

absl::StatusOr<Json> CompareModels(
    const std::shared_ptr<const Transformer>& before,
    const std::shared_ptr<const Transformer>& after,
    absl::Span<const int32_t> tokens, ThreadPool* pool) {
  Json layers = Json::array();
  Samples weights_before, weights_after;
  QEFF_RETURN_IF_ERROR(
      AddWeights(*before, *after, &weights_before, &weights_after, &layers));
  Json result{{"layers", layers},
              {"weight_histograms",
               Samples::Histograms(weights_before, weights_after)}};
  if (tokens.empty()) return result;
  Samples inputs_before, inputs_after;
  QEFF_RETURN_IF_ERROR(AddInputs(before, tokens, pool, &inputs_before));
  QEFF_RETURN_IF_ERROR(AddInputs(after, tokens, pool, &inputs_after));
  result["activation_histograms"] =
      Samples::Histograms(inputs_before, inputs_after);
  return result;
}

}  // namespace qeff
