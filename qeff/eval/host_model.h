// SPDX-License-Identifier: Apache-2.0
//
// The host forward as a model to evaluate.

#ifndef QEFF_EVAL_HOST_MODEL_H_
#define QEFF_EVAL_HOST_MODEL_H_

#include <memory>
#include <vector>

#include "qeff/eval/evaluate.h"
#include "qeff/transformer/host_forward.h"

namespace qeff {

// Keeps the hidden states of the last Run and makes logits of them on demand:
// a vocabulary's worth of floats per token is never held for a whole batch.
class HostLogitsModel : public LogitsModel {
 public:
  explicit HostLogitsModel(std::unique_ptr<HostForward> forward)
      : forward_(std::move(forward)) {}

  int64_t vocab_size() const override {
    return forward_->model().spec().vocab_size;
  }
  absl::Status Run(absl::Span<const std::vector<int32_t>> sequences) override;
  absl::StatusOr<Matrix<float>> Logits(int64_t sequence, int64_t begin,
                                       int64_t rows) override;

 private:
  std::unique_ptr<HostForward> forward_;
  std::vector<Matrix<float>> hidden_;  // of each sequence of the last Run
};

}  // namespace qeff

#endif  // QEFF_EVAL_HOST_MODEL_H_
