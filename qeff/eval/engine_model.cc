// SPDX-License-Identifier: Apache-2.0

#include "qeff/eval/engine_model.h"

#include <algorithm>
#include <cstddef>

#include "absl/types/span.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {

absl::Status EngineLogitsModel::Run(
    absl::Span<const std::vector<int32_t>> sequences) {
  sequences_.assign(sequences.begin(), sequences.end());
  running_ = -1;
  return absl::OkStatus();
}

absl::StatusOr<Matrix<float>> EngineLogitsModel::Logits(int64_t sequence,
                                                        int64_t begin,
                                                        int64_t rows) {
  QEFF_CHECK(sequence >= 0 &&
             sequence < static_cast<int64_t>(sequences_.size()));
  const absl::Span<const int32_t> tokens =
      sequences_[static_cast<size_t>(sequence)];
  QEFF_CHECK(begin >= 0 && rows >= 1 &&
             begin + rows <= static_cast<int64_t>(tokens.size()));
  if (running_ != sequence || engine_->position() > begin) {
    engine_->Reset();
    running_ = sequence;
  }
  const auto part = [&](int64_t from, int64_t to) {
    return tokens.subspan(static_cast<size_t>(from),
                          static_cast<size_t>(to - from));
  };
  if (engine_->position() < begin) {
    QEFF_RETURN_IF_ERROR(
        engine_->Append(part(engine_->position(), begin)).status());
  }
  Matrix<float> result(rows, vocab_size());
  const SlotTokens scored{/*slot=*/0, part(begin, begin + rows)};
  QEFF_RETURN_IF_ERROR(engine_->Score(
      scored, [&](int64_t first, MatrixView<const float> logits) {
        for (int64_t r = 0; r < logits.rows(); ++r) {
          std::copy_n(logits.row(r), logits.cols(), result.row(first + r));
        }
      }));
  return result;
}

}  // namespace qeff
