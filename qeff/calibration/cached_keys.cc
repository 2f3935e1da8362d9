// SPDX-License-Identifier: Apache-2.0

#include "qeff/calibration/cached_keys.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include "qeff/calibration/row_sample.h"
#include "qeff/transformer/forward_observer.h"
#include "qeff/transformer/host_forward.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr int64_t kSampledKeys = 512;

// Channels below this share of the widest count as if they had it: their own
// errors are small anyway, and they may be wider with other text.
constexpr double kLeastShare = 1e-3;

// A block's keys and queries so far.
struct BlockHeads {
  explicit BlockHeads(const TransformerSpec& spec)
      : key_sums(static_cast<size_t>(spec.kv_size())),
        query_squares(static_cast<size_t>(spec.kv_size())),
        keys(kSampledKeys, spec.kv_size()) {}

  int64_t tokens = 0;
  std::vector<double> key_sums;
  std::vector<double> query_squares;  // of all heads that share the channel
  RowSample keys;
};

// Blocks come one after another, each with all tokens of a group of sequences
// in any number of calls; the next group begins at block 0 again.
class KeyObserver : public ForwardObserver {
 public:
  explicit KeyObserver(const Transformer& model)
      : model_(model), spec_(model.spec()) {
    for (int64_t i = 0; i < spec_.num_layers; ++i) blocks_.emplace_back(spec_);
  }

  absl::Status OnLinear(const LinearTap& tap) override {
    if (tap.module.role != LinearRole::kK &&
        tap.module.role != LinearRole::kQkv) {
      return absl::OkStatus();
    }
    for (size_t i = 0; i < blocks_.size(); ++i) {
      for (const LinearModule& module : model_.map().blocks[i].linears) {
        if (&module == &tap.module) block_ = i;
      }
    }
    return absl::OkStatus();
  }

  absl::Status OnHeads(MatrixView<const float> q,
                       MatrixView<const float> k) override {
    BlockHeads& heads = blocks_[block_];
    const int64_t head_dim = spec_.head_dim;
    const int64_t group_size = spec_.num_heads / spec_.num_kv_heads * head_dim;
    for (int64_t r = 0; r < k.rows(); ++r) {
      for (int64_t c = 0; c < k.cols(); ++c) {
        heads.key_sums[static_cast<size_t>(c)] +=
            static_cast<double>(k.row(r)[c]);
      }
      for (int64_t c = 0; c < q.cols(); ++c) {
        const double x = static_cast<double>(q.row(r)[c]);
        heads.query_squares[static_cast<size_t>(c / group_size * head_dim +
                                                c % head_dim)] += x * x;
      }
    }
    heads.keys.Add(k);
    heads.tokens += k.rows();
    return absl::OkStatus();
  }

  absl::StatusOr<CachedKeys> Result(int64_t block) const {
    const BlockHeads& heads = blocks_[static_cast<size_t>(block)];
    CachedKeys result;
    for (const double sum : heads.key_sums) {
      result.mean.push_back(
          static_cast<float>(sum / static_cast<double>(heads.tokens)));
      if (!std::isfinite(result.mean.back())) {
        return NumericalError("block ", block, ": its keys are not finite");
      }
    }
    const MatrixView<const float> sampled = heads.keys.rows();
    Matrix<float> centered(sampled.rows(), sampled.cols());
    for (int64_t r = 0; r < sampled.rows(); ++r) {
      for (int64_t c = 0; c < sampled.cols(); ++c) {
        centered.row(r)[c] =
            sampled.row(r)[c] - result.mean[static_cast<size_t>(c)];
      }
    }
    const absl::Span<const double> energy = heads.query_squares;
    for (int64_t c = 0; c < spec_.kv_size(); c += spec_.head_dim) {
      const std::vector<float> scales = SearchKeyScales(
          std::as_const(centered).view().Cols(c, spec_.head_dim),
          energy.subspan(static_cast<size_t>(c),
                         static_cast<size_t>(spec_.head_dim)));
      result.scale.insert(result.scale.end(), scales.begin(), scales.end());
    }
    return result;
  }

 private:
  const Transformer& model_;
  const TransformerSpec& spec_;
  std::vector<BlockHeads> blocks_;
  size_t block_ = 0;  // that OnHeads is about
};

// x / the widest, but not below kLeastShare; 1 where all are 0.
std::vector<double> Shares(std::vector<double> x) {
  const double most = *std::max_element(x.begin(), x.end());
  for (double& value : x) {
    value = most > 0 ? std::max(value / most, kLeastShare) : 1;
  }
  return x;
}

double ErrorOf(MatrixView<const float> keys,
               absl::Span<const double> query_energy,
               const std::vector<double>& scales) {
  double squares = 0, energy = 0;
  for (int64_t r = 0; r < keys.rows(); ++r) {
    double most = 0;
    for (size_t c = 0; c < scales.size(); ++c) {
      most = std::max(
          most, std::abs(static_cast<double>(keys.row(r)[c])) / scales[c]);
    }
    squares += most * most;
  }
  for (size_t c = 0; c < scales.size(); ++c) {
    energy += scales[c] * scales[c] * query_energy[c];
  }
  return squares * energy;
}

}  // namespace

std::vector<float> SearchKeyScales(MatrixView<const float> keys,
                                   absl::Span<const double> query_energy) {
  const size_t channels = query_energy.size();
  QEFF_CHECK(keys.rows() > 0 && keys.cols() == static_cast<int64_t>(channels));
  std::vector<double> widths(channels);
  for (int64_t r = 0; r < keys.rows(); ++r) {
    for (size_t c = 0; c < channels; ++c) {
      widths[c] =
          std::max(widths[c], std::abs(static_cast<double>(keys.row(r)[c])));
    }
  }
  widths = Shares(std::move(widths));
  const std::vector<double> energy =
      Shares({query_energy.begin(), query_energy.end()});
  std::vector<double> best;
  double best_error = std::numeric_limits<double>::infinity();
  for (const double a : {0.0, 0.25, 0.5, 0.75, 1.0}) {
    for (const double b : {0.0, 0.25, 0.5}) {
      std::vector<double> scales(channels);
      double logs = 0;
      for (size_t c = 0; c < channels; ++c) {
        scales[c] = std::pow(widths[c], a) * std::pow(energy[c], -b / 2);
        logs += std::log(scales[c]);
      }
      const double center = std::exp(logs / static_cast<double>(channels));
      for (double& scale : scales) scale /= center;
      const double error = ErrorOf(keys, query_energy, scales);
      if (!best.empty() && !(error < best_error)) continue;
      best_error = error;
      best = std::move(scales);
    }
  }
  return {best.begin(), best.end()};
}

absl::StatusOr<std::vector<CachedKeys>> CalibrateCachedKeys(
    std::shared_ptr<const Transformer> model, const TokenSample& sample,
    ThreadPool& pool) {
  HostForwardOptions options;
  options.weight_budget_bytes = 0;  // each block runs once
  const int64_t blocks = model->spec().num_layers;
  KeyObserver observer(*model);
  QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<HostForward> forward,
                        HostForward::Create(model, &pool, options));
  QEFF_RETURN_IF_ERROR(forward->Run(
      sample.sequences, &observer,
      [](int64_t, MatrixView<const float>) { return absl::OkStatus(); }));
  std::vector<CachedKeys> result;
  for (int64_t i = 0; i < blocks; ++i) {
    QEFF_ASSIGN_OR_RETURN(CachedKeys keys, observer.Result(i));
    result.push_back(std::move(keys));
  }
  return result;
}

}  // namespace qeff
