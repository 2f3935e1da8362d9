// SPDX-License-Identifier: Apache-2.0
//
// What a block does between its products, as its spec says, on several threads:
// forward and backward. Sums over rows are in runs of 64 rows, then of the
// runs, in order: the same bits for any number of threads. All throw
// std::bad_alloc; sizes are checked by the operations that they are made of.

#ifndef QEFF_TRANSFORMER_BLOCK_STEPS_H_
#define QEFF_TRANSFORMER_BLOCK_STEPS_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/attention.h"
#include "qeff/transformer/rope.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// What attention is, as `spec` says; `alibi` (AlibiSlopesAsFloat) is borrowed.
AttentionOptions AttentionOf(const TransformerSpec& spec,
                             absl::Span<const float> alibi);

// A slope per head, rounded; empty without ALiBi.
std::vector<float> AlibiSlopesAsFloat(const TransformerSpec& spec);

// The norm of `spec`; y may be x.
void ApplyNorm(const TransformerSpec& spec, const NormWeights& norm,
               MatrixView<const float> x, MatrixView<float> y,
               ThreadPool& pool);

// Of a loss with the gradient dy in the norm of x (ApplyNorm), sets dx, which
// may be dy, to the gradient in x, and adds those of the parameters to
// `gradient`, which is shaped as `norm`.
void NormBackward(const TransformerSpec& spec, const NormWeights& norm,
                  MatrixView<const float> x, MatrixView<const float> dy,
                  MatrixView<float> dx, NormWeights& gradient,
                  ThreadPool& pool);

// y = the RMSNorm of each head of each row of x [rows, heads * head_dim];
// y may be x.
void NormHeads(const TransformerSpec& spec, const NormWeights& norm,
               MatrixView<const float> x, MatrixView<float> y,
               ThreadPool& pool);

// Replaces dx, the gradient in the result of NormHeads, by that in x.
void NormHeadsBackward(const TransformerSpec& spec, const NormWeights& norm,
                       MatrixView<const float> x, MatrixView<float> dx,
                       NormWeights& gradient, ThreadPool& pool);

// Rotates the heads of sequences of `lengths` rows that follow one another.
void RotateSequences(const RopeTable& table, absl::Span<const int64_t> lengths,
                     MatrixView<float> x, ThreadPool& pool);
void RotateSequencesBackward(const RopeTable& table,
                             absl::Span<const int64_t> lengths,
                             MatrixView<float> dx, ThreadPool& pool);

// y = x, and y += x, for matrices of the same shape.
void CopyRows(MatrixView<const float> x, MatrixView<float> y, ThreadPool& pool);
void AddRows(MatrixView<const float> x, MatrixView<float> y, ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_BLOCK_STEPS_H_
