// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/prune_structured.h"

#include <algorithm>
#include <cstdio>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/types/optional.h"
#include "qeff/base/qeff_base_model.h"
#include "qeff/prune/structured/prune_structured.h"
#include "qeff/util/progress.h"
#include "qeff/util/status.h"
#include "tools/interrupt.h"

namespace qeff {
namespace {

// Candidates that are printed.
constexpr size_t kPrinted = 10;

constexpr const char* kFlags[] = {"ffn_size",    "heads",      "layers",
                                  "hidden_size", "parameters", "importance",
                                  "compensate"};
constexpr const char* kFlagsOfOthers[] = {
    "sparsity", "pattern", "allocation", "scheme", "memory_limit",
    "resume",   "restart", "ignore",     "dry_run"};

Json SizesJson(const PrunedSizes& sizes) {
  return Json{{"layers", sizes.layers},
              {"hidden_size", sizes.hidden_size},
              {"heads", sizes.heads},
              {"ffn_size", sizes.ffn_size}};
}

std::string FormatReport(const StructuredReport& report) {
  std::string text;
  for (size_t i = 0; i < std::min(kPrinted, report.candidates.size()); ++i) {
    const StructuredCandidate& candidate = report.candidates[i];
    absl::StrAppendFormat(&text, "%-56s %11d parameters, KL %.5f\n",
                          FormatSizes(candidate.sizes), candidate.parameters,
                          candidate.divergence);
  }
  if (report.candidates.size() > kPrinted) {
    absl::StrAppend(&text, "and ", report.candidates.size() - kPrinted,
                    " that cost more\n");
  }
  absl::StrAppendFormat(&text, "kept %s: %d of %d parameters, %.1f %%\n",
                        FormatSizes(report.sizes), report.parameters_after,
                        report.parameters_before,
                        100.0 * static_cast<double>(report.parameters_after) /
                            static_cast<double>(report.parameters_before));
  if (report.unsolved > 0) {
    absl::StrAppend(&text, "warning: ", report.unsolved,
                    " layers were not compensated: their inputs are not "
                    "finite, or say nothing\n");
  }
  return text;
}

Json ReportJson(const StructuredReport& report) {
  Json json = SizesJson(report.sizes);
  json["parameters_before"] = report.parameters_before;
  json["parameters_after"] = report.parameters_after;
  json["kept_layers"] = report.plan.layers;
  json["uncompensated_layers"] = report.unsolved;
  Json candidates = Json::array();
  for (const StructuredCandidate& candidate : report.candidates) {
    Json entry = SizesJson(candidate.sizes);
    entry["parameters"] = candidate.parameters;
    entry["kl"] = candidate.divergence;
    candidates.push_back(entry);
  }
  json["candidates"] = candidates;
  return json;
}

}  // namespace

void PruneStructuredFlags::Declare(FlagTable* flags) {
  flags->BeginSection("Structured pruning");
  flags->Add("ffn_size", &sizes_.ffn_size, "N",
             "structured: neurons that each feed-forward keeps; 0: all.");
  flags->Add("heads", &sizes_.heads, "N",
             "structured: heads of queries that each layer keeps, whole groups "
             "with their keys and values; 0: all.");
  flags->Add("layers", &sizes_.layers, "N",
             "structured: layers to keep; 0: all.");
  flags->Add("hidden_size", &sizes_.hidden_size, "N",
             "structured: channels of the hidden states to keep; 0: all.");
  flags->Add("parameters", &parameters_, "SHARE",
             "structured: instead of sizes, the share of the parameters to "
             "keep, such as 0.8: the sizes that cost least are searched for.");
  flags->AddChoice("importance", &importance_,
                   {"activations", "gradients", "random"},
                   "structured: what decides which parts go. random is for "
                   "comparison.");
  flags->Add("compensate", &compensate_, "",
             "structured: lets the weights that stay make up, by least "
             "squares, for those that go.");
}

absl::Status PruneStructuredFlags::CheckMethod(const std::string& method,
                                               const FlagTable& flags) const {
  const bool structured = method == "structured";
  for (const char* flag : kFlags) {
    if (structured || !flags.WasGiven(flag)) continue;
    return UsageError(absl::StrCat("--", flag, " needs --method=structured"));
  }
  for (const char* flag : kFlagsOfOthers) {
    if (!structured || !flags.WasGiven(flag)) continue;
    return UsageError(
        absl::StrCat("--", flag, " has no meaning with --method=structured"));
  }
  return structured ? CheckRequest(flags) : absl::OkStatus();
}

absl::Status PruneStructuredFlags::CheckRequest(const FlagTable& flags) const {
  if (!flags.WasGiven("calibration")) {
    return UsageError("--method=structured needs --calibration");
  }
  const bool sizes = sizes_.layers != 0 || sizes_.hidden_size != 0 ||
                     sizes_.heads != 0 || sizes_.ffn_size != 0;
  if (sizes && parameters_ != 0) {
    return UsageError(
        "--parameters excludes --ffn_size, --heads, --layers and "
        "--hidden_size");
  }
  if (parameters_ != 0 && !(parameters_ > 0 && parameters_ < 1)) {
    return UsageError(absl::StrCat("--parameters=", parameters_,
                                   ": expected a share above 0 and below 1"));
  }
  if (!sizes && parameters_ == 0) {
    return UsageError(
        "--method=structured needs --parameters or one or more of --ffn_size, "
        "--heads, --layers and --hidden_size, each at least 1");
  }
  return absl::OkStatus();
}

absl::StatusOr<Json> PruneStructuredFlags::Run(
    const std::string& model, const CalibrationFlags& calibration,
    const std::string& output, const CommandEnv& env) const {
  QEFF_ASSIGN_OR_RETURN(const std::shared_ptr<const Transformer> original,
                        LoadTransformer(model));
  QEFF_ASSIGN_OR_RETURN(const TokenSample tokens,
                        calibration.Sample(*original));
  QEFF_RETURN_IF_ERROR(calibration.CheckModel(original, tokens, env));
  const InterruptScope interrupt;
  absl::optional<Progress> progress;
  std::string stage;
  StructuredOptions options;
  options.sizes = sizes_;
  options.parameters = parameters_;
  // AddChoice has checked the name.
  QEFF_ASSIGN_OR_RETURN(options.importance, ParseImportanceKind(importance_));
  options.seed = calibration.seed();
  options.compensate = compensate_;
  options.scratch_path = output + ".scratch";
  options.check = [&] { return interrupt.Check(); };
  options.progress = [&](absl::string_view name, int64_t done, int64_t total) {
    if (stage != name) {
      stage = std::string(name);
      progress.reset();
      progress.emplace(stage, total);
    }
    progress->Advance(done - progress->done());
  };
  QEFF_ASSIGN_OR_RETURN(
      const StructuredReport report,
      PruneStructured(original, tokens, output, options, *env.pool));
  progress.reset();
  std::fprintf(env.out, "%swrote %s\n", FormatReport(report).c_str(),
               output.c_str());
  Json json = ReportJson(report);
  json["output"] = output;
  return json;
}

}  // namespace qeff
