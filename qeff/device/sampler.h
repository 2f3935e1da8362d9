// SPDX-License-Identifier: Apache-2.0
//
// Chooses the next token from logits. Filters apply in the order of Hugging
// Face's transformers: repetition penalty, temperature, top-k, top-p, min-p;
// then one token is drawn from what is left. (llama.cpp applies temperature
// last, so with both top-p and a temperature other than 1 it keeps other
// tokens.)

#ifndef QEFF_DEVICE_SAMPLER_H_
#define QEFF_DEVICE_SAMPLER_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/util/random.h"

namespace qeff {

// The defaults leave the choice greedy.
struct SamplerOptions {
  // Divides the logits; 0 takes the largest, after the repetition penalty: the
  // other filters and the seed then play no part.
  double temperature = 0.0;
  // Keeps the k largest logits; 0 keeps all.
  int64_t top_k = 0;
  // Keeps the fewest most probable tokens whose probabilities add up to at
  // least top_p; 1 keeps all. At least one is kept. Source: Holtzman et al.
  // 2020 ("The Curious Case of Neural Text Degeneration").
  double top_p = 1.0;
  // Keeps tokens at least min_p times as probable as the most probable one; 0
  // keeps all. Source: Nguyen et al. 2024 ("Turning Up the Heat").
  double min_p = 0.0;
  // Divides positive and multiplies negative logits of tokens that were
  // accepted, once each; 1 is off. Source: Keskar et al. 2019 (CTRL).
  double repetition_penalty = 1.0;
  uint64_t seed = 0;
};

// Not thread-safe. Does not allocate after Create.
class Sampler {
 public:
  // Errors: kInvalidArgument, naming the option, its value and what was
  // expected: temperature finite and >= 0, top_k >= 0, top_p in (0, 1], min_p
  // in [0, 1], repetition_penalty in [0.001, 1000]; vocab_size in [1, 2^31).
  static absl::StatusOr<Sampler> Create(const SamplerOptions& options,
                                        int64_t vocab_size);

  int64_t vocab_size() const { return static_cast<int64_t>(accepted_.size()); }

  // Records tokens that the repetition penalty then applies to: the prompt
  // and each token that was chosen. Ids outside the vocabulary are ignored.
  void Accept(absl::Span<const int32_t> tokens);

  // Returns the next token; does not accept it. Ties go to the lowest id, in
  // the largest logit as at the edge of a filter. The n-th call that is not
  // greedy takes the n-th random number of the seed, so the result is a
  // function of the options, the accepted tokens, the logits and n. Minus
  // infinity is a probability of 0. Errors: kInvalidArgument when logits.size()
  // is not the vocabulary's; kDataLoss for NaN or plus infinity, naming the
  // token, or when all logits are minus infinity. Numerics: probabilities in
  // double with an exponential of our own: the same choice on every machine.
  // Cost: one pass; top_k and top_p sort what they keep and look at.
  absl::StatusOr<int32_t> Sample(absl::Span<const float> logits);

  // Forgets accepted tokens and begins the random numbers again.
  void Reset();

 private:
  struct Candidate {
    double weight;  // the logit, then its unnormalized probability
    int32_t id;
  };

  Sampler(const SamplerOptions& options, int64_t vocab_size);

  // Larger first, then the lower id.
  static bool Before(const Candidate& a, const Candidate& b);

  absl::Status Penalize(absl::Span<const float> logits);
  int32_t Greedy() const;
  void KeepTopK();
  void ToProbabilities();
  void KeepTopP();
  void KeepMinP();
  int32_t Draw();
  double SumOfWeights() const;

  SamplerOptions options_;
  Random random_;
  std::vector<uint8_t> accepted_;      // [vocab_size], 0 or 1
  std::vector<Candidate> candidates_;  // capacity vocab_size
};

}  // namespace qeff

#endif  // QEFF_DEVICE_SAMPLER_H_
