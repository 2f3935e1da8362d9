// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/kv_cache.h"

#include <algorithm>

#include "qeff/util/check.h"

namespace qeff {
namespace {

// Not zeroed: the system gives pages of a large array when they are written.
std::unique_ptr<float[]> Uninitialized(uint64_t bytes) {
  return std::unique_ptr<float[]>(
      new float[static_cast<size_t>(bytes / sizeof(float))]);
}

const uint8_t* AsBytes(const float* p) {
  return reinterpret_cast<const uint8_t*>(p);
}

}  // namespace

CheckedU64 KvCache::Bytes(const TransformerSpec& spec, int64_t context_length) {
  return CheckedU64(spec.num_layers) * context_length * spec.kv_size() * 2 *
         sizeof(float);
}

KvCache::KvCache(const TransformerSpec& spec, int64_t context_length)
    : num_kv_heads_(spec.num_kv_heads),
      head_dim_(spec.head_dim),
      context_length_(context_length),
      keys_(Uninitialized(Bytes(spec, context_length).value() / 2)),
      values_(Uninitialized(Bytes(spec, context_length).value() / 2)) {}

void KvCache::Store(int64_t layer, int64_t position, absl::Span<const float> k,
                    absl::Span<const float> v) {
  QEFF_DCHECK(position >= 0 && position < context_length_);
  for (int64_t head = 0; head < num_kv_heads_; ++head) {
    const int64_t offset = Offset(layer, head);
    std::copy_n(k.data() + head * head_dim_, head_dim_,
                keys_.get() + offset + position * head_dim_);
    float* column = values_.get() + offset + position;
    for (int64_t i = 0; i < head_dim_; ++i) {
      column[i * context_length_] =
          v[static_cast<size_t>(head * head_dim_ + i)];
    }
  }
}

WeightRows KvCache::Keys(int64_t layer, int64_t kv_head, int64_t begin,
                         int64_t end) const {
  const float* first = keys_.get() + Offset(layer, kv_head) + begin * head_dim_;
  return WeightRows{DType::kF32, AsBytes(first), end - begin, head_dim_,
                    head_dim_};
}

WeightRows KvCache::Values(int64_t layer, int64_t kv_head, int64_t begin,
                           int64_t end) const {
  const float* first = values_.get() + Offset(layer, kv_head) + begin;
  return WeightRows{DType::kF32, AsBytes(first), head_dim_, end - begin,
                    context_length_};
}

}  // namespace qeff
