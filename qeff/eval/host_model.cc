// SPDX-License-Identifier: Apache-2.0

#include "qeff/eval/host_model.h"

#include <algorithm>

#include "qeff/util/check.h"

namespace qeff {

absl::Status HostLogitsModel::Run(
    absl::Span<const std::vector<int32_t>> sequences) {
  hidden_.clear();
  hidden_.resize(sequences.size());
  return forward_->Run(sequences, /*observer=*/nullptr,
                       [&](int64_t sequence, MatrixView<const float> hidden) {
                         Matrix<float> copy(hidden.rows(), hidden.cols());
                         for (int64_t r = 0; r < hidden.rows(); ++r) {
                           std::copy_n(hidden.row(r), hidden.cols(),
                                       copy.row(r));
                         }
                         hidden_[sequence] = std::move(copy);
                         return absl::OkStatus();
                       });
}

absl::StatusOr<Matrix<float>> HostLogitsModel::Logits(int64_t sequence,
                                                      int64_t begin,
                                                      int64_t rows) {
  QEFF_CHECK(sequence >= 0 && sequence < static_cast<int64_t>(hidden_.size()));
  const Matrix<float>& hidden = hidden_[sequence];
  return forward_->Logits(hidden.view().Rows(begin, rows));
}

}  // namespace qeff
