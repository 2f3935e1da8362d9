// SPDX-License-Identifier: Apache-2.0

#include "qeff/base/qeff_auto_model.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "qeff/util/check.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/status.h"

namespace qeff {

absl::StatusOr<std::unique_ptr<QEFFAutoModel>> QEFFAutoModel::FromPretrained(
    const std::string& folder, ThreadPool* pool) {
  using Result = absl::StatusOr<std::unique_ptr<QEFFAutoModel>>;
  return GuardMemory([&]() -> Result {
    QEFF_ASSIGN_OR_RETURN(std::shared_ptr<const Transformer> model,
                          LoadTransformer(folder));
    return std::unique_ptr<QEFFAutoModel>(
        new QEFFAutoModel(std::move(model), pool));
  });
}

void QEFFAutoModel::OnModelChanged() { forward_.reset(); }

absl::StatusOr<Matrix<float>> QEFFAutoModel::HiddenStates(
    absl::Span<const int32_t> tokens) {
  return GuardMemory([&]() -> absl::StatusOr<Matrix<float>> {
    if (forward_ == nullptr) {
      QEFF_ASSIGN_OR_RETURN(forward_,
                            HostForward::Create(shared_transformer(), pool()));
    }
    Matrix<float> states(static_cast<int64_t>(tokens.size()),
                         spec().hidden_size);
    const std::vector<int32_t> sequence(tokens.begin(), tokens.end());
    QEFF_RETURN_IF_ERROR(forward_->Run(
        {sequence}, /*observer=*/nullptr,
        [&](int64_t, MatrixView<const float> hidden) {
          for (int64_t r = 0; r < hidden.rows(); ++r) {
            std::copy_n(hidden.row(r), hidden.cols(), states.row(r));
          }
          return absl::OkStatus();
        }));
    return states;
  });
}

absl::StatusOr<std::vector<float>> QEFFAutoModel::Embed(absl::string_view text,
                                                        Pooling pooling) {
  return GuardMemory([&] { return VectorOf(text, pooling); });
}

absl::StatusOr<std::vector<float>> QEFFAutoModel::VectorOf(
    absl::string_view text, Pooling pooling) {
  if (tokenizer_ == nullptr) {
    QEFF_ASSIGN_OR_RETURN(tokenizer_, LoadTokenizer(transformer()));
  }
  QEFF_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens,
                        tokenizer_->Encode(text, /*add_special_tokens=*/true));
  if (tokens.empty()) return InvalidInputError("text: has no tokens");
  QEFF_ASSIGN_OR_RETURN(const Matrix<float> hidden, HiddenStates(tokens));
  std::vector<float> vector = Pool(hidden.view(), pooling);
  for (float value : vector) {
    if (std::isfinite(value)) continue;
    return NumericalError(transformer().checkpoint().folder(),
                          ": the hidden states of the text are not finite");
  }
  return vector;
}

std::vector<float> Pool(MatrixView<const float> hidden, Pooling pooling) {
  QEFF_CHECK(hidden.rows() > 0);
  if (pooling != Pooling::kMean) {
    const float* row =
        hidden.row(pooling == Pooling::kLast ? hidden.rows() - 1 : 0);
    return std::vector<float>(row, row + hidden.cols());
  }
  std::vector<float> mean(static_cast<size_t>(hidden.cols()));
  for (int64_t c = 0; c < hidden.cols(); ++c) {
    double sum = 0;
    for (int64_t r = 0; r < hidden.rows(); ++r) sum += hidden.row(r)[c];
    mean[c] = static_cast<float>(sum / static_cast<double>(hidden.rows()));
  }
  return mean;
}

}  // namespace qeff
