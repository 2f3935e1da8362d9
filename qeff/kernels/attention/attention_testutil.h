// SPDX-License-Identifier: Apache-2.0
//
// Random caches and queries for tests and benchmarks.

#ifndef QEFF_KERNELS_ATTENTION_ATTENTION_TESTUTIL_H_
#define QEFF_KERNELS_ATTENTION_ATTENTION_TESTUTIL_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/types/span.h"
#include "qeff/kernels/attention/attend.h"
#include "qeff/kernels/attention/kv_layout.h"
#include "qeff/kernels/attention/store_kv.h"
#include "qeff/util/aligned.h"
#include "qeff/util/random.h"

namespace qeff {

inline std::vector<float> RandomFloats(int64_t size, uint64_t seed) {
  const Random random(seed);
  std::vector<float> values(static_cast<size_t>(size));
  for (size_t i = 0; i < values.size(); ++i) values[i] = random.NormalAt(i);
  return values;
}

// A region that is NaN wherever nothing is stored.
class PoisonedCache {
 public:
  PoisonedCache(DType dtype, int64_t head_dim, int64_t positions)
      : layout_(*KvLayout::Create(dtype, head_dim)),
        bytes_(static_cast<size_t>(layout_.RegionBytes(positions).value())) {
    std::memset(bytes_.data(), 0xFF, bytes_.size());
  }

  // Stores random keys and values at all of [0, positions).
  void Fill(int64_t positions, uint64_t seed) {
    const int64_t n = layout_.head_dim();
    const std::vector<float> k = RandomFloats(positions * n, seed);
    const std::vector<float> v = RandomFloats(positions * n, seed + 1);
    StoreKv(layout_, bytes_.span(), 0, positions, k, n, v, n);
  }

  const KvLayout& layout() const { return layout_; }
  absl::Span<uint8_t> bytes() { return bytes_.span(); }
  absl::Span<const uint8_t> bytes() const { return bytes_.span(); }

 private:
  KvLayout layout_;
  AlignedArray<uint8_t> bytes_;
};

// Random queries of `tokens` tokens of `heads` heads, with padding of NaN
// between tokens, their outputs, and scratch.
class Queries {
 public:
  Queries(const KvLayout& layout, int64_t first_position, int64_t tokens,
          int64_t heads, uint64_t seed)
      : row_(heads * layout.head_dim()),
        first_position_(first_position),
        tokens_(tokens),
        q_(RandomFloats(tokens * stride(), seed)),
        out_(q_.size(), -1.0f),
        scratch_(static_cast<size_t>(AttendScratchBytes(layout))) {
    std::memset(scratch_.data(), 0xFF, scratch_.size());
  }

  // Tokens [begin, begin + count) of these.
  AttendTokens Part(int64_t begin, int64_t count) {
    AttendTokens part;
    const size_t from = static_cast<size_t>(begin * stride());
    part.first_position = first_position_ + begin;
    part.tokens = count;
    part.q = absl::MakeConstSpan(q_).subspan(from);
    part.q_stride_elems = stride();
    part.out = absl::MakeSpan(out_).subspan(from);
    part.out_stride_elems = stride();
    return part;
  }
  AttendTokens All() { return Part(0, tokens_); }

  // Elements from one token to the next; the last three are padding.
  int64_t stride() const { return row_ + 3; }
  std::vector<float>& q() { return q_; }
  std::vector<float>& out() { return out_; }
  absl::Span<uint8_t> scratch() { return scratch_.span(); }

 private:
  int64_t row_;
  int64_t first_position_;
  int64_t tokens_;
  std::vector<float> q_;
  std::vector<float> out_;
  AlignedArray<uint8_t> scratch_;
};

}  // namespace qeff

#endif  // QEFF_KERNELS_ATTENTION_ATTENTION_TESTUTIL_H_
