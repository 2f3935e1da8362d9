// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/structured/prune_structured.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "qeff/prune/structured/gradient_importance.h"
#include "qeff/prune/structured/importance.h"
#include "qeff/prune/structured/pruned_config.h"
#include "qeff/prune/structured/pruned_walk.h"
#include "qeff/prune/structured/pruned_writer.h"
#include "qeff/prune/structured/slice_weights.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Tokens that candidates are compared on, and the share of the sequences of
// these that nothing is fitted to.
constexpr int64_t kSearchTokens = 8192;
constexpr int64_t kMeasuredPart = 4;

class Pruner {
 public:
  Pruner(std::shared_ptr<const Transformer> model, const TokenSample& sample,
         const StructuredOptions& options, ThreadPool& pool)
      : model_(std::move(model)),
        spec_(model_->spec()),
        sample_(sample),
        options_(options),
        pool_(pool) {}

  absl::StatusOr<StructuredReport> Go(const std::string& output) {
    QEFF_ASSIGN_OR_RETURN(const std::vector<PrunedSizes> sizes, Candidates());
    struct stat info;
    if (lstat(output.c_str(), &info) == 0) {
      return absl::AlreadyExistsError(
          absl::StrCat(output, ": exists already; give a new path"));
    }
    report_.parameters_before = CountParameters(spec_);
    QEFF_ASSIGN_OR_RETURN(importance_, Importance());
    report_.sizes = sizes[0];
    if (sizes.size() > 1) QEFF_RETURN_IF_ERROR(Compare(sizes));
    report_.plan = ChoosePlan(spec_, importance_, report_.sizes);
    report_.parameters_after = CountParameters(PrunedSpec(spec_, report_.plan));
    QEFF_RETURN_IF_ERROR(Write(output));
    return std::move(report_);
  }

 private:
  // What there is to choose from, and can be written.
  absl::StatusOr<std::vector<PrunedSizes>> Candidates() const {
    const StructuredImportance none = ZeroImportance(spec_);
    if (options_.parameters == 0) {
      QEFF_RETURN_IF_ERROR(CheckSizes(spec_, options_.sizes));
      QEFF_RETURN_IF_ERROR(
          PruneConfig(*model_, ChoosePlan(spec_, none, options_.sizes))
              .status());
      return std::vector<PrunedSizes>{WholeSizes(spec_, options_.sizes)};
    }
    QEFF_ASSIGN_OR_RETURN(const std::vector<PrunedSizes> all,
                          SizesWithin(spec_, options_.parameters));
    std::vector<PrunedSizes> sizes;
    absl::Status refused;
    for (const PrunedSizes& each : all) {
      refused = PruneConfig(*model_, ChoosePlan(spec_, none, each)).status();
      if (refused.ok()) sizes.push_back(each);
    }
    if (sizes.empty()) return refused;
    return sizes;
  }

  std::function<void(int64_t, int64_t)> ProgressOf(absl::string_view stage) {
    if (!options_.progress) return nullptr;
    return [this, stage](int64_t done, int64_t total) {
      options_.progress(stage, done, total);
    };
  }

  absl::StatusOr<StructuredImportance> Importance() {
    ImportanceOptions options;
    options.check = options_.check;
    options.progress = ProgressOf("importance");
    switch (options_.importance) {
      case ImportanceKind::kRandom:
        return RandomImportance(spec_, options_.seed);
      case ImportanceKind::kGradients:
        return MeasureGradients(model_, sample_, options_.scratch_path, options,
                                pool_);
      default:
        return MeasureActivations(model_, sample_, options, pool_);
    }
  }

  // The first tokens of the sample.
  TokenSample SearchSample() const {
    TokenSample part;
    for (const auto& sequence : sample_.sequences) {
      const int64_t length = static_cast<int64_t>(sequence.size());
      if (part.tokens > 0 && part.tokens + length > kSearchTokens) break;
      part.sequences.push_back(sequence);
      part.tokens += length;
    }
    return part;
  }

