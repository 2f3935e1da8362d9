// SPDX-License-Identifier: Apache-2.0

#include "qeff/eval/evaluate.h"

#include <algorithm>
#include <cmath>

#include "qeff/eval/kl_divergence.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Rows of logits that are held at a time: 64 x 151,936 floats are 39 MB.
constexpr int64_t kRowsPerChunk = 64;

// What is kept of one scored token.
struct TokenScore {
  double nll = 0;
  double kl = 0;
  double dp = 0;
  bool agrees = false;
  bool finite = true;
};

TokenScore Score(absl::Span<const float> q_logits,
                 absl::Span<const float> p_logits, int32_t token) {
  TokenScore score;
  const LogSoftmax q(q_logits);
  const double log_q = q.LogProbability(q_logits[static_cast<size_t>(token)]);
  score.nll = -log_q;
  if (!p_logits.empty()) {
    const LogSoftmax p(p_logits);
    score.kl = KlDivergence(p_logits, p, q_logits, q);
    score.dp = std::exp(log_q) -
               std::exp(p.LogProbability(p_logits[static_cast<size_t>(token)]));
    score.agrees = p.arg_max == q.arg_max;
  }
  // A NaN or an infinite logit anywhere makes one of these non-finite.
  score.finite = std::isfinite(score.nll) && std::isfinite(score.kl) &&
                 std::isfinite(q.log_sum);
  return score;
}

class Evaluator {
 public:
  Evaluator(LogitsModel* model, LogitsModel* reference, ThreadPool* pool)
      : model_(model), reference_(reference), pool_(pool) {}

  absl::Status RunBatch(absl::Span<const ScoredWindow> windows,
                        int64_t first_window) {
    std::vector<std::vector<int32_t>> sequences;
    for (const ScoredWindow& w : windows) sequences.push_back(w.tokens);
    QEFF_RETURN_IF_ERROR(CheckTokens(sequences));
    QEFF_RETURN_IF_ERROR(model_->Run(sequences));
    if (reference_ != nullptr) {
      QEFF_RETURN_IF_ERROR(reference_->Run(sequences), "reference");
    }
    for (size_t i = 0; i < windows.size(); ++i) {
      QEFF_RETURN_IF_ERROR(
          ScoreWindow(windows[i], static_cast<int64_t>(i)),
          absl::StrCat("window ", first_window + static_cast<int64_t>(i)));
    }
    return absl::OkStatus();
  }

  EvalResult Result() const {
    EvalResult result;
    result.tokens = static_cast<int64_t>(scores_.size());
    for (const TokenScore& score : scores_) result.nll += score.nll;
    if (reference_ != nullptr) result.divergence = Summarize();
    return result;
  }

 private:
  absl::Status CheckTokens(
      const std::vector<std::vector<int32_t>>& sequences) const {
    for (const std::vector<int32_t>& sequence : sequences) {
      for (int32_t token : sequence) {
        if (token >= 0 && token < model_->vocab_size()) continue;
        return InvalidInputError("token id ", token,
                                 " is outside the vocabulary of ",
                                 model_->vocab_size());
      }
    }
    return absl::OkStatus();
  }

  absl::Status ScoreWindow(const ScoredWindow& window, int64_t sequence) {
    const int64_t vocab = model_->vocab_size();
    const int64_t length = static_cast<int64_t>(window.tokens.size());
    for (int64_t token = window.first_scored; token < length;
         token += kRowsPerChunk) {
      const int64_t rows = std::min(kRowsPerChunk, length - token);
      QEFF_ASSIGN_OR_RETURN(const Matrix<float> q,
                            model_->Logits(sequence, token - 1, rows));
      Matrix<float> p;
      if (reference_ != nullptr) {
        QEFF_ASSIGN_OR_RETURN(p, reference_->Logits(sequence, token - 1, rows),
                              "reference");
      }
      std::vector<TokenScore> scores(static_cast<size_t>(rows));
      pool_->ParallelFor(rows, 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t r = begin; r < end; ++r) {
          const size_t size = static_cast<size_t>(vocab);
          scores[r] = Score(absl::MakeSpan(q.row(r), size),
                            p.empty() ? absl::Span<const float>()
                                      : absl::MakeSpan(p.row(r), size),
                            window.tokens[token + r]);
        }
      });
      for (int64_t r = 0; r < rows; ++r) {
        if (!scores[r].finite) {
          return NumericalError("token ", token + r,
                                ": the model's logits are not finite");
        }
      }
      scores_.insert(scores_.end(), scores.begin(), scores.end());
    }
    return absl::OkStatus();
  }

  Divergence Summarize() const {
    Divergence divergence;
    std::vector<double> kls;
    double agreeing = 0, squares = 0;
    for (const TokenScore& score : scores_) {
      // Rounding may leave a tiny negative value where the two are equal.
      kls.push_back(std::max(score.kl, 0.0));
      divergence.kl_mean += kls.back();
      agreeing += score.agrees ? 1 : 0;
      squares += score.dp * score.dp;
    }
    const double n = static_cast<double>(kls.size());
    divergence.kl_mean /= n;
    divergence.top1_agreement = agreeing / n;
    divergence.rms_dp = std::sqrt(squares / n);
    const size_t rank = (kls.size() * 99 + 99) / 100 - 1;
    std::nth_element(kls.begin(), kls.begin() + rank, kls.end());
    divergence.kl_p99 = kls[rank];
    return divergence;
  }

  LogitsModel* model_;
  LogitsModel* reference_;
  ThreadPool* pool_;
  std::vector<TokenScore> scores_;
};

}  // namespace

double EvalResult::perplexity() const {
  return std::exp(nll / static_cast<double>(tokens));
}

absl::StatusOr<EvalResult> Evaluate(LogitsModel* model, LogitsModel* reference,
                                    absl::Span<const ScoredWindow> windows,
                                    ThreadPool* pool,
                                    const EvaluateOptions& options) {
  if (windows.empty()) return InvalidInputError("no window to score");
  if (reference != nullptr && reference->vocab_size() != model->vocab_size()) {
    return InvalidInputError("vocabularies differ: model has ",
                             model->vocab_size(), " tokens, reference ",
                             reference->vocab_size());
  }
  Evaluator evaluator(model, reference, pool);
  for (size_t begin = 0; begin < windows.size();) {
    size_t end = begin;
    int64_t tokens = 0;
    do {
      tokens += static_cast<int64_t>(windows[end++].tokens.size());
    } while (end < windows.size() &&
             tokens + static_cast<int64_t>(windows[end].tokens.size()) <=
                 options.tokens_per_batch);
    QEFF_RETURN_IF_ERROR(evaluator.RunBatch(windows.subspan(begin, end - begin),
                                            static_cast<int64_t>(begin)));
    begin = end;
    if (options.progress) options.progress(static_cast<int64_t>(begin));
  }
  return evaluator.Result();
}

}  // namespace qeff
