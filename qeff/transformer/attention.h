// SPDX-License-Identifier: Apache-2.0
//
// Causal attention over whole sequences. Over a cache, a head at a time:
// qeff/kernels/attention, which this uses.

#ifndef QEFF_TRANSFORMER_ATTENTION_H_
#define QEFF_TRANSFORMER_ATTENTION_H_

#include <cstdint>

#include "absl/types/span.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

struct AttentionOptions {
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;  // divides num_heads
  int64_t head_dim = 0;
  float scale = 0.0f;                  // factor of q*k
  int64_t sliding_window = 0;          // keys a query sees, 0 = all before it
  absl::Span<const float> alibi = {};  // a slope per head, or empty
};

// For each sequence, head h and query i, with g = h / (num_heads/num_kv_heads):
//   s_j = scale q_ih.k_jg + alibi_h (j - i)   for i - window < j <= i
//   out_ih = sum_j softmax(s)_j v_jg
// The sequences, of `lengths` tokens each, follow one another in the rows of
// q and out [tokens, num_heads * head_dim] and of k and v
// [tokens, num_kv_heads * head_dim]; out overlaps none of them.
// Preconditions (checked): shapes; lengths sum to tokens, none is 0.
// Scratch memory: a copy of k and v, with tokens rounded up to 32 and head_dim
// of v to 16, and AttendScratchBytes a thread. The bits depend on a query's own
// sequence up to itself only, not on the threads or other sequences, and are
// the same on every machine. Numerics: those of Attend.
// Source: Vaswani et al. 2017; Ainslie et al. 2023 (grouped queries); Press et
// al. 2021 (ALiBi); Jiang et al. 2023 (Mistral 7B: window).
void CausalAttention(const AttentionOptions& options,
                     absl::Span<const int64_t> lengths,
                     MatrixView<const float> q, MatrixView<const float> k,
                     MatrixView<const float> v, MatrixView<float> out,
                     ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_ATTENTION_H_
