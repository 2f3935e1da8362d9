// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/gptq_solver.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/quant/gap_correction.h"
#include "qeff/quant/gptq_refine.h"
#include "qeff/quant/kept_zeros.h"
#include "qeff/quant/quantized_output.h"
#include "qeff/quant/solve_rows.h"
#include "qeff/util/check.h"
#include "qeff/util/checksum.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Errors: kDataLoss naming the first element of rows from `begin` on that is
// not finite.
absl::Status CheckFinite(const PlannedTensor& tensor, int64_t begin,
                         MatrixView<const float> weights) {
  for (int64_t r = 0; r < weights.rows(); ++r) {
    for (int64_t c = 0; c < weights.cols(); ++c) {
      if (std::isfinite(weights.row(r)[c])) continue;
      int64_t row = begin + r, col = c;
      if (tensor.transposed) std::swap(row, col);
      return NumericalError("tensor ", tensor.name, ": element [", row, ", ",
                            col,
                            "] is NaN or infinite; --skip_bad_tensors "
                            "keeps it");
    }
  }
  return absl::OkStatus();
}

// What finding codes takes, as products of the rows with a whole matrix:
// rounding and propagating are half a product each, since factors are
// triangles, and choosing codes and scales takes half as long as all products.
double CodesProducts(int bits) {
  return 1.5 * (1 + GptqRefiner::ProductsFor(bits));
}

}  // namespace

struct GptqSolver::Inputs {
  int64_t tokens;
  bool finite;
  float input_scale = 0;  // 0: not counted
  FactoredHessian hessian;
  Matrix<float> gap;
  Matrix<float> residual_gap;  // may be empty
};

struct GptqSolver::LayerTotals : GptqLosses {};

GptqSolver::GptqSolver(const Transformer& model, const QuantizePlan& plan,
                       const GptqSolverOptions& options, ThreadPool& pool)
    : model_(model), options_(options), pool_(pool) {
  if (options.folds.has_value()) {
    folds_.emplace(model, plan, pool,
                   FoldOptions{*options.folds, options.observer});
  }
  for (const PlannedTensor& tensor : plan.tensors) {
    if (tensor.quantized()) tensors_.emplace(tensor.module, &tensor);
  }
  const std::string lm_head =
      model.spec().tied_lm_head ? "lm_head" : model.map().lm_head.module;
  const auto found = tensors_.find(lm_head);
  if (found != tensors_.end()) lm_head_ = found->second;
}

uint64_t GptqSolver::MemoryBytes() const {
  uint64_t most = 0;
  for (const auto& tensor : tensors_) {
    const uint64_t cols = static_cast<uint64_t>(tensor.second->cols);
    const uint64_t rows =
        static_cast<uint64_t>(std::min(kPieceRows, tensor.second->rows));
    // The factor and the Hessian; of a piece, weights in order, errors, and up
    // to five sets of codes, and what the keeper sees; a correction takes less.
    const uint64_t weight_bytes = 4 + 4 + 5 + (keeper_ != nullptr ? 4 : 0);
    most = std::max(most, 2 * cols * cols * 4 + rows * cols * weight_bytes);
  }
  return most;
}

double GptqSolver::Flops() const {
  const double pruning =
      options_.pruner.has_value() ? options_.pruner->products : 0;
  double flops = 0;
  for (const auto& tensor : tensors_) {
    const double cols = static_cast<double>(tensor.second->cols);
    const double codes = 2 * CodesProducts(tensor.second->scheme.bits);
    flops += (4 + codes + pruning) * cols * cols *
             static_cast<double>(tensor.second->rows);
  }
  return flops;
}

StatisticsOptions GptqSolver::WantedToSolve() const {
  StatisticsOptions wanted;
  for (const auto& tensor : tensors_) {
    wanted.magnitudes |= tensor.second->scheme.inputs == InputCodes::kStatic;
  }
  return wanted;
}

bool GptqSolver::Changes(const LinearModule& module) const {
  return tensors_.contains(module.module);
}

GptqOptions GptqSolver::Options(const PlannedTensor& tensor) const {
  GptqOptions options;
  options.scheme = tensor.scheme;
  options.scale_dtype = tensor.scale_dtype();
  options.damping = options_.damping;
  options.propagate = options_.propagate;
  if (options_.pruner.has_value()) {
    options.order_group = options_.pruner->order_group;
  }
  return options;
}

