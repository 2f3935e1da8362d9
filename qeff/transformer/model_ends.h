// SPDX-License-Identifier: Apache-2.0
//
// What stands before the first and behind the last block of a model, forward
// and backward, over weights that change: for training. Losses are the
// caller's: it brings the gradient in the logits.
//
// With a tied lm_head, `table` is the token embedding and both backward
// functions are given one gradient of it: it adds up.

#ifndef QEFF_TRANSFORMER_MODEL_ENDS_H_
#define QEFF_TRANSFORMER_MODEL_ENDS_H_

#include <cstdint>

#include "absl/types/span.h"
#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// Row i of x [tokens, hidden_size] becomes the embedding of ids[i], plus that
// of its position in its sequence of `lengths` where `positions` (learned) is
// not empty. Preconditions (checked): lengths sum to ids.size() and to the rows
// of x; ids and positions lie inside of the tables.
void EmbedTokens(MatrixView<const float> tokens,
                 MatrixView<const float> positions,
                 absl::Span<const int64_t> lengths,
                 absl::Span<const int32_t> ids, MatrixView<float> x,
                 ThreadPool& pool);

// Adds the gradients in the tables, of a loss with the gradient dx in x, to
// `dtokens` and `dpositions` (empty without learned positions), in the order of
// the rows: the same bits for any number of threads. Preconditions as above.
void EmbedTokensBackward(absl::Span<const int64_t> lengths,
                         absl::Span<const int32_t> ids,
                         MatrixView<const float> dx, MatrixView<float> dtokens,
                         MatrixView<float> dpositions, ThreadPool& pool);

// hidden = final norm of x, and logits = hidden table^T, for x and hidden
// [rows, hidden_size] and logits [rows, vocab_size] of any rows: callers take
// as many at a time as they have memory for logits. Throws std::bad_alloc.
void LmHeadForward(const TransformerSpec& spec, const NormWeights& norm,
                   MatrixView<const float> table, MatrixView<const float> x,
                   MatrixView<float> hidden, MatrixView<float> logits,
                   ThreadPool& pool, SgemmScratch& scratch);

// Of a loss with the gradient dlogits in the logits: sets dx to that in x, and
// adds those of norm and table. x and hidden are those of LmHeadForward; dx
// overlaps nothing. The same bits for any number of threads.
void LmHeadBackward(const TransformerSpec& spec, const NormWeights& norm,
                    MatrixView<const float> table, MatrixView<const float> x,
                    MatrixView<const float> hidden,
                    MatrixView<const float> dlogits, MatrixView<float> dx,
                    NormWeights& dnorm, MatrixView<float> dtable,
                    ThreadPool& pool, SgemmScratch& scratch);

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_MODEL_ENDS_H_
