// SPDX-License-Identifier: Apache-2.0
//
// A teacher's distributions cut down to its most probable tokens, small enough
// to be stored for a whole text: 8 bytes for each of K tokens instead of 4 for
// every one of the vocabulary.

#ifndef QEFF_DISTILL_SPARSE_TEACHER_H_
#define QEFF_DISTILL_SPARSE_TEACHER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// For each row the probabilities of K tokens and of all others together,
// as natural logarithms at temperature 1. Borrows what it points to.
struct SparseTeacher {
  MatrixView<const int32_t> ids;  // [rows, K], each row strictly ascending
  MatrixView<const float> log_probabilities;  // [rows, K]
  absl::Span<const float> log_rest;  // [rows]; not looked at if K is all
};

// OK if the shapes agree, K >= 1 and the ids of each row are ascending and in
// [0, vocab_size); otherwise kInvalidArgument naming the row.
absl::Status CheckSparseTeacher(const SparseTeacher& teacher,
                                int64_t vocab_size);

// Keeps the K most probable tokens, of equals those with lower ids, of the
// distributions with these logits [rows, vocab]; K, the columns of `ids`, is in
// [1, vocab]. log_rest is -infinity if K is vocab. What is written fulfills
// CheckSparseTeacher; it is NaN for rows whose softmax is.
// The same bits for any number of threads. Cost: about 10 ns a logit.
// Preconditions (checked): shapes. Throws std::bad_alloc.
void KeepMostProbable(MatrixView<const float> logits, MatrixView<int32_t> ids,
                      MatrixView<float> log_probabilities,
                      absl::Span<float> log_rest, ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_DISTILL_SPARSE_TEACHER_H_
