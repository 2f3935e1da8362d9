// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/prune_model.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/checkpoint_writer.h"
#include "qeff/io/model_fingerprint.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/prune/remove_lowest.h"
#include "qeff/prune/sparse_gpt.h"
#include "qeff/quant/gptq.h"
#include "qeff/quant/kept_zeros.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Changes with this code's results: work of another version is not resumed.
constexpr int kJournalVersion = 1;

std::string PlanFingerprint(const PrunePlan& plan) {
  std::string text = plan.config.dump();
  for (const PrunedLayer& layer : plan.layers) {
    absl::StrAppend(&text, "\n", layer.name, " ",
                    SparsityPatternName(layer.pattern));
  }
  return Fingerprint(text);
}

// Names of tensors that stay as they are.
std::vector<std::string> Copied(const Checkpoint& checkpoint,
                                const PrunePlan& plan) {
  HashSet<std::string> pruned;
  for (const PrunedLayer& layer : plan.layers) pruned.insert(layer.name);
  std::vector<std::string> names;
  for (const TensorInfo& info : checkpoint.tensors()) {
    if (!pruned.contains(info.name)) names.push_back(info.name);
  }
  return names;
}

// Prunes the stored matrix `source` by magnitude, which does not ask which way
// it lies but for groups and rows.
absl::Status PruneStored(const PrunedLayer& layer, const TensorView& source,
                         ThreadPool& pool, std::vector<uint8_t>* bytes,
                         PruneReport* report) {
  Matrix<float> stored(source.shape[0], source.shape[1]);
  ConvertToFloat(source.dtype, source.bytes, stored.span());
  QEFF_RETURN_IF_ERROR(CheckFinite(stored.view()),
                       absl::StrCat("tensor ", layer.name));
  if (layer.transposed && layer.pattern.grouped()) {
    Matrix<float> weights(layer.rows, layer.cols);
    for (int64_t r = 0; r < layer.rows; ++r) {
      for (int64_t c = 0; c < layer.cols; ++c) {
        weights.row(r)[c] = stored.row(c)[r];
      }
    }
    RemoveLowest(layer.pattern, ScoreScope::kMatrix, {}, weights.view(), pool);
    for (int64_t r = 0; r < layer.rows; ++r) {
      for (int64_t c = 0; c < layer.cols; ++c) {
        stored.row(c)[r] = weights.row(r)[c];
      }
    }
  } else {
    RemoveLowest(layer.pattern, ScoreScope::kMatrix, {}, stored.view(), pool);
  }
  bytes->resize(source.bytes.size());
  ConvertFromFloat(stored.span(), source.dtype, absl::MakeSpan(*bytes));
  report->module = layer.module;
  report->pattern = SparsityPatternName(layer.pattern);
  report->zeros = static_cast<double>(KeptZeros(stored.view()).count()) /
                  static_cast<double>(layer.weights());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PruneResult> PruneCalibrated(const Transformer& model,
                                            const PrunePlan& plan,
                                            const TokenSample& sample,
                                            const std::string& output,
                                            const PruneRunOptions& options,
                                            ThreadPool& pool) {
  return GuardMemory([&]() -> absl::StatusOr<PruneResult> {
    PruneSolver solver(plan, options.solver, pool);
    CalibratedWork work;
    work.solver = &solver;
    work.set_writer = [&](CheckpointWriter* writer) {
      solver.set_writer(writer);
    };
    work.solver_bytes = solver.MemoryBytes();
    work.solver_flops = solver.Flops();
    work.description = {{"version", kJournalVersion},
                        {"method", std::string(PruneMethodName(plan.method))},
                        {"plan", PlanFingerprint(plan)},
                        {"damping", options.solver.damping},
                        {"fit_passes", options.solver.fit_passes},
                        {"correct_gaps", options.solver.correct_gaps}};
    work.tensors = {model.checkpoint().tensors().begin(),
                    model.checkpoint().tensors().end()};
    work.copied = Copied(model.checkpoint(), plan);
    work.config = plan.config;
    PruneResult result;
    QEFF_ASSIGN_OR_RETURN(
        static_cast<CalibratedRunResult&>(result),
        RunCalibrated(model, sample, work, output, options, pool));
    result.layers = solver.reports();
    return result;
  });
}

absl::StatusOr<PruneResult> PruneByMagnitude(
    const Transformer& model, const PrunePlan& plan, const std::string& output,
    const std::function<absl::Status()>& check, ThreadPool& pool) {
  return GuardMemory([&]() -> absl::StatusOr<PruneResult> {
    const Checkpoint& checkpoint = model.checkpoint();
    QEFF_ASSIGN_OR_RETURN(
        const std::unique_ptr<CheckpointWriter> writer,
        CheckpointWriter::Create(output, {checkpoint.tensors().begin(),
                                          checkpoint.tensors().end()}));
    PruneResult result;
    std::vector<uint8_t> bytes;
    for (const PrunedLayer& layer : plan.layers) {
      if (check) QEFF_RETURN_IF_ERROR(check());
      QEFF_ASSIGN_OR_RETURN(const TensorView source,
                            checkpoint.Get(layer.name));
      PruneReport report;
      QEFF_RETURN_IF_ERROR(PruneStored(layer, source, pool, &bytes, &report));
      checkpoint.Release(source);
      QEFF_RETURN_IF_ERROR(writer->Write(layer.name, 0, bytes));
      result.layers.push_back(std::move(report));
    }
    for (const std::string& name : Copied(checkpoint, plan)) {
      QEFF_RETURN_IF_ERROR(CopyTensor(checkpoint, name, check, writer.get()));
    }
    QEFF_ASSIGN_OR_RETURN(const auto files, ReadOtherFiles(checkpoint));
    QEFF_RETURN_IF_ERROR(checkpoint.VerifyUnchanged());
    QEFF_RETURN_IF_ERROR(writer->Commit(plan.config, files));
    return result;
  });
}

RowPruner SparseGptRowPruner(const PrunePlan& plan,
                             const PruneSolverOptions& options,
                             ThreadPool& pool) {
  RowPruner pruner;
  pruner.name = absl::StrCat("sparsegpt ", PlanFingerprint(plan), " ",
                             options.fit_passes);
  pruner.order_group = std::max(1, plan.pattern.group);
  pruner.products = 1 + 2 * (options.fit_passes + 1);
  pruner.prune = [&plan, fit_passes = options.fit_passes, &pool](
                     const PlannedTensor& tensor,
                     const FactoredHessian& hessian,
                     MatrixView<float> weights) {
    const PrunedLayer* layer = plan.Find(tensor.module);
    if (layer == nullptr) return;
    PruneSparseGpt(layer->pattern, hessian, fit_passes, weights, pool);
  };
  return pruner;
}

}  // namespace qeff
