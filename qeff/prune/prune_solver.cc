// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/prune_solver.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/prune/remove_lowest.h"
#include "qeff/prune/sparse_gpt.h"
#include "qeff/quant/gap_correction.h"
#include "qeff/quant/kept_zeros.h"
#include "qeff/quant/survivor_fit.h"
#include "qeff/util/check.h"
#include "qeff/util/checksum.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr int64_t kWriteBytes = 4 << 20;

// Of a piece of a layer, spread evenly: what losses are counted of.
constexpr int64_t kSampledRows = 128;

Matrix<float> CopyOf(MatrixView<const float> from) {
  Matrix<float> to(from.rows(), from.cols());
  for (int64_t r = 0; r < from.rows(); ++r) {
    std::copy_n(from.row(r), from.cols(), to.row(r));
  }
  return to;
}

// Of `rows`, the r-th that losses are counted of.
int64_t SampledRow(int64_t r, int64_t rows) {
  return r * rows / std::min(rows, kSampledRows);
}

Matrix<float> SampleRows(MatrixView<const float> from) {
  Matrix<float> to(std::min(from.rows(), kSampledRows), from.cols());
  for (int64_t r = 0; r < to.rows(); ++r) {
    std::copy_n(from.row(SampledRow(r, from.rows())), from.cols(), to.row(r));
  }
  return to;
}

double Sum(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum;
}

}  // namespace

struct PruneSolver::Inputs {
  int64_t tokens = 0;
  std::vector<float> norms;  // root of the mean square; with Wanda
  FactoredHessian hessian;   // with SparseGPT
  Matrix<float> gap;
  Matrix<float> residual_gap;  // may be empty
};

PruneSolver::PruneSolver(const PrunePlan& plan,
                         const PruneSolverOptions& options, ThreadPool& pool)
    : plan_(plan), options_(options), pool_(pool) {
  QEFF_CHECK(plan.method != PruneMethod::kMagnitude);
  for (const PrunedLayer& layer : plan.layers) {
    layers_.emplace(layer.module, &layer);
  }
}

uint64_t PruneSolver::MemoryBytes() const {
  uint64_t most = 0;
  for (const PrunedLayer& layer : plan_.layers) {
    const uint64_t cols = static_cast<uint64_t>(layer.cols);
    const uint64_t rows =
        static_cast<uint64_t>(std::min(kPieceRows, layer.rows));
    // The factor and the Hessian; of a piece its weights, wanted, ordered and
    // left, and what magnitude makes of them.
    const uint64_t solved =
        sparse_gpt() ? 2 * cols * cols * 4 + rows * cols * 5 * 4 : 0;
    most = std::max(most, solved);
  }
  return most;
}

double PruneSolver::Flops() const {
  if (!sparse_gpt()) return 0;
  // Times rows cols^2: the correction, the sweep, the losses, and the fit.
  const double products =
      (options_.correct_gaps ? 4 : 0) + 1 + 2 * (options_.fit_passes + 1);
  double flops = 0;
  for (const PrunedLayer& layer : plan_.layers) {
    const double cols = static_cast<double>(layer.cols);
    flops += products * cols * cols * static_cast<double>(layer.rows);
  }
  return flops;
}

bool PruneSolver::Changes(const LinearModule& module) const {
  return layers_.contains(module.module);
}

StatisticsOptions PruneSolver::WantedToSolve() const {
  StatisticsOptions wanted;
  wanted.hessian = sparse_gpt();
  return wanted;
}

PruneSolver::Inputs PruneSolver::TakeInputs(const PrunedLayer& first,
                                            InputStatistics* statistics) {
  Inputs inputs;
  inputs.tokens = statistics->rows();
  if (!sparse_gpt()) {
    inputs.norms = InputNorms(*statistics);
    return inputs;
  }
  inputs.hessian = FactorHessian(
      statistics->TakeHessian(),
      SparseGptFactorOptions(first.pattern, options_.damping), pool_);
  inputs.gap = statistics->TakeInputGap();
  inputs.residual_gap = statistics->TakeResidualGap();
  return inputs;
}

