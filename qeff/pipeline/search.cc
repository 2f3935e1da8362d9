// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/search.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/types/optional.h"
#include "qeff/pipeline/candidate_recipes.h"
#include "qeff/pipeline/probe.h"
#include "qeff/pipeline/scheme_sizes.h"
#include "qeff/pipeline/sparse_choices.h"
#include "qeff/quant/budget.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

using pipeline::Recipe;

// What is tried alike for all layers.
constexpr const char* kSchemes[] = {
    "int2_g64", "int2_g32", "int3_g64", "int3_g32", "int4_g128",
    "int4_g64", "int4_g32", "int5_g64", "int6_g64", "int8"};

// Bisections between two schemes.
constexpr int kBisections = 2;

// At a size that is known afterwards, each aimed a little below the limit.
constexpr int kAttempts = 3;
constexpr double kCloser = 0.995;
// Of the smallest that keeps to a perplexity, what is worth trying instead.
constexpr double kMuchSmaller = 0.95;

// Of a probe: how many times what is allowed, or what another scheme loses, it
// has to lose to be ruled out. Calibration leaves
// between a quarter and two fifths of what rounding loses (qeff/quant/README.md
// has 2 to 4 bits of two models): a scheme ten times too bad stays too bad, and
// one that is behind by 2.5 times stays behind.
constexpr double kHopeless = 10;
constexpr double kFarBehind = 2.5;
// The same for sparse models, whose probes are calibrated: a full run still
// leaves half of it or more. With data training takes back most of what is
// left, and kHopeless and kFarBehind hold.
constexpr double kSparseHopeless = 2;
constexpr double kSparseBehind = 0.8;

class Search {
 public:
  Search(const RecipeInputs& inputs, const SearchLimits& limits,
         const RecipeRunOptions& options,
         const std::function<void(const Candidate&)>& on_candidate)
      : inputs_(inputs),
        limits_(limits),
        options_(options),
        on_candidate_(on_candidate),
        deadline_(absl::Now() + limits.time),
        prober_(inputs, options) {}

  absl::StatusOr<SearchResult> Run() {
    QEFF_RETURN_IF_ERROR(ListSizes());
    QEFF_RETURN_IF_ERROR(MeasureInput());
    QEFF_RETURN_IF_ERROR(limits_.perplexity_increase > 0 ? ForPerplexity()
                                                         : ForSize());
    const absl::optional<size_t> best = Best();
    if (!best.has_value()) return NothingFits();
    result_.seen[*best].chosen = true;
    result_.recipe = result_.seen[*best].recipe;
    return std::move(result_);
  }

 private:
  absl::Status ListSizes() {
    if (!ForDevice()) {
      QEFF_ASSIGN_OR_RETURN(sizes_, SizesInFolder(inputs_.model, kSchemes));
      return absl::OkStatus();
    }
    QEFF_ASSIGN_OR_RETURN(sizes_, SizesInPackage(inputs_.model, kSchemes));
    // What the engine has no product for would be float32 there.
    const std::vector<std::string> names = absl::StrSplit(kBudgetSchemes, ',');
    std::vector<const char*> in_budgets;
    for (const std::string& name : names) in_budgets.push_back(name.c_str());
    QEFF_ASSIGN_OR_RETURN(const SchemeSizes spent,
                          SizesInPackage(inputs_.model, in_budgets));
    for (const SchemeSize& size : spent.schemes) {
      if (!budget_schemes_.empty()) budget_schemes_ += ',';
      budget_schemes_ += size.scheme;
    }
    return absl::OkStatus();
  }

  bool ForDevice() const { return !limits_.target.empty(); }

  absl::Status MeasureInput() {
    Recipe recipe;
    recipe.add_step()->mutable_evaluate();
    QEFF_ASSIGN_OR_RETURN(const RecipeResult run,
                          RunRecipe(StepsOf(recipe), inputs_, options_));
    result_.perplexity_before = run.steps.back().result["perplexity"];
    return absl::OkStatus();
  }

  absl::StatusOr<Loss> Probe(const SchemeSize& size) {
    return prober_.Measure(RoundedRecipe(size.scheme));
  }