absl::Status GptqSolver::WriteRows(const PlannedTensor& tensor, int64_t begin,
                                   MatrixView<const float> before, int64_t rows,
                                   const QuantizedRowBytes& solved) {
  if (Keeps(tensor)) {
    keeper_(tensor, begin, before, solved);
    return absl::OkStatus();
  }
  return WriteQuantizedRows(
      tensor, begin, rows, solved,
      [this](const std::string& name, uint64_t offset_bytes,
             absl::Span<const uint8_t> bytes) {
        return writer_->Write(name, offset_bytes, bytes);
      });
}

void GptqSolver::Correct(const PlannedTensor& tensor, int64_t begin,
                         MatrixView<float> weights, const Inputs& inputs) {
  const double product_flops = static_cast<double>(weights.rows()) *
                               static_cast<double>(weights.cols()) *
                               static_cast<double>(weights.cols());
  const double products =
      4 + (options_.pruner.has_value() ? options_.pruner->products : 0);
  work_.correction.flops += products * product_flops;
  const WorkWatch watch(&work_.correction.seconds);
  const KeptZeros zeros(weights);
  CorrectForGaps(inputs.hessian, inputs.gap.view(),
                 inputs.residual_gap.empty()
                     ? MatrixView<const float>()
                     : inputs.residual_gap.view().Rows(begin, weights.rows()),
                 weights, pool_);
  zeros.Restore(inputs.hessian.damped.view(), weights, pool_);
  if (options_.pruner.has_value()) {
    options_.pruner->prune(tensor, inputs.hessian, weights);
  }
}

absl::Status GptqSolver::SolveRows(const PlannedTensor& tensor, int64_t begin,
                                   MatrixView<float> weights,
                                   const Inputs& inputs, LayerTotals* totals) {
  const GptqOptions options = Options(tensor);
  QEFF_RETURN_IF_ERROR(CheckFinite(tensor, begin, weights));
  if (inputs.hessian.usable() && options_.propagate) {
    Correct(tensor, begin, weights, inputs);
  }
  const WorkWatch watch(&work_.codes_seconds);
  Matrix<float> before;
  if (Keeps(tensor)) {
    before = Matrix<float>(weights.rows(), weights.cols());
    for (int64_t r = 0; r < weights.rows(); ++r) {
      std::copy_n(weights.row(r), weights.cols(), before.row(r));
    }
  }
  QEFF_ASSIGN_OR_RETURN(
      const SolvedRows solved,
      qeff::SolveRows(weights, inputs.hessian, options, pool_),
      absl::StrCat("tensor ", tensor.name, ", rows from ", begin, " on"));
  QEFF_RETURN_IF_ERROR(
      WriteRows(tensor, begin, before.view(), weights.rows(), solved.bytes()));
  work_.codes_products += solved.products;
  totals->loss += solved.loss;
  totals->rounding_loss += solved.rounding_loss;
  totals->saturated += solved.saturated;
  totals->rounded_rows += solved.rounded_rows;
  return absl::OkStatus();
}

absl::Status GptqSolver::Finish(const PlannedTensor& tensor,
                                const Inputs& inputs,
                                const LayerTotals& totals) {
  LayerReport report;
  if (tensor.scheme.inputs == InputCodes::kStatic) {
    uint8_t bytes[sizeof(float)];
    StoreScale(inputs.input_scale, DType::kF32, bytes);
    QEFF_RETURN_IF_ERROR(
        writer_->Write(InputScaleTensorName(tensor.module), 0, bytes));
    report.input_scale = static_cast<double>(inputs.input_scale);
  }
  report.module = tensor.module;
  report.scheme = QuantSchemeName(tensor.scheme);
  report.bits_per_weight = tensor.BitsPerWeight();
  report.tokens = inputs.tokens;
  report.rounding_loss = totals.rounding_loss;
  report.loss = totals.loss;
  report.damping = inputs.hessian.damping;
  report.saturation =
      static_cast<double>(totals.saturated) /
      (static_cast<double>(tensor.rows) * static_cast<double>(tensor.cols));
  report.dead_inputs = inputs.hessian.dead_inputs;
  if (!inputs.finite) {
    report.fallback = kBadInputs;
  } else if (!inputs.hessian.usable()) {
    report.fallback = "the Hessian is not positive definite: rounded";
  } else if (options_.propagate && totals.rounded_rows > 0) {
    report.fallback = absl::StrCat(totals.rounded_rows, " of ", tensor.rows,
                                   " rows are better rounded");
  }
  if (folds_.has_value() && folds_->Skipped(tensor.module)) {
    absl::StrAppend(&report.fallback, kNotScaled);
  }
  reports_.push_back(std::move(report));
  step_.push_back(&tensor);
  return absl::OkStatus();
}

