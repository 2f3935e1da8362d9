// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "qeff/device/scalar_math.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr int64_t kMaxVocabSize = int64_t{1} << 31;

absl::Status CheckOptions(const SamplerOptions& options) {
  if (!std::isfinite(options.temperature) || options.temperature < 0) {
    return InvalidInputError("temperature: expected 0 or more, found ",
                             options.temperature);
  }
  if (options.top_k < 0) {
    return InvalidInputError("top_k: expected 0 or more, found ",
                             options.top_k);
  }
  if (!(options.top_p > 0 && options.top_p <= 1)) {
    return InvalidInputError("top_p: expected above 0 and at most 1, found ",
                             options.top_p);
  }
  if (!(options.min_p >= 0 && options.min_p <= 1)) {
    return InvalidInputError("min_p: expected 0 to 1, found ", options.min_p);
  }
  // The range keeps penalized logits finite.
  if (!(options.repetition_penalty >= 0.001 &&
        options.repetition_penalty <= 1000)) {
    return InvalidInputError(
        "repetition_penalty: expected 0.001 to 1000, found ",
        options.repetition_penalty);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Sampler> Sampler::Create(const SamplerOptions& options,
                                        int64_t vocab_size) {
  QEFF_RETURN_IF_ERROR(CheckOptions(options));
  if (vocab_size < 1 || vocab_size >= kMaxVocabSize) {
    return InvalidInputError("vocab_size: expected 1 to ", kMaxVocabSize - 1,
                             ", found ", vocab_size);
  }
  return Sampler(options, vocab_size);
}

Sampler::Sampler(const SamplerOptions& options, int64_t vocab_size)
    : options_(options),
      random_(options.seed),
      accepted_(static_cast<size_t>(vocab_size), 0) {
  candidates_.reserve(accepted_.size());
}

void Sampler::Accept(absl::Span<const int32_t> tokens) {
  for (int32_t token : tokens) {
    if (token < 0 || static_cast<size_t>(token) >= accepted_.size()) continue;
    ++accepted_[static_cast<size_t>(token)];
  }
}

void Sampler::Withdraw(absl::Span<const int32_t> tokens) {
  for (int32_t token : tokens) {
    if (token < 0 || static_cast<size_t>(token) >= accepted_.size()) continue;
    --accepted_[static_cast<size_t>(token)];
  }
}

void Sampler::Reset() {
  random_ = Random(options_.seed);
  std::fill(accepted_.begin(), accepted_.end(), 0);
}

absl::StatusOr<int32_t> Sampler::Sample(absl::Span<const float> logits) {
  QEFF_RETURN_IF_ERROR(Filter(logits));
  return is_greedy() ? Greedy() : Draw();
}

absl::Status Sampler::Propose(absl::Span<const float> logits,
                              Proposal* proposal) {
  QEFF_RETURN_IF_ERROR(Filter(logits));
  proposal->distribution.clear();
  if (is_greedy()) {
    proposal->token = Greedy();
    proposal->probability = 1;
    return absl::OkStatus();
  }
  proposal->token = Draw();
  SortById();
  const double sum = SumOfWeights();
  for (const Candidate& c : candidates_) {
    proposal->distribution.push_back({c.weight / sum, c.id});
  }
  proposal->probability = WeightOf(proposal->token) / sum;
  return absl::OkStatus();
}

absl::StatusOr<int32_t> Sampler::Verify(const Proposal& proposal,
                                        absl::Span<const float> logits) {
  QEFF_RETURN_IF_ERROR(Filter(logits));
  if (is_greedy()) return Greedy();
  SortById();
  const double sum = SumOfWeights();
  const double p = WeightOf(proposal.token) / sum;
  if (random_.NextDouble() * proposal.probability < p) return proposal.token;
  // Nothing is left where p and q differ by rounding only.
  return Subtract(proposal.distribution, sum) ? Draw() : proposal.token;
}

absl::Status Sampler::Filter(absl::Span<const float> logits) {
  QEFF_RETURN_IF_ERROR(Penalize(logits));
  if (is_greedy()) return absl::OkStatus();
  KeepTopK();
  ToProbabilities();
  KeepTopP();
  KeepMinP();
  return absl::OkStatus();
}

// Fills the candidates, in the order of ids, without those of probability 0.
absl::Status Sampler::Penalize(absl::Span<const float> logits) {
  if (logits.size() != accepted_.size()) {
    return InvalidInputError("logits: expected ", accepted_.size(), ", found ",
                             logits.size());
  }
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    double logit = logits[i];
    if (std::isnan(logit) || logit == std::numeric_limits<double>::infinity()) {
      return NumericalError("logit of token ", i, " is ", logit);
    }
    if (std::isinf(logit)) continue;
    if (accepted_[i] != 0) {
      logit = logit > 0 ? logit / options_.repetition_penalty
                        : logit * options_.repetition_penalty;
    }
    candidates_.push_back(Candidate{logit, static_cast<int32_t>(i)});
  }
  if (candidates_.empty()) {
    return NumericalError("all logits are minus infinity");
  }
  return absl::OkStatus();
}

int32_t Sampler::Greedy() const {
  // The first of equals.
  return std::max_element(candidates_.begin(), candidates_.end(),
                          [](const Candidate& a, const Candidate& b) {
                            return a.weight < b.weight;
                          })
      ->id;
}

bool Sampler::Before(const Candidate& a, const Candidate& b) {
  return a.weight != b.weight ? a.weight > b.weight : a.id < b.id;
}

// Leaves the k largest in order: what nth_element leaves is unspecified.
void Sampler::KeepTopK() {
  const size_t k = static_cast<size_t>(options_.top_k);
  if (k == 0 || k >= candidates_.size()) return;
  std::nth_element(candidates_.begin(),
                   candidates_.begin() + options_.top_k - 1, candidates_.end(),
                   Before);
  candidates_.resize(k);
  std::sort(candidates_.begin(), candidates_.end(), Before);
}

// The largest logit gets weight 1.
void Sampler::ToProbabilities() {
  double max = -std::numeric_limits<double>::infinity();
  for (const Candidate& c : candidates_) max = std::max(max, c.weight);
  for (Candidate& c : candidates_) {
    c.weight = internal_device::Exp((c.weight - max) / options_.temperature);
  }
}

void Sampler::KeepTopP() {
  if (options_.top_p >= 1) return;
  std::sort(candidates_.begin(), candidates_.end(), Before);
  const double enough = options_.top_p * SumOfWeights();
  double sum = 0;
  size_t kept = 0;
  while (kept < candidates_.size() && (kept == 0 || sum < enough)) {
    sum += candidates_[kept++].weight;
  }
  candidates_.resize(kept);
}

void Sampler::KeepMinP() {
  candidates_.erase(std::remove_if(candidates_.begin(), candidates_.end(),
                                   [this](const Candidate& c) {
                                     return c.weight < options_.min_p;
                                   }),
                    candidates_.end());
}

int32_t Sampler::Draw() {
  const double target = random_.NextDouble() * SumOfWeights();
  double sum = 0;
  int32_t chosen = candidates_.front().id;
  for (const Candidate& c : candidates_) {
    if (c.weight == 0) continue;
    chosen = c.id;
    sum += c.weight;
    if (sum > target) break;
  }
  return chosen;  // the last possible one if target was rounded up to the sum
}

double Sampler::WeightOf(int32_t id) const {
  for (const Candidate& c : candidates_) {
    if (c.id == id) return c.weight;
  }
  return 0;
}

// Without top-k and top-p candidates have their order already.
void Sampler::SortById() {
  const auto by_id = [](const Candidate& a, const Candidate& b) {
    return a.id < b.id;
  };
  if (std::is_sorted(candidates_.begin(), candidates_.end(), by_id)) return;
  std::sort(candidates_.begin(), candidates_.end(), by_id);
}

bool Sampler::Subtract(absl::Span<const TokenWeight> q, double sum) {
  bool any_left = false;
  auto other = q.begin();
  for (Candidate& c : candidates_) {
    while (other != q.end() && other->id < c.id) ++other;
    const bool in_both = other != q.end() && other->id == c.id;
    c.weight = std::max(0.0, c.weight / sum - (in_both ? other->weight : 0.0));
    any_left |= c.weight > 0;
  }
  return any_left;
}

double Sampler::SumOfWeights() const {
  double sum = 0;
  for (const Candidate& c : candidates_) sum += c.weight;
  return sum;
}

}  // namespace qeff
