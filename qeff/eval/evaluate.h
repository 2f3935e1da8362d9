// SPDX-License-Identifier: Apache-2.0
//
// Quality of a model on text: perplexity, and how far its predictions are from
// a reference model's.

#ifndef QEFF_EVAL_EVALUATE_H_
#define QEFF_EVAL_EVALUATE_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "qeff/eval/windows.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// A model that predicts next tokens, for evaluation. Not thread-safe.
class LogitsModel {
 public:
  virtual ~LogitsModel() = default;

  virtual int64_t vocab_size() const = 0;

  // Runs the model over `sequences`; Logits then refers to these.
  virtual absl::Status Run(
      absl::Span<const std::vector<int32_t>> sequences) = 0;

  // Logits [rows, vocab_size] after tokens [begin, begin + rows) of sequence
  // `sequence` of the last Run: row r scores token begin + r + 1.
  virtual absl::StatusOr<Matrix<float>> Logits(int64_t sequence, int64_t begin,
                                               int64_t rows) = 0;
};

// How far a model is from a reference, over the scored tokens. p is the
// reference's distribution, q the model's.
struct Divergence {
  double kl_mean = 0;         // mean of sum p (ln p - ln q), in nats
  double kl_p99 = 0;          // 99th percentile (nearest rank) of the same
  double top1_agreement = 0;  // share of tokens with equal arg max
  double rms_dp = 0;          // RMS of q - p at the true token, from 0 to 1
};

struct EvalResult {
  double nll = 0;  // sum over scored tokens of -ln q, in nats
  int64_t tokens = 0;
  absl::optional<Divergence> divergence;

  // exp(nll / tokens).
  double perplexity() const;
};

struct EvaluateOptions {
  // Sequences that run through the model together: bounds the activations.
  int64_t tokens_per_batch = 4096;
  // Called with the number of scored windows after each batch; may be null.
  std::function<void(int64_t windows_done)> progress;
};

// Scores `windows`. With a `reference` (may be null) of the same vocabulary
// also its divergence. Sums are in double precision, in the order of the
// text: results do not depend on the number of threads.
// Errors: kInvalidArgument when the vocabularies differ; kDataLoss when a
// logit is not finite, naming window and token; those of the models.
absl::StatusOr<EvalResult> Evaluate(LogitsModel* model, LogitsModel* reference,
                                    absl::Span<const ScoredWindow> windows,
                                    ThreadPool* pool,
                                    const EvaluateOptions& options = {});

}  // namespace qeff

#endif  // QEFF_EVAL_EVALUATE_H_