void PruneSolver::SolveRows(const PrunedLayer& layer, int64_t begin,
                            const Inputs& inputs, MatrixView<float> weights,
                            PruneReport* report) {
  if (!sparse_gpt() || !inputs.hessian.usable()) {
    RemoveLowest(layer.pattern, ScoreScope::kRow, inputs.norms, weights, pool_);
    return;
  }
  if (options_.correct_gaps) {
    const KeptZeros zeros(weights);
    CorrectForGaps(inputs.hessian, inputs.gap.view(),
                   inputs.residual_gap.empty()
                       ? MatrixView<const float>()
                       : inputs.residual_gap.view().Rows(begin, weights.rows()),
                   weights, pool_);
    zeros.Restore(inputs.hessian.damped.view(), weights, pool_);
  }
  const Matrix<float> sample = SampleRows(weights);
  const std::vector<double> losses = PruneSparseGpt(
      layer.pattern, inputs.hessian, options_.fit_passes, weights, pool_);
  for (int64_t r = 0; r < sample.rows(); ++r) {
    report->loss += losses[static_cast<size_t>(SampledRow(r, weights.rows()))];
  }
  AddOtherLosses(layer.pattern, inputs.hessian, sample, report);
}

void PruneSolver::AddOtherLosses(const SparsityPattern& pattern,
                                 const FactoredHessian& hessian,
                                 const Matrix<float>& sample,
                                 PruneReport* report) {
  const SurvivorFitOptions as_it_is{0, 0};
  Matrix<float> other = CopyOf(sample.view());
  RemoveLowest(pattern, ScoreScope::kRow, {}, other.view(), pool_);
  report->magnitude_loss += Sum(FitSurvivors(
      sample.view(), hessian.damped.view(), as_it_is, other.view(), pool_));
  std::fill_n(other.data(), other.rows() * other.cols(), 0.0f);
  report->energy += Sum(FitSurvivors(sample.view(), hessian.damped.view(),
                                     as_it_is, other.view(), pool_));
}

absl::Status PruneSolver::Write(const PrunedLayer& layer,
                                MatrixView<float> weights) {
  Matrix<float> turned;
  MatrixView<float> stored = weights;
  if (layer.transposed) {
    turned = Matrix<float>(layer.cols, layer.rows);
    for (int64_t r = 0; r < layer.rows; ++r) {
      for (int64_t c = 0; c < layer.cols; ++c) {
        turned.row(c)[r] = weights.row(r)[c];
      }
    }
    stored = turned.view();
  }
  const int64_t row_bytes =
      stored.cols() * static_cast<int64_t>(DTypeBytes(layer.dtype));
  const int64_t step =
      std::max<int64_t>(1, kWriteBytes / std::max<int64_t>(row_bytes, 1));
  std::vector<uint8_t> bytes;
  for (int64_t r = 0; r < stored.rows(); r += step) {
    const int64_t count = std::min(step, stored.rows() - r);
    const absl::Span<float> values(stored.row(r),
                                   static_cast<size_t>(count * stored.cols()));
    bytes.resize(static_cast<size_t>(count * row_bytes));
    ConvertFromFloat(values, layer.dtype, absl::MakeSpan(bytes));
    ConvertToFloat(layer.dtype, bytes, values);
    QEFF_RETURN_IF_ERROR(writer_->Write(
        layer.name, static_cast<uint64_t>(r * row_bytes), bytes));
  }
  if (!layer.transposed) return absl::OkStatus();
  for (int64_t r = 0; r < layer.rows; ++r) {
    for (int64_t c = 0; c < layer.cols; ++c) {
      weights.row(r)[c] = turned.row(c)[r];
    }
  }
  return absl::OkStatus();
}

