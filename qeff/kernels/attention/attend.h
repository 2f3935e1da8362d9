// SPDX-License-Identifier: Apache-2.0
//
// Causal attention of consecutive tokens over cached keys and values: one
// key-value head and the query heads that share it a call, for prefill and for
// decoding. Whole sequences without a cache: qeff/transformer/attention.h.
//
//   QEFF_ASSIGN_OR_RETURN(const KvLayout layout,
//                         KvLayout::Create(DType::kF16, head_dim));
//   // Once: region of layout.RegionBytes(context_length).value() bytes and
//   // scratch of AttendScratchBytes(layout), 64-byte aligned.
//   StoreKv(layout, region, position, tokens, k, k_stride, v, v_stride);
//   Attend(layout, region, {heads, scale},
//          {position, tokens, q, q_stride, out, out_stride}, scratch);

#ifndef QEFF_KERNELS_ATTENTION_ATTEND_H_
#define QEFF_KERNELS_ATTENTION_ATTEND_H_

#include <cstdint>

#include "absl/types/span.h"
#include "qeff/kernels/attention/kv_layout.h"

namespace qeff {

// What is the same for all calls of a layer.
struct AttendOptions {
  int64_t heads = 1;  // query heads that share the keys and values
  float scale = 1.0f;
  int64_t sliding_window = 0;  // keys a query sees, itself included; 0: all
  absl::Span<const float> slopes = {};  // ALiBi, [heads]; empty: none
};

// Queries of the tokens at positions first_position, first_position + 1, ...
// Element d of head h of token t is q[t * q_stride_elems + h * head_dim + d],
// and likewise in `out`.
struct AttendTokens {
  int64_t first_position = 0;
  int64_t tokens = 1;
  absl::Span<const float> q;
  int64_t q_stride_elems = 0;
  absl::Span<float> out;
  int64_t out_stride_elems = 0;
};

// Bytes of scratch that a call of Attend needs: 816 an element of head_dim,
// rounded up to 16, and 13 KiB, whatever the tokens and positions.
int64_t AttendScratchBytes(const KvLayout& layout);

// For token t at position p and head h, over the positions j that it sees,
// max(0, p - sliding_window + 1) to p or 0 to p:
//   score_j = scale * q k_j + slopes[h] * (j - p)
//   out     = sum_j v_j e^score_j / sum_j e^score_j
//
// `region` holds the keys and values of the positions up to the last token's,
// this call's included: StoreKv comes first. Others are not used, whatever
// they hold. `region` and `scratch` are 64-byte aligned; q and out have any
// alignment of floats. Preconditions (checked): heads, tokens >= 1;
// first_position, sliding_window >= 0; sizes, strides, alignment. Nothing
// overlaps. Runs on the calling thread, allocates nothing: callers split
// key-value heads and tokens over threads, each with its own scratch.
// Thread-safe.
//
// Numerics: float32, every operation rounded, no fused multiply-add. Scores
// are in units of ln 2: summed in the order of d from q * (scale * log2 e),
// int8 keys times their scale at the end, plus (slope * log2 e) * (j - p).
// Positions go in chunks of 256, of which the first begins at 0: weights
// 2^(score - maximum so far) (relative error 1.7 * 2^-23, 0 below 2^-126),
// their 16 partial sums, value sums in the order of positions; then total =
// total * 2^(old maximum - new maximum) + sum of the chunk. So the result of a
// token is the same bits on every target, and for any split of tokens over
// calls and threads. With u = 2^-24, C chunks, and
//   e = (head_dim + 4) u * max_j sum_d |scale q_d k_jd|
//       + 3 u * max_j |slope (j - p)| + 2 u * (max_j score_j - min_j score_j)
//   |out - exact| <= (2 e + (270 + 12 C) u) * sum_j |v_j| w_j
// to first order, where w_j are the exact weights, whose sum is 1; `exact` is
// of what the cache holds. Of scores, NaN and +infinity give NaN and -infinity
// no weight.
// Cost: decoding reads the keys and values once for all heads of the call;
// prefill is bound by multiplications and additions.
void Attend(const KvLayout& layout, absl::Span<const uint8_t> region,
            const AttendOptions& options, const AttendTokens& tokens,
            absl::Span<uint8_t> scratch);

}  // namespace qeff

#endif  // QEFF_KERNELS_ATTENTION_ATTEND_H_
