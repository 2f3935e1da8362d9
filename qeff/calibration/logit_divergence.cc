// SPDX-License-Identifier: Apache-2.0

#include "qeff/calibration/logit_divergence.h"

#include <algorithm>
#include <cstddef>

#include "absl/types/span.h"
#include "qeff/eval/kl_divergence.h"
#include "qeff/transformer/block_steps.h"
#include "qeff/transformer/host_lm_head.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Of a packed lm_head; a larger one is packed again for each piece of work.
constexpr uint64_t kMostLmHeadBytes = uint64_t{1} << 30;
// Tokens whose logits are held.
constexpr int64_t kLogitRows = 64;

double RowDivergence(const Matrix<float>& original,
                     const Matrix<float>& changed, int64_t row) {
  const size_t size = static_cast<size_t>(original.cols());
  const auto p = absl::MakeConstSpan(original.row(row), size);
  const auto q = absl::MakeConstSpan(changed.row(row), size);
  return std::max(KlDivergence(p, LogSoftmax(p), q, LogSoftmax(q)), 0.0);
}

}  // namespace

absl::StatusOr<std::vector<double>> SumLogitDivergences(
    const std::shared_ptr<const Transformer>& model,
    MatrixView<const float> hidden, int64_t changed, LmHeadInput input,
    const std::function<absl::Status()>& check, ThreadPool& pool) {
  const TransformerSpec& spec = model->spec();
  QEFF_ASSIGN_OR_RETURN(const NormWeights norm, model->LoadFinalNorm());
  HostLmHead lm_head(model, HostLmHead::PackedBytes(spec) <= kMostLmHeadBytes);
  Matrix<float> original(kLogitRows, spec.vocab_size);
  Matrix<float> logits(kLogitRows, spec.vocab_size);
  Matrix<float> normed(kLogitRows + 1, spec.hidden_size);
  std::vector<double> row_kl(static_cast<size_t>(kLogitRows));
  std::vector<double> sums(static_cast<size_t>(changed));
  for (int64_t row = 0; row < hidden.rows(); row += kLogitRows) {
    if (check) QEFF_RETURN_IF_ERROR(check());
    const int64_t rows = std::min(kLogitRows, hidden.rows() - row);
    ApplyNorm(spec, norm, hidden.Rows(row, rows), normed.view().Rows(0, rows),
              pool);
    QEFF_RETURN_IF_ERROR(lm_head.Run(normed.view().Rows(0, rows),
                                     original.view().Rows(0, rows), pool));
    for (int64_t i = 0; i < changed; ++i) {
      QEFF_ASSIGN_OR_RETURN(const auto taken, input(i, row, rows));
      QEFF_RETURN_IF_ERROR(
          lm_head.Run(taken, logits.view().Rows(0, rows), pool));
      pool.ParallelFor(rows, 1, [&](int64_t r, int64_t end, int) {
        for (; r < end; ++r) {
          row_kl[static_cast<size_t>(r)] = RowDivergence(original, logits, r);
        }
      });
      for (int64_t r = 0; r < rows; ++r) {
        sums[static_cast<size_t>(i)] += row_kl[static_cast<size_t>(r)];
      }
    }
  }
  model->ReleaseBlock(-1);
  return sums;
}

}  // namespace qeff
