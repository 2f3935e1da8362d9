// SPDX-License-Identifier: Apache-2.0
//
// Keys and values of new tokens into the cache.

#ifndef QEFF_KERNELS_ATTENTION_STORE_KV_H_
#define QEFF_KERNELS_ATTENTION_STORE_KV_H_

#include <cstdint>

#include "absl/types/span.h"
#include "qeff/kernels/attention/kv_layout.h"

namespace qeff {

// Stores `tokens` keys and values of one key-value head at the positions from
// `first_position` on. Element d of token t is k[t * k_stride_elems + d].
// `region` is 64-byte aligned; other positions are left alone. Preconditions
// (checked): the region holds the positions, both strides are at least head_dim
// and the spans hold the rows. No overlap. Runs on the calling thread,
// allocates nothing. Thread-safe; different threads may store different blocks
// of a region.
//
// Numerics, the same on every target: f16 is rounded to nearest, ties to even,
// and infinite above 65519.99. int8, for each position of keys and of values:
//   scale = absmax / 127, code = round(x * (127 / absmax))     (ties to even)
// so that |x - code * scale| <= (0.5 + 2^-15) * scale; a row whose absmax is
// below 2^-119 is 0, and one with a NaN or infinity has scale NaN.
void StoreKv(const KvLayout& layout, absl::Span<uint8_t> region,
             int64_t first_position, int64_t tokens, absl::Span<const float> k,
             int64_t k_stride_elems, absl::Span<const float> v,
             int64_t v_stride_elems);

}  // namespace qeff

#endif  // QEFF_KERNELS_ATTENTION_STORE_KV_H_