GptqSolver::Inputs GptqSolver::TakeInputs(const PlannedTensor& first,
                                          InputStatistics* statistics) {
  Inputs inputs;
  inputs.tokens = statistics->rows();
  inputs.finite = statistics->finite();
  if (WantedToSolve().magnitudes) {
    inputs.input_scale =
        ObservedScale(statistics->magnitudes(), options_.observer);
  }
  Matrix<float> hessian = statistics->TakeHessian();
  {
    const WorkWatch watch(&work_.factor_seconds);
    inputs.hessian = FactorHessian(std::move(hessian), Options(first), pool_);
  }
  work_.factor_products += inputs.hessian.products;
  inputs.gap = statistics->TakeInputGap();
  inputs.residual_gap = statistics->TakeResidualGap();
  return inputs;
}

absl::Status GptqSolver::Solve(absl::Span<CalibratedLinear* const> layers,
                               InputStatistics* statistics) {
  const Inputs inputs =
      TakeInputs(*tensors_.at(layers[0]->module->module), statistics);
  for (CalibratedLinear* layer : layers) {
    const PlannedTensor& tensor = *tensors_.at(layer->module->module);
    LayerTotals totals;
    for (int64_t row = 0; row < tensor.rows; row += kPieceRows) {
      const int64_t rows = std::min(kPieceRows, tensor.rows - row);
      QEFF_RETURN_IF_ERROR(
          SolveRows(tensor, row, layer->weights.weight.view().Rows(row, rows),
                    inputs, &totals));
    }
    QEFF_RETURN_IF_ERROR(Finish(tensor, inputs, totals));
  }
  return absl::OkStatus();
}

absl::Status GptqSolver::SolveLmHead(InputStatistics* statistics) {
  QEFF_CHECK(lm_head_ != nullptr);
  const Inputs inputs = TakeInputs(*lm_head_, statistics);
  LayerTotals totals;
  for (int64_t row = 0; row < lm_head_->rows; row += kPieceRows) {
    const int64_t rows = std::min(kPieceRows, lm_head_->rows - row);
    QEFF_ASSIGN_OR_RETURN(
        LinearWeights weights,
        model_.LoadLinearRows(-1, LinearRole::kLmHead, row, rows));
    QEFF_RETURN_IF_ERROR(
        SolveRows(*lm_head_, row, weights.weight.view(), inputs, &totals));
  }
  model_.ReleaseBlock(-1);
  return Finish(*lm_head_, inputs, totals);
}

// Of all bytes that the layer became.
absl::StatusOr<std::string> GptqSolver::ChecksumOf(
    const PlannedTensor& tensor) const {
  const QuantizedShape shape(tensor.scheme, tensor.rows, tensor.cols);
  std::string text;
  for (const TensorDeclaration& part :
       QuantizedTensors(tensor.module, shape, tensor.scale_dtype())) {
    std::vector<uint8_t> bytes(static_cast<size_t>(
        (part.shape.num_elements() * DTypeBytes(part.dtype)).value()));
    QEFF_RETURN_IF_ERROR(writer_->Read(part.name, 0, absl::MakeSpan(bytes)));
    absl::StrAppend(&text, absl::Hex(Checksum64(bytes)), ".");
  }
  text.pop_back();
  return text;
}

absl::Status GptqSolver::Prepare(int64_t block, BlockInputs* inputs,
                                 BlockWeights* norms) {
  QEFF_RETURN_IF_ERROR(folds_->Search(block, inputs, norms));
  norms_ = BlockWeights();
  norms_.attention_norm = norms->attention_norm;
  norms_.ffn_norm = norms->ffn_norm;
  return absl::OkStatus();
}

