// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/search.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/types/optional.h"
#include "qeff/io/checkpoint.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/transformer/model_map.h"
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

// Of a probe: tokens that are measured, and how many times what is allowed, or
// what another scheme loses, it has to lose to be ruled out. Calibration leaves
// between a quarter and two fifths of what rounding loses (qeff/quant/README.md
// has 2 to 4 bits of two models): a scheme ten times too bad stays too bad, and
// one that is behind by 2.5 times stays behind.
constexpr int64_t kProbeTokens = 8192;
constexpr double kHopeless = 10;
constexpr double kFarBehind = 2.5;

// What rounding to a scheme loses, in nats a token.
struct Loss {
  double nll = 0;  // more than the model's own
  double kl = 0;
};

// What a scheme takes, before anything is run.
struct SchemeSize {
  std::string scheme;
  uint64_t bytes;
  double bits_per_weight;
  int bits;
};

class Search {
 public:
  Search(const RecipeInputs& inputs, const SearchLimits& limits,
         const RecipeRunOptions& options,
         const std::function<void(const Candidate&)>& on_candidate)
      : inputs_(inputs),
        limits_(limits),
        options_(options),
        on_candidate_(on_candidate),
        deadline_(absl::Now() + limits.time) {}

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
    QEFF_ASSIGN_OR_RETURN(const auto checkpoint,
                          Checkpoint::Open(inputs_.model));
    QEFF_ASSIGN_OR_RETURN(const ModelMap map, MapModel(*checkpoint));
    bytes_before_ = checkpoint->weight_bytes();
    for (const char* scheme : kSchemes) {
      QuantizeOptions options;
      QEFF_ASSIGN_OR_RETURN(options.scheme, ParseQuantScheme(scheme));
      QEFF_ASSIGN_OR_RETURN(const QuantizePlan plan,
                            PlanQuantization(*checkpoint, map, options));
      sizes_.push_back({scheme, plan.BytesAfter(),
                        plan.QuantizedBitsPerWeight(), options.scheme.bits});
    }
    std::stable_sort(sizes_.begin(), sizes_.end(),
                     [](const SchemeSize& a, const SchemeSize& b) {
                       return a.bytes < b.bytes;
                     });
    return absl::OkStatus();
  }

  absl::Status MeasureInput() {
    Recipe recipe;
    recipe.add_step()->mutable_evaluate();
    QEFF_ASSIGN_OR_RETURN(const RecipeResult run,
                          RunRecipe(StepsOf(recipe), inputs_, options_));
    result_.perplexity_before = run.steps.back().result["perplexity"];
    return absl::OkStatus();
  }

  // Quantization with whatever measured best at these bits.
  Recipe Quantized(const std::string& scheme, const std::string& budget,
                   int bits) const {
    Recipe recipe;
    pipeline::Quantize* const quantize = recipe.add_step()->mutable_quantize();
    if (!scheme.empty()) quantize->set_scheme(scheme);
    if (!budget.empty()) quantize->set_budget(budget);
    quantize->set_algorithm(bits <= 4 && budget.empty() ? "best" : "gptq");
    Calibrate(quantize);
    return recipe;
  }

  template <class Options>
  void Calibrate(Options* options) const {
    options->set_calibration_tokens(limits_.calibration_tokens);
    options->set_sequence_length(limits_.sequence_length);
    options->set_seed(limits_.seed);
  }

  void Teach(Recipe* recipe, const std::string& scheme) const {
    pipeline::Distill* const distill = recipe->add_step()->mutable_distill();
    distill->set_loss("kl:1,ce:1");
    distill->set_steps(limits_.distill_steps);
    distill->set_warmup_steps(limits_.distill_steps / 10);
    distill->set_learning_rate(scheme.empty() ? 1e-3 : 3e-4);
    distill->set_eval_every(limits_.distill_steps);
    distill->set_sequence_length(limits_.sequence_length);
    distill->set_seed(limits_.seed);
    if (scheme.empty()) return;
    distill->set_scheme(scheme);
    distill->set_learn_scales(true);
  }

  // The result of measuring what `recipe` makes on the beginning of the text.
  absl::StatusOr<Json> MeasureBeginning(Recipe recipe) const {
    recipe.add_step()->mutable_evaluate()->set_max_tokens(kProbeTokens);
    QEFF_ASSIGN_OR_RETURN(const RecipeResult run,
                          RunRecipe(StepsOf(recipe), inputs_, options_));
    return run.steps.back().result;
  }

  absl::StatusOr<Loss> Probe(const SchemeSize& size) {
    if (!nll_before_.has_value()) {
      QEFF_ASSIGN_OR_RETURN(const Json before, MeasureBeginning(Recipe()));
      nll_before_ = before["nll"].get<double>();
    }
    Recipe recipe;
    pipeline::Quantize* const quantize = recipe.add_step()->mutable_quantize();
    quantize->set_scheme(size.scheme);
    quantize->set_algorithm("mse");
    QEFF_ASSIGN_OR_RETURN(const Json after,
                          MeasureBeginning(std::move(recipe)));
    return Loss{after["nll"].get<double>() - *nll_before_,
                after["kl_mean"].get<double>()};
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
    candidate.recipe = recipe;
    QEFF_ASSIGN_OR_RETURN(const RecipeResult run,
                          RunRecipe(StepsOf(recipe), inputs_, options_), name);
    for (const StepReport& step : run.steps) {
      if (step.parameters != 0) candidate.bytes = step.bytes;
      if (step.result.contains("quantized_bits_per_weight")) {
        candidate.bits_per_weight = step.result["quantized_bits_per_weight"];
      }
    }
    const Json& measured = run.steps.back().result;
    candidate.perplexity = measured["perplexity"];
    candidate.kl_mean = measured.value("kl_mean", 0.0);
    if (on_candidate_) on_candidate_(candidate);
    result_.seen.push_back(std::move(candidate));
    return absl::optional<size_t>(result_.seen.size() - 1);
  }

  bool FitsSize(uint64_t bytes, double bits_per_weight) const {
    if (limits_.bytes != 0) return bytes <= limits_.bytes;
    if (limits_.bits_per_weight == 0) return true;
    // Scales of a whole row are a few bits of thousands.
    return bits_per_weight <= limits_.bits_per_weight;
  }

  double Increase(double perplexity) const {
    return perplexity / result_.perplexity_before - 1;
  }

  bool Fits(const Candidate& candidate) const {
    if (limits_.perplexity_increase > 0) {
      return Increase(candidate.perplexity) <= limits_.perplexity_increase;
    }
    return FitsSize(candidate.bytes, candidate.bits_per_weight);
  }

  absl::optional<size_t> Best() const {
    absl::optional<size_t> best;
    for (size_t i = 0; i < result_.seen.size(); ++i) {
      const Candidate& candidate = result_.seen[i];
      if (!Fits(candidate)) continue;
      if (best.has_value()) {
        const Candidate& other = result_.seen[*best];
        const bool better =
            limits_.perplexity_increase > 0
                ? std::make_pair(candidate.bytes, candidate.perplexity) <
                      std::make_pair(other.bytes, other.perplexity)
                : std::make_pair(candidate.perplexity, candidate.bytes) <
                      std::make_pair(other.perplexity, other.bytes);
        if (!better) continue;
      }
      best = i;
    }
    return best;
  }

  absl::Status ForSize() {
    // The two largest of those that fit: with larger groups more bits fit.
    std::vector<SchemeSize> fitting;
    for (const SchemeSize& size : sizes_) {
      if (FitsSize(size.bytes, size.bits_per_weight)) fitting.push_back(size);
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
    if (fitting.size() < sizes_.size()) {
      const std::string budget =
          limits_.bytes != 0
              ? absl::StrCat(limits_.bytes, "B")
              : absl::StrFormat("%.6gbpw", limits_.bits_per_weight);
      QEFF_RETURN_IF_ERROR(Try(absl::StrCat("budget ", budget),
                               Quantized("", budget, fitting.back().bits))
                               .status());
    }
    return TeachBest();
  }

  absl::StatusOr<absl::optional<size_t>> TryUniform(const SchemeSize& size) {
    return Try(size.scheme, Quantized(size.scheme, "", size.bits));
  }

  absl::StatusOr<bool> IsFarBehind(const SchemeSize& size,
                                   const SchemeSize& other) {
    if (size.bits == other.bits || TimeIsOver()) return false;
    QEFF_ASSIGN_OR_RETURN(const Loss of_other, Probe(other));
    QEFF_ASSIGN_OR_RETURN(const Loss of_this, Probe(size));
    return of_this.kl > kFarBehind * of_other.kl;
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
    const std::string scheme =
        result_.seen[*best].recipe.step(0).quantize().scheme();
    QEFF_ASSIGN_OR_RETURN(const QuantScheme parsed, ParseQuantScheme(scheme));
    Recipe recipe = Quantized(scheme, "", parsed.bits);
    Teach(&recipe, scheme);
    const double bits = result_.seen[*best].bits_per_weight;
    QEFF_ASSIGN_OR_RETURN(const absl::optional<size_t> index,
                          Try(scheme + ", distilled", recipe));
    if (index.has_value()) result_.seen[*index].bits_per_weight = bits;
    return absl::OkStatus();
  }

  // Nothing fits with all of the parameters.
  absl::Status Smaller() {
    if (limits_.bytes == 0 || inputs_.data.empty()) return NothingFits();
    const auto four = std::find_if(
        sizes_.begin(), sizes_.end(),
        [](const SchemeSize& size) { return size.scheme == "int4_g64"; });
    double share =
        static_cast<double>(limits_.bytes) / static_cast<double>(four->bytes);
    for (int attempt = 0; attempt < 3 && share > 0.05; ++attempt) {
      Recipe recipe;
      pipeline::Prune* const prune = recipe.add_step()->mutable_prune();
      prune->set_method("structured");
      prune->set_parameters(share);
      Calibrate(prune);
      Teach(&recipe, "");
      pipeline::Quantize* const quantize =
          recipe.add_step()->mutable_quantize();
      quantize->set_scheme("int4_g64");
      quantize->set_algorithm("best");
      Calibrate(quantize);
      QEFF_ASSIGN_OR_RETURN(
          const absl::optional<size_t> index,
          Try(absl::StrFormat("%.0f %% of the parameters, int4_g64",
                              share * 100),
              recipe));
      if (!index.has_value() || Fits(result_.seen[*index])) break;
      share *= .97 * static_cast<double>(limits_.bytes) /
               static_cast<double>(result_.seen[*index].bytes);
    }
    return absl::OkStatus();
  }

  absl::Status ForPerplexity() {
    // From the smallest on: the first that keeps to it, and the one before.
    size_t at = 0;
    for (; at + 1 < sizes_.size() && !TimeIsOver(); ++at) {
      QEFF_ASSIGN_OR_RETURN(const Loss loss, Probe(sizes_[at]));
      if (loss.nll <= kHopeless * std::log1p(limits_.perplexity_increase)) {
        break;
      }
      result_.ruled_out.push_back(sizes_[at].scheme);
    }
    for (; at < sizes_.size(); ++at) {
      QEFF_ASSIGN_OR_RETURN(const absl::optional<size_t> index,
                            TryUniform(sizes_[at]));
      if (!index.has_value()) return absl::OkStatus();
      if (Fits(result_.seen[*index])) break;
    }
    if (at == sizes_.size() || at == 0) return absl::OkStatus();
    double low = sizes_[at - 1].bits_per_weight;
    double high = sizes_[at].bits_per_weight;
    for (int i = 0; i < kBisections; ++i) {
      const double middle = (low + high) / 2;
      const std::string budget = absl::StrFormat("%.6gbpw", middle);
      QEFF_ASSIGN_OR_RETURN(const absl::optional<size_t> index,
                            Try(absl::StrCat("budget ", budget),
                                Quantized("", budget, sizes_[at].bits)));
      if (!index.has_value()) return absl::OkStatus();
      (Fits(result_.seen[*index]) ? high : low) = middle;
    }
    if (inputs_.data.empty()) return absl::OkStatus();
    const std::string scheme = sizes_[at - 1].scheme;
    Recipe recipe = Quantized(scheme, "", sizes_[at - 1].bits);
    Teach(&recipe, scheme);
    QEFF_ASSIGN_OR_RETURN(const absl::optional<size_t> index,
                          Try(scheme + ", distilled", recipe));
    if (index.has_value()) {
      result_.seen[*index].bits_per_weight = sizes_[at - 1].bits_per_weight;
    }
    return absl::OkStatus();
  }

  absl::Status NothingFits() const {
    if (TimeIsOver() && result_.seen.empty()) {
      return absl::ResourceExhaustedError(
          "the time is over before a model was made");
    }
    if (limits_.perplexity_increase > 0) {
      double least = std::numeric_limits<double>::infinity();
      for (const Candidate& candidate : result_.seen) {
        least = std::min(least, Increase(candidate.perplexity));
      }
      return InvalidInputError(
          absl::StrFormat("no candidate keeps to an increase of %.3g %%: the "
                          "least was %.3g %%",
                          limits_.perplexity_increase * 100, least * 100));
    }
    return InvalidInputError(absl::StrFormat(
        "nothing is as small: the smallest has %d bytes, %.3f bits a weight, "
        "the model %d bytes%s",
        sizes_.front().bytes, sizes_.front().bits_per_weight, bytes_before_,
        inputs_.data.empty() ? "; with data, fewer parameters would be tried"
                             : ""));
  }

  const RecipeInputs& inputs_;
  const SearchLimits& limits_;
  const RecipeRunOptions& options_;
  const std::function<void(const Candidate&)>& on_candidate_;
  const absl::Time deadline_;
  std::vector<SchemeSize> sizes_;  // by bytes
  uint64_t bytes_before_ = 0;
  absl::optional<double> nll_before_;  // of what a probe measures
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
