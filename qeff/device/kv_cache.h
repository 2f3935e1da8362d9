// SPDX-License-Identifier: Apache-2.0
//
// Keys and values of the positions that were run, in float32.

#ifndef QEFF_DEVICE_KV_CACHE_H_
#define QEFF_DEVICE_KV_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/types/span.h"
#include "qeff/kernels/matvec/matvec.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/util/checked.h"

namespace qeff {

// Keys lie as [layer, kv head, position, head_dim] and values transposed, as
// [layer, kv head, head_dim, position]: the scores of a query and the weighted
// sum of values are then both a matrix times a vector over what is cached.
// Memory is not touched before it is written. Thread-compatible; different
// layers and heads may be read by different threads.
class KvCache {
 public:
  // Bytes of a cache; invalid when they cannot be represented.
  static CheckedU64 Bytes(const TransformerSpec& spec, int64_t context_length);

  // Throws std::bad_alloc. Preconditions: `spec` is valid and Bytes too.
  KvCache(const TransformerSpec& spec, int64_t context_length);

  int64_t context_length() const { return context_length_; }

  // Stores one position: `k` and `v` are [kv heads, head_dim].
  void Store(int64_t layer, int64_t position, absl::Span<const float> k,
             absl::Span<const float> v);

  // Keys of positions [begin, end): [end - begin, head_dim].
  WeightRows Keys(int64_t layer, int64_t kv_head, int64_t begin,
                  int64_t end) const;

  // Values of positions [begin, end): [head_dim, end - begin].
  WeightRows Values(int64_t layer, int64_t kv_head, int64_t begin,
                    int64_t end) const;

 private:
  // Elements before those of a head.
  int64_t Offset(int64_t layer, int64_t kv_head) const {
    return (layer * num_kv_heads_ + kv_head) * head_dim_ * context_length_;
  }

  int64_t num_kv_heads_;
  int64_t head_dim_;
  int64_t context_length_;
  std::unique_ptr<float[]> keys_;
  std::unique_ptr<float[]> values_;
};

}  // namespace qeff

#endif  // QEFF_DEVICE_KV_CACHE_H_
