// SPDX-License-Identifier: Apache-2.0
//
// The loss of a student's attention maps against those of a teacher's layer,
// with its gradient in the student's queries and keys.
//
//   AttentionLoss loss;  // kept from step to step
//   sum += loss.Add({options, q, k}, {teacher_options, tq, tk}, lengths,
//                   labels, weight / num_labels, dq, dk, pool);

#ifndef QEFF_DISTILL_ATTENTION_LOSS_H_
#define QEFF_DISTILL_ATTENTION_LOSS_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/attention.h"
#include "qeff/transformer/matrix_buffer.h"

namespace qeff {

// What makes the maps of a layer; see CausalAttention.
struct AttentionMaps {
  AttentionOptions options;
  MatrixView<const float> q;  // [tokens, num_heads * head_dim]
  MatrixView<const float> k;  // [tokens, num_kv_heads * head_dim]
};

// Not thread-safe. Holds, for each thread, 4 bytes * 64 * longest sequence * 2,
// or where heads differ in number * (the student's + 3), and what SgemmScratch
// takes.
class AttentionLoss {
 public:
  // With the maps q_h of the student's heads and p_h of the teacher's, each a
  // distribution over the keys that a query sees, returns the sum over the
  // counted queries of
  //   mean_h KL(p_h || q_h)           if both have the same number of heads,
  //   KL(mean_h p_h || mean_h q_h)    otherwise: which head of the one would
  //                                   stand for which of the other is not known
  // and adds scale * its gradient to dq and dk, shaped as the student's q and
  // k. The teacher's maps are those over the keys within both windows. Averages
  // of the student's are taken as at least 1e-30.
  //
  // The rows of all matrices are tokens of sequences of `lengths` tokens, one
  // after another; a query whose label is kNoLabel is not counted.
  // Preconditions (checked): shapes; lengths sum to tokens, none is 0; dq and
  // dk overlap nothing.
  // Numerics: float32; sums in double. Threads take key-value heads of
  // sequences, or sequences where maps are averaged; the same bits for any
  // number of them. Throws std::bad_alloc.
  // Cost: about that of CausalAttentionBackward; the maps are made here.
  // Source: Sun et al. 2019 (MobileBERT: KL of maps, head by head).
  double Add(const AttentionMaps& student, const AttentionMaps& teacher,
             absl::Span<const int64_t> lengths,
             absl::Span<const int32_t> labels, float scale,
             MatrixView<float> dq, MatrixView<float> dk, ThreadPool& pool);

  // Memory of one thread: tiles of queries and keys, and single rows.
  struct Scratch {
    MatrixBuffer student, teacher, student_mean, teacher_mean, rows;
    SgemmScratch products;
  };

 private:
  std::vector<Scratch> scratch_;
};

}  // namespace qeff

#endif  // QEFF_DISTILL_ATTENTION_LOSS_H_