  bool TimeIsOver() const { return absl::Now() > deadline_; }

  // Makes and measures a candidate; the index of it, or nullopt when there is
  // no time left.
  absl::StatusOr<absl::optional<size_t>> Try(const std::string& name,
                                             Recipe recipe) {
    if (TimeIsOver()) return absl::optional<size_t>();
    Candidate candidate;
    candidate.name = name;
    recipe.add_step()->mutable_evaluate();
    if (ForDevice()) {
      pipeline::Compile* const compile = recipe.add_step()->mutable_compile();
      compile->set_target(limits_.target);
      if (recipe.step(0).has_prune()) compile->set_sparse("smaller");
    }
    candidate.recipe = recipe;
    QEFF_ASSIGN_OR_RETURN(const RecipeResult run,
                          RunRecipe(StepsOf(recipe), inputs_, options_), name);
    for (const StepReport& step : run.steps) {
      const Json& result = step.result;
      if (step.command == "eval") {
        candidate.perplexity = result["perplexity"];
        candidate.kl_mean = result.value("kl_mean", 0.0);
      } else if (!ForDevice()) {
        candidate.bytes = step.bytes;
        if (result.contains("quantized_bits_per_weight")) {
          candidate.bits_per_weight = result["quantized_bits_per_weight"];
        }
      } else if (step.command == "compile") {
        candidate.bytes = step.bytes;
        candidate.bits_per_weight = result["bits_per_weight"];
      }
    }
    if (on_candidate_) on_candidate_(candidate);
    result_.seen.push_back(std::move(candidate));
    return absl::optional<size_t>(result_.seen.size() - 1);
  }

  bool IsWithin(size_t index) const {
    return Fits(limits_, result_.seen[index], result_.perplexity_before);
  }

  absl::optional<size_t> Best() const {
    return BestWithin(limits_, result_.seen, result_.perplexity_before);
  }

  absl::Status ForSize() {
    // The two largest of those that fit: with larger groups more bits fit.
    std::vector<SchemeSize> fitting;
    for (const SchemeSize& size : sizes_.schemes) {
      if (FitsSize(limits_, size.bytes, size.bits_per_weight))
        fitting.push_back(size);
    }
    if (fitting.empty()) return Smaller();
    const SchemeSize& largest = fitting.back();
    QEFF_RETURN_IF_ERROR(TryUniform(largest).status());
    if (fitting.size() > 1) {
      const SchemeSize& second = fitting[fitting.size() - 2];
      QEFF_ASSIGN_OR_RETURN(const bool far, IsFarBehind(second, largest));
      if (far) {
        result_.ruled_out.push_back(second.scheme);
      } else {
        QEFF_RETURN_IF_ERROR(TryUniform(second).status());
      }
    }
    if (fitting.size() < sizes_.schemes.size()) {
      QEFF_RETURN_IF_ERROR(SpendAll());
    }
    QEFF_RETURN_IF_ERROR(TeachBest());
    return TrySparseOfSize(largest);
  }

  double MostBits() const {
    return limits_.bytes != 0 ? sizes_.BitsWithin(limits_.bytes)
                              : limits_.bits_per_weight;
  }