  // Sets report_.sizes to the best.
  absl::Status Compare(const std::vector<PrunedSizes>& sizes) {
    const TokenSample sample = SearchSample();
    if (sample.sequences.size() < 2) {
      return InvalidInputError(
          "--parameters: expected at least 2 calibration sequences, found ",
          sample.sequences.size());
    }
    PrunedWalkOptions walk;
    walk.compensate = options_.compensate;
    walk.damping = options_.damping;
    walk.measured_sequences = std::max<int64_t>(
        static_cast<int64_t>(sample.sequences.size()) / kMeasuredPart, 1);
    walk.check = options_.check;
    walk.progress = ProgressOf("candidates");
    std::vector<StructuredPlan> plans;
    for (const PrunedSizes& each : sizes) {
      plans.push_back(ChoosePlan(spec_, importance_, each));
    }
    QEFF_ASSIGN_OR_RETURN(const auto results,
                          WalkPruned(model_, plans, sample, walk, pool_));
    for (size_t i = 0; i < sizes.size(); ++i) {
      report_.candidates.push_back(
          {sizes[i], CountParameters(PrunedSpec(spec_, plans[i])),
           results[i].divergence});
    }
    std::stable_sort(report_.candidates.begin(), report_.candidates.end(),
                     [](const auto& a, const auto& b) {
                       return a.divergence < b.divergence;
                     });
    report_.sizes = report_.candidates[0].sizes;
    return absl::OkStatus();
  }

  absl::Status Write(const std::string& output) {
    const StructuredPlan& plan = report_.plan;
    QEFF_ASSIGN_OR_RETURN(const PrunedConfig config,
                          PruneConfig(*model_, plan));
    QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<PrunedWriter> writer,
                          PrunedWriter::Create(*model_, plan, config, output));
    const bool runs =
        options_.compensate || report_.sizes.hidden_size != spec_.hidden_size;
    QEFF_RETURN_IF_ERROR(runs ? WriteFitted(writer.get())
                              : WriteSliced(writer.get()));
    return writer->Commit();
  }

  absl::Status WriteFitted(PrunedWriter* writer) {
    PrunedWalkOptions walk;
    walk.compensate = options_.compensate;
    walk.damping = options_.damping;
    walk.check = options_.check;
    walk.progress = ProgressOf("prune");
    walk.on_block = [&](size_t, int64_t layer, const BlockWeights& weights) {
      return writer->WriteBlock(layer, weights);
    };
    QEFF_ASSIGN_OR_RETURN(
        const auto results,
        WalkPruned(model_, {&report_.plan, 1}, sample_, walk, pool_));
    report_.unsolved = results[0].unsolved;
    return writer->WriteEnds(results[0].final_norm,
                             results[0].projection.view(), pool_);
  }

  absl::Status WriteSliced(PrunedWriter* writer) {
    const StructuredPlan& plan = report_.plan;
    const int64_t layers = static_cast<int64_t>(plan.layers.size());
    for (int64_t i = 0; i < layers; ++i) {
      if (options_.check) QEFF_RETURN_IF_ERROR(options_.check());
      const size_t layer = static_cast<size_t>(i);
      QEFF_ASSIGN_OR_RETURN(const BlockWeights weights,
                            model_->LoadBlock(plan.layers[layer]));
      QEFF_RETURN_IF_ERROR(
          writer->WriteBlock(i, SliceBlock(spec_, plan, layer, weights)));
      model_->ReleaseBlock(plan.layers[layer]);
      if (options_.progress) options_.progress("prune", i + 1, layers);
    }
    QEFF_ASSIGN_OR_RETURN(const NormWeights norm, model_->LoadFinalNorm());
    return writer->WriteEnds(SliceNorm(norm, plan.hidden), {}, pool_);
  }

  std::shared_ptr<const Transformer> model_;
  const TransformerSpec& spec_;
  const TokenSample& sample_;
  const StructuredOptions& options_;
  ThreadPool& pool_;
  StructuredImportance importance_;
  StructuredReport report_;
};

}  // namespace

absl::StatusOr<ImportanceKind> ParseImportanceKind(absl::string_view name) {
  if (name == "activations") return ImportanceKind::kActivations;
  if (name == "gradients") return ImportanceKind::kGradients;
  if (name == "random") return ImportanceKind::kRandom;
  return InvalidInputError("expected activations, gradients or random, found ",
                           name);
}

absl::StatusOr<StructuredReport> PruneStructured(
    std::shared_ptr<const Transformer> model, const TokenSample& sample,
    const std::string& output, const StructuredOptions& options,
    ThreadPool& pool) {
  return GuardMemory([&] {
    return Pruner(std::move(model), sample, options, pool).Go(output);
  });
}

}  // namespace qeff