absl::Status PruneSolver::Solve(absl::Span<CalibratedLinear* const> linears,
                                InputStatistics* statistics) {
  const Inputs inputs =
      TakeInputs(*layers_.at(linears[0]->module->module), statistics);
  for (CalibratedLinear* linear : linears) {
    const PrunedLayer& layer = *layers_.at(linear->module->module);
    const MatrixView<float> weights = linear->weights.weight.view();
    QEFF_RETURN_IF_ERROR(CheckFinite(weights),
                         absl::StrCat("tensor ", layer.name));
    PruneReport report;
    for (int64_t row = 0; row < layer.rows; row += kPieceRows) {
      const int64_t rows = std::min(kPieceRows, layer.rows - row);
      SolveRows(layer, row, inputs, weights.Rows(row, rows), &report);
    }
    QEFF_RETURN_IF_ERROR(Write(layer, weights));
    report.module = layer.module;
    report.pattern = SparsityPatternName(layer.pattern);
    report.zeros = static_cast<double>(KeptZeros(weights).count()) /
                   static_cast<double>(layer.weights());
    report.tokens = inputs.tokens;
    report.damping = inputs.hessian.damping;
    report.dead_inputs = inputs.hessian.dead_inputs;
    if (report.energy > 0) {
      report.loss /= report.energy;
      report.magnitude_loss /= report.energy;
    }
    if (sparse_gpt() && !inputs.hessian.usable()) {
      report.fallback =
          "the Hessian is not positive definite: pruned by magnitude";
    }
    reports_.push_back(std::move(report));
  }
  return absl::OkStatus();
}

absl::Status PruneSolver::SolveLmHead(InputStatistics* /*inputs*/) {
  QEFF_CHECK(false);
  return absl::OkStatus();
}

absl::StatusOr<std::string> PruneSolver::ChecksumOf(
    const PrunedLayer& layer) const {
  std::vector<uint8_t> bytes(static_cast<size_t>(layer.weights()) *
                             DTypeBytes(layer.dtype));
  QEFF_RETURN_IF_ERROR(writer_->Read(layer.name, 0, absl::MakeSpan(bytes)));
  return absl::StrCat(absl::Hex(Checksum64(bytes)));
}

absl::StatusOr<Json> PruneSolver::FinishStep() {
  Json layers = Json::array();
  for (; reported_ < reports_.size(); ++reported_) {
    const PruneReport& report = reports_[reported_];
    QEFF_ASSIGN_OR_RETURN(const std::string checksum,
                          ChecksumOf(*layers_.at(report.module)));
    layers.push_back({{"report", report.ToJson()}, {"checksum", checksum}});
  }
  QEFF_RETURN_IF_ERROR(writer_->Sync());
  return Json{{"layers", std::move(layers)}};
}

absl::Status PruneSolver::Restore(int64_t step, const Json& state) {
  if (!state.is_object() || !state.contains("layers") ||
      !state["layers"].is_array()) {
    return InvalidInputError("journal: step ", step, " is damaged");
  }
  for (const Json& entry : state["layers"]) {
    if (!entry.is_object() || !entry.contains("report") ||
        !entry.contains("checksum")) {
      return InvalidInputError("journal: step ", step, ": a layer is damaged");
    }
    QEFF_ASSIGN_OR_RETURN(PruneReport report,
                          PruneReport::FromJson(entry["report"]),
                          absl::StrCat("journal: step ", step));
    const auto found = layers_.find(report.module);
    if (found == layers_.end()) {
      return InvalidInputError("journal: step ", step, ": the plan has no ",
                               report.module);
    }
    QEFF_ASSIGN_OR_RETURN(const std::string checksum,
                          ChecksumOf(*found->second));
    if (entry["checksum"] != checksum) {
      return InvalidInputError("journal: step ", step, ": ", report.module,
                               ": what an earlier run wrote is damaged; "
                               "--restart begins anew");
    }
    QEFF_RETURN_IF_ERROR(writer_->MarkWritten(found->second->name));
    reports_.push_back(std::move(report));
  }
  reported_ = reports_.size();
  return absl::OkStatus();
}

}  // namespace qeff