void GptqSolver::Adjust(CalibratedLinear* layer) {
  if (folds_.has_value()) folds_->Apply(layer);
}

// Writes what the folds have changed besides the layers: names and checksums.
absl::StatusOr<Json> GptqSolver::WriteFolds() {
  Json checksums = Json::object();
  // lm_head is a step without folds.
  if (!folds_.has_value() || norms_.attention_norm.weight.empty()) {
    return checksums;
  }
  QEFF_ASSIGN_OR_RETURN(const auto tensors, folds_->Changed(norms_));
  for (const AwqFolds::ChangedTensor& tensor : tensors) {
    QEFF_RETURN_IF_ERROR(writer_->Write(tensor.name, 0, tensor.bytes));
    checksums[tensor.name] = absl::StrCat(absl::Hex(Checksum64(tensor.bytes)));
  }
  norms_ = BlockWeights();
  return checksums;
}

absl::StatusOr<Json> GptqSolver::FinishStep() {
  Json layers = Json::array();
  for (size_t i = 0; i < step_.size(); ++i) {
    QEFF_ASSIGN_OR_RETURN(const std::string checksum, ChecksumOf(*step_[i]));
    layers.push_back(
        {{"report", reports_[reports_.size() - step_.size() + i].ToJson()},
         {"checksum", checksum}});
  }
  step_.clear();
  QEFF_ASSIGN_OR_RETURN(Json folds, WriteFolds());
  QEFF_RETURN_IF_ERROR(writer_->Sync());
  return Json{{"layers", std::move(layers)}, {"folds", std::move(folds)}};
}

absl::Status GptqSolver::Restore(int64_t step, const Json& state) {
  if (!state.is_object() || !state.contains("layers") ||
      !state["layers"].is_array() || !state.contains("folds") ||
      !state["folds"].is_object()) {
    return InvalidInputError("journal: step ", step, " is damaged");
  }
  for (const Json& layer : state["layers"]) {
    QEFF_RETURN_IF_ERROR(RestoreLayer(layer),
                         absl::StrCat("journal: step ", step));
  }
  return RestoreFolds(step, state["folds"]);
}

absl::Status GptqSolver::RestoreLayer(const Json& layer) {
  if (!layer.is_object() || !layer.contains("report") ||
      !layer.contains("checksum")) {
    return InvalidInputError("a layer is damaged");
  }
  QEFF_ASSIGN_OR_RETURN(LayerReport report,
                        LayerReport::FromJson(layer["report"]));
  const auto found = tensors_.find(report.module);
  if (found == tensors_.end()) {
    return InvalidInputError("the plan has no ", report.module);
  }
  const PlannedTensor& tensor = *found->second;
  QEFF_ASSIGN_OR_RETURN(const std::string checksum, ChecksumOf(tensor));
  if (layer["checksum"] != checksum) {
    return InvalidInputError(report.module,
                             ": what an earlier run wrote is damaged; "
                             "--restart begins anew");
  }
  const QuantizedShape shape(tensor.scheme, tensor.rows, tensor.cols);
  for (const TensorDeclaration& part :
       QuantizedTensors(tensor.module, shape, tensor.scale_dtype())) {
    QEFF_RETURN_IF_ERROR(writer_->MarkWritten(part.name));
  }
  reports_.push_back(std::move(report));
  return absl::OkStatus();
}

absl::Status GptqSolver::RestoreFolds(int64_t step, const Json& checksums) {
  for (const auto& fold : checksums.items()) {
    const std::string& name = fold.key();
    QEFF_ASSIGN_OR_RETURN(const TensorView view, model_.checkpoint().Get(name));
    std::vector<uint8_t> bytes(view.bytes.size());
    QEFF_RETURN_IF_ERROR(writer_->Read(name, 0, absl::MakeSpan(bytes)));
    if (fold.value() != absl::StrCat(absl::Hex(Checksum64(bytes)))) {
      return InvalidInputError("journal: step ", step, ": ", name,
                               ": what an earlier run wrote is damaged; "
                               "--restart begins anew");
    }
    QEFF_RETURN_IF_ERROR(writer_->MarkWritten(name));
  }
  return absl::OkStatus();
}

}  // namespace qeff
