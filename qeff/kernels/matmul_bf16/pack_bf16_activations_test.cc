// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_bf16/pack_bf16_activations.h"

#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "qeff/kernels/matmul_bf16/packed_bf16_layout.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/dtype.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

// `start` and `gap` floats before and between rows are poison.
void Check(int64_t tokens, int64_t cols, int64_t start, int64_t gap,
           ThreadPool& pool) {
  SCOPED_TRACE(::testing::Message() << tokens << " x " << cols);
  const Random random(3);
  const int64_t stride = cols + gap;
  std::vector<float> x(static_cast<size_t>(start + tokens * stride),
                       std::numeric_limits<float>::infinity());
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t c = 0; c < cols; ++c) {
      x[static_cast<size_t>(start + t * stride + c)] =
          random.NormalAt(static_cast<uint64_t>(t * cols + c));
    }
  }
  const BF16ActivationLayout layout(tokens, cols);
  std::vector<uint8_t> packed(static_cast<size_t>(layout.total_bytes()), 0xEE);
  PackBF16Activations(
      layout, absl::MakeConstSpan(x).subspan(static_cast<size_t>(start)),
      stride, absl::MakeSpan(packed), pool);
  for (int64_t tile = 0; tile < layout.tiles(); ++tile) {
    const int64_t n = layout.TileTokens(tile);
    for (int64_t t = 0; t < n; ++t) {
      const float* row =
          x.data() + start + (layout.TileBegin(tile) + t) * stride;
      for (int64_t c = 0; c < 2 * layout.pairs(); ++c) {
        uint16_t found;
        std::memcpy(&found,
                    packed.data() + layout.TileOffset(tile) +
                        (c / 2 * n + t) * 4 + c % 2 * 2,
                    sizeof(found));
        ASSERT_EQ(found, c < cols ? FloatToBF16(row[c]) : 0)
            << "token " << layout.TileBegin(tile) + t << " column " << c;
      }
    }
  }
}

TEST(PackBF16ActivationsTest, EveryRemainder) {
  const auto pool = *CreateThreadPool(2);
  for (int64_t tokens = 1; tokens <= 26; ++tokens) {
    for (int64_t cols = 1; cols <= 35; ++cols) {
      Check(tokens, cols, tokens % 4, cols % 3, *pool);
    }
  }
}

TEST(PackBF16ActivationsTest, SeveralChunksAndThreads) {
  for (int threads : {1, 3}) {
    const auto pool = *CreateThreadPool(threads);
    for (int64_t cols : {511, 512, 513, 2049}) {
      Check(1, cols, 1, 0, *pool);
      Check(40, cols, 1, 1, *pool);
    }
  }
}

}  // namespace
}  // namespace qeff
