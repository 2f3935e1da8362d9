// SPDX-License-Identifier: Apache-2.0
//
// The gradients of causal attention over whole sequences, by products of tiles.
// attention.h defines what is computed.
//
//   AttentionScratch scratch;  // kept from step to step
//   CausalAttention(options, lengths, q, k, v, out, pool);
//   ...
//   CausalAttentionBackward(options, lengths, q, k, v, dout, dq, dk, dv, pool,
//                           scratch);

#ifndef QEFF_TRANSFORMER_ATTENTION_BACKWARD_H_
#define QEFF_TRANSFORMER_ATTENTION_BACKWARD_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/attention.h"
#include "qeff/transformer/matrix_buffer.h"

namespace qeff {

// Memory of attention that is used again, for each thread
//   4 bytes * longest sequence * 2 (head_dim + 64)
// and what SgemmScratch takes. Grows on use. Not thread-safe.
class AttentionScratch {
 public:
  struct Thread {
    MatrixBuffer keys, values;     // of a head, transposed
    MatrixBuffer weights, slopes;  // of a tile of queries
    SgemmScratch products;
  };

  // Of threads [0, threads).
  Thread* Get(int threads) {
    if (static_cast<int>(threads_.size()) < threads) {
      threads_.resize(static_cast<size_t>(threads));
    }
    return threads_.data();
  }

 private:
  std::vector<Thread> threads_;
};

// Sets dq, dk and dv to the gradients in q, k and v of a loss with the gradient
// dout in the result. With p_ij the weight softmax(s)_j of query i, for each
// head
//   dv_j = sum_i p_ij dout_i
//   e_ij = p_ij (dout_i.v_j - sum_m p_im dout_i.v_m)
//   dq_i = scale sum_j e_ij k_j,  dk_j = scale sum_i e_ij q_i
// where dk and dv sum over the query heads that share the key. The weights are
// computed again, a tile of 64 queries at a time; nothing is kept of the
// forward. Slopes of ALiBi are constants.
// Shapes and preconditions as for CausalAttention; dq, dk, dv are shaped as
// q, k, v, and nothing overlaps. Throws std::bad_alloc.
// Threads take key-value heads of sequences; the order of sums depends on the
// sequence only: the same bits for any number of threads and any neighbours.
// Source: Vaswani et al. 2017; recomputation as in Dao et al. 2022
// (FlashAttention).
void CausalAttentionBackward(const AttentionOptions& options,
                             absl::Span<const int64_t> lengths,
                             MatrixView<const float> q,
                             MatrixView<const float> k,
                             MatrixView<const float> v,
                             MatrixView<const float> dout, MatrixView<float> dq,
                             MatrixView<float> dk, MatrixView<float> dv,
                             ThreadPool& pool, AttentionScratch& scratch);

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_ATTENTION_BACKWARD_H_
