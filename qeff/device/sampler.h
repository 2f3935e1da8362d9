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

// A token and its share of a sum.
struct TokenWeight {
  double weight;
  int32_t id;
};

// A token that was drawn from another model's logits, and what it was drawn
// from.
struct Proposal {
  int32_t token = 0;
  double probability = 0;  // of `token`
  // Probabilities of all tokens that could have been drawn, by id; empty where
  // the choice is greedy.
  std::vector<TokenWeight> distribution;
};

// Not thread-safe. Does not allocate after Create, but for what Propose says.
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

  // Takes back an Accept of the same tokens.
  void Withdraw(absl::Span<const int32_t> tokens);

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

  // For speculative decoding. Chooses a token as Sample does, of the logits of
  // a draft model, and says what it was drawn from. `proposal` grows to the
  // tokens that filters leave: reserve vocab_size of them for no allocation
  // here. Errors: those of Sample.
  absl::Status Propose(absl::Span<const float> logits, Proposal* proposal);

  // Returns a token that has exactly the distribution of Sample(logits) over
  // the random numbers, those of `proposal` included, and is the proposed one
  // as often as that allows: with p and q the filtered distributions of
  // `logits` and of the proposal,
  //   the proposed x with probability min(1, p(x) / q(x)), else a token drawn
  //   from max(0, p - q), normalized;
  // so it is x with probability sum over tokens of min(p, q). When greedy, it
  // is the token of Sample. Takes one random number or two. Preconditions:
  // `proposal` was made by this sampler (with whatever accepted tokens) and is
  // used once. Errors: those of Sample. Source: Leviathan et al. 2023 ("Fast
  // Inference from Transformers via Speculative Decoding"), algorithm 1; Chen
  // et al. 2023 ("Accelerating Large Language Model Decoding with Speculative
  // Sampling"), algorithm 2.
  absl::StatusOr<int32_t> Verify(const Proposal& proposal,
                                 absl::Span<const float> logits);

  // Forgets accepted tokens and begins the random numbers again.
  void Reset();

 private:
  // Its weight is the logit, then an unnormalized probability.
  using Candidate = TokenWeight;

  Sampler(const SamplerOptions& options, int64_t vocab_size);

  bool is_greedy() const { return options_.temperature == 0; }

  // Larger first, then the lower id.
  static bool Before(const Candidate& a, const Candidate& b);

  // Leaves what may be chosen; when greedy, all.
  absl::Status Filter(absl::Span<const float> logits);
  absl::Status Penalize(absl::Span<const float> logits);
  int32_t Greedy() const;
  void KeepTopK();
  void ToProbabilities();
  void KeepTopP();
  void KeepMinP();
  int32_t Draw();
  double SumOfWeights() const;
  double WeightOf(int32_t id) const;
  void SortById();
  // Candidates, of the sum of weights `sum` and by id, become max(0, p - q);
  // false when nothing is left.
  bool Subtract(absl::Span<const TokenWeight> q, double sum);

  SamplerOptions options_;
  Random random_;
  std::vector<int32_t> accepted_;      // [vocab_size]: how often
  std::vector<Candidate> candidates_;  // capacity vocab_size
};

}  // namespace qeff

#endif  // QEFF_DEVICE_SAMPLER_H_