  // A budget of the whole limit.
  absl::Status SpendAll() {
    if (limits_.bytes != 0 && !ForDevice()) {
      return TryBudget(absl::StrCat(limits_.bytes, "B")).status();
    }
    // A package may pad what quantize counts without: rows of 172 codes of 3
    // bits take the place of 192.
    double bits = MostBits();
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      QEFF_ASSIGN_OR_RETURN(const absl::optional<size_t> index,
                            TryBudget(absl::StrFormat("%.6gbpw", bits)));
      if (!index.has_value() || IsWithin(*index)) break;
      bits *= kCloser * MostBits() / result_.seen[*index].bits_per_weight;
    }
    return absl::OkStatus();
  }

  absl::StatusOr<absl::optional<size_t>> TryUniform(const SchemeSize& size) {
    return Try(size.scheme, UniformRecipe(limits_.candidates, size.scheme));
  }

  absl::StatusOr<absl::optional<size_t>> TryBudget(const std::string& budget) {
    return Try(absl::StrCat("budget ", budget),
               BudgetRecipe(limits_.candidates, budget, budget_schemes_));
  }

  absl::StatusOr<bool> IsFarBehind(const SchemeSize& size,
                                   const SchemeSize& other) {
    if (size.bits == other.bits || TimeIsOver()) return false;
    QEFF_ASSIGN_OR_RETURN(const Loss of_other, Probe(other));
    QEFF_ASSIGN_OR_RETURN(const Loss of_this, Probe(size));
    return of_this.kl > kFarBehind * of_other.kl;
  }

  // Instead of the scheme `dense`.
  absl::Status TrySparseOfSize(const SchemeSize& dense) {
    const std::vector<SparseChoice> choices = SparseWithin(MostBits());
    if (choices.empty() || TimeIsOver()) return absl::OkStatus();
    QEFF_ASSIGN_OR_RETURN(const Loss of_dense, Probe(dense));
    const double most =
        of_dense.kl * (inputs_.data.empty() ? kSparseBehind : kFarBehind);
    return TrySparse(choices,
                     [most](const Loss& loss) { return loss.kl > most; });
  }

  // Smaller than the best so far.
  absl::Status TrySparseOfPerplexity() {
    const absl::optional<size_t> best = Best();
    if (!best.has_value()) return absl::OkStatus();
    const double most = std::log1p(limits_.perplexity_increase) *
                        (inputs_.data.empty() ? kSparseHopeless : kHopeless);
    return TrySparse(
        SparseWithin(kMuchSmaller * result_.seen[*best].bits_per_weight),
        [most](const Loss& loss) { return loss.nll > most; });
  }

  // None for a folder, where zeros take the place of any other code.
  std::vector<SparseChoice> SparseWithin(double bits) const {
    if (!ForDevice()) return {};
    return SparseChoicesWithin(bits, sizes_);
  }

  // Of those that the probe does not rule out, the one that loses least there.
  absl::Status TrySparse(const std::vector<SparseChoice>& choices,
                         const std::function<bool(const Loss&)>& rules_out) {
    absl::optional<SparseChoice> best;
    double least = 0;
    for (const SparseChoice& choice : choices) {
      if (TimeIsOver()) return absl::OkStatus();
      QEFF_ASSIGN_OR_RETURN(
          const Loss loss,
          prober_.Measure(SparseProbeRecipe(limits_.candidates, choice)),
          choice.name());
      if (rules_out(loss) || (best.has_value() && loss.kl >= least)) {
        result_.ruled_out.push_back(choice.name());
        continue;
      }
      if (best.has_value()) result_.ruled_out.push_back(best->name());
      best = choice;
      least = loss.kl;
    }
    if (!best.has_value()) return absl::OkStatus();
    QEFF_RETURN_IF_ERROR(
        Try(best->name(), SparseRecipe(limits_.candidates, *best)).status());
    if (inputs_.data.empty()) return absl::OkStatus();
    return Try(best->name() + ", distilled",
               TaughtSparseRecipe(limits_.candidates, *best))
        .status();
  }

  // The best so far, if one scheme is all it has, taught.
  absl::Status TeachBest() {
    if (inputs_.data.empty()) return absl::OkStatus();
    absl::optional<size_t> best;
    for (size_t i = 0; i < result_.seen.size(); ++i) {
      if (result_.seen[i].recipe.step(0).quantize().has_budget()) continue;
      if (!best.has_value() ||
          result_.seen[i].perplexity < result_.seen[*best].perplexity) {
        best = i;
      }
    }
    if (!best.has_value()) return absl::OkStatus();
    return TryTaught(result_.seen[*best].recipe.step(0).quantize().scheme());
  }

  absl::Status TryTaught(const std::string& scheme) {
    return Try(scheme + ", distilled", TaughtRecipe(limits_.candidates, scheme))
        .status();
  }

  // Nothing fits with all of the parameters.
  absl::Status Smaller() {
    if (limits_.bytes == 0 || inputs_.data.empty()) return NothingFits();
    const SchemeSize* const four = sizes_.Find(kSmallerScheme);
    if (four == nullptr) return NothingFits();
    double share =
        static_cast<double>(limits_.bytes) / static_cast<double>(four->bytes);
    for (int attempt = 0; attempt < kAttempts && share > 0.05; ++attempt) {
      QEFF_ASSIGN_OR_RETURN(const absl::optional<size_t> index,
                            Try(absl::StrFormat("%.0f %% of the parameters, %s",
                                                share * 100, kSmallerScheme),
                                SmallerRecipe(limits_.candidates, share)));
      if (!index.has_value() || IsWithin(*index)) break;
      share *= .97 * static_cast<double>(limits_.bytes) /
               static_cast<double>(result_.seen[*index].bytes);
    }
    return absl::OkStatus();
  }

  absl::Status ForPerplexity() {
    const std::vector<SchemeSize>& sizes = sizes_.schemes;
    // From the smallest on: the first that keeps to it, and the one before.
    size_t at = 0;
    for (; at + 1 < sizes.size() && !TimeIsOver(); ++at) {
      QEFF_ASSIGN_OR_RETURN(const Loss loss, Probe(sizes[at]));
      if (loss.nll <= kHopeless * std::log1p(limits_.perplexity_increase)) {
        break;
      }
      result_.ruled_out.push_back(sizes[at].scheme);
    }
    for (; at < sizes.size(); ++at) {
      QEFF_ASSIGN_OR_RETURN(const absl::optional<size_t> index,
                            TryUniform(sizes[at]));
      if (!index.has_value()) return absl::OkStatus();
      if (IsWithin(*index)) break;
    }
    if (at == sizes.size() || at == 0) return absl::OkStatus();
    double low = sizes[at - 1].bits_per_weight;
    double high = sizes[at].bits_per_weight;
    for (int i = 0; i < kBisections; ++i) {
      const double middle = (low + high) / 2;
      QEFF_ASSIGN_OR_RETURN(const absl::optional<size_t> index,
                            TryBudget(absl::StrFormat("%.6gbpw", middle)));
      if (!index.has_value()) return absl::OkStatus();
      (IsWithin(*index) ? high : low) = middle;
    }
    if (!inputs_.data.empty()) {
      QEFF_RETURN_IF_ERROR(TryTaught(sizes[at - 1].scheme));
    }
    return TrySparseOfPerplexity();
  }

  absl::Status NothingFits() const {
    if (TimeIsOver() && result_.seen.empty()) {
      return absl::ResourceExhaustedError(
          "the time is over before a model was made");
    }
    if (limits_.perplexity_increase > 0) {
      double least = std::numeric_limits<double>::infinity();
      for (const Candidate& candidate : result_.seen) {
        least = std::min(least, candidate.perplexity);
      }
      least = IncreaseOf(least, result_.perplexity_before);
      return InvalidInputError(
          absl::StrFormat("no candidate keeps to an increase of %.3g %%: the "
                          "least was %.3g %%",
                          limits_.perplexity_increase * 100, least * 100));
    }
    return InvalidInputError(absl::StrFormat(
        "nothing is as small: the smallest has %d bytes, %.3f bits a weight, "
        "the model %d bytes%s",
        sizes_.schemes.front().bytes, sizes_.schemes.front().bits_per_weight,
        sizes_.model_bytes,
        inputs_.data.empty() ? "; with data, fewer parameters would be tried"
                             : ""));
  }

  const RecipeInputs& inputs_;
  const SearchLimits& limits_;
  const RecipeRunOptions& options_;
  const std::function<void(const Candidate&)>& on_candidate_;
  const absl::Time deadline_;
  SchemeSizes sizes_;
  std::string budget_schemes_;  // "": all that quantize has for it
  Prober prober_;
  SearchResult result_;
};

}  // namespace

absl::StatusOr<SearchResult> SearchRecipe(
    const RecipeInputs& inputs, const SearchLimits& limits,
    const RecipeRunOptions& options,
    const std::function<void(const Candidate&)>& on_candidate) {
  if (inputs.calibration.empty() || inputs.text.empty()) {
    return InvalidInputError("a search needs calibration and text");
  }
  return Search(inputs, limits, options, on_candidate).Run();
}

}  // namespace qeff
