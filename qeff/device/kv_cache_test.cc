// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/kv_cache.h"

#include <cstring>
#include <vector>

#include "gtest/gtest.h"

namespace qeff {
namespace {

TransformerSpec Spec() {
  TransformerSpec spec;
  spec.num_layers = 3;
  spec.num_heads = 4;
  spec.num_kv_heads = 2;
  spec.head_dim = 5;
  return spec;
}

// A different number for every element.
float Number(int64_t layer, int64_t position, int64_t element, bool value) {
  return static_cast<float>(((layer * 7 + position) * 10 + element) * 2 +
                            (value ? 1 : 0));
}

float At(const WeightRows& rows, int64_t r, int64_t c) {
  float value;
  std::memcpy(&value, rows.data + 4 * (r * rows.stride_elems + c), 4);
  return value;
}

TEST(KvCacheTest, GivesBackEveryRange) {
  KvCache cache(Spec(), 7);
  for (int64_t layer = 0; layer < 3; ++layer) {
    for (int64_t position = 0; position < 7; ++position) {
      std::vector<float> k(10), v(10);
      for (int64_t i = 0; i < 10; ++i) {
        k[static_cast<size_t>(i)] = Number(layer, position, i, false);
        v[static_cast<size_t>(i)] = Number(layer, position, i, true);
      }
      cache.Store(layer, position, k, v);
    }
  }
  for (int64_t layer = 0; layer < 3; ++layer) {
    for (int64_t head = 0; head < 2; ++head) {
      for (int64_t begin = 0; begin < 7; ++begin) {
        const WeightRows keys = cache.Keys(layer, head, begin, 7);
        const WeightRows values = cache.Values(layer, head, begin, 7);
        ASSERT_EQ(keys.rows, 7 - begin);
        ASSERT_EQ(keys.cols, 5);
        ASSERT_EQ(values.rows, 5);
        ASSERT_EQ(values.cols, 7 - begin);
        for (int64_t p = begin; p < 7; ++p) {
          for (int64_t i = 0; i < 5; ++i) {
            const int64_t element = head * 5 + i;
            EXPECT_EQ(At(keys, p - begin, i), Number(layer, p, element, false));
            EXPECT_EQ(At(values, i, p - begin),
                      Number(layer, p, element, true));
          }
        }
      }
    }
  }
}

TEST(KvCacheTest, CountsBytes) {
  EXPECT_EQ(KvCache::Bytes(Spec(), 7).value(), 3u * 7 * 10 * 2 * 4);
  TransformerSpec huge = Spec();
  huge.num_layers = huge.num_kv_heads = 0x7FFFFFFF;
  EXPECT_FALSE(KvCache::Bytes(huge, int64_t{1} << 24).valid());
}

}  // namespace
}  // namespace qeff
