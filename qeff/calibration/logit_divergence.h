// SPDX-License-Identifier: Apache-2.0
//
// How far the predictions of changed models are from the original's, for
// drivers that have hidden states of many at once.

#ifndef QEFF_CALIBRATION_LOGIT_DIVERGENCE_H_
#define QEFF_CALIBRATION_LOGIT_DIVERGENCE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// Rows of a changed model's input of lm_head, valid until the next call, with
// room behind (HostLmHead::Run).
using LmHeadInput = absl::FunctionRef<absl::StatusOr<MatrixView<const float>>(
    int64_t number, int64_t row, int64_t rows)>;

// The KL divergence of each of `changed` models from `model`, summed over the
// rows of `hidden`, the hidden states that the final norm of `model` takes;
// `input` says what lm_head takes for the same rows. In nats. `check`, unless
// null, is called between pieces of work. One lm_head is in memory; logits of
// 64 rows are held, and the original's computed once. The same bits for any
// number of threads. Errors: those of reading the model, of `check` and of
// `input`. Throws std::bad_alloc.
absl::StatusOr<std::vector<double>> SumLogitDivergences(
    const std::shared_ptr<const Transformer>& model,
    MatrixView<const float> hidden, int64_t changed, LmHeadInput input,
    const std::function<absl::Status()>& check, ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_CALIBRATION_LOGIT_DIVERGENCE_H_
