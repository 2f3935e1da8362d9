// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/kv_cache.h"

#include <cstdint>
#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "qeff/device/reference_model.h"

namespace qeff {
namespace {

EngineOptions Options(int64_t context_length, DType dtype) {
  EngineOptions options;
  options.context_length = context_length;
  options.batch_size = 3;
  options.kv_cache = dtype;
  return options;
}

TEST(KvCacheTest, RegionsAreAlignedAndDoNotOverlap) {
  const TransformerSpec spec = SmallSpec();
  for (DType dtype : {DType::kF32, DType::kF16, DType::kI8}) {
    const auto cache = *KvCache::Create(spec, Options(40, dtype));
    const size_t size = cache->layout().RegionBytes(40).value();
    const uint8_t* end = nullptr;
    for (int64_t layer = 0; layer < spec.num_layers; ++layer) {
      for (int64_t slot = 0; slot < 3; ++slot) {
        for (int64_t head = 0; head < spec.num_kv_heads; ++head) {
          const absl::Span<uint8_t> region = cache->Region(layer, slot, head);
          EXPECT_EQ(reinterpret_cast<uintptr_t>(region.data()) % 64, 0u);
          EXPECT_EQ(region.size(), size);
          EXPECT_TRUE(end == nullptr || region.data() == end);
          end = region.data() + region.size();
          // The memory is there.
          region[0] = region[size - 1] = 1;
        }
      }
    }
  }
}

TEST(KvCacheTest, SaysWhatIsTooMuch) {
  TransformerSpec spec = SmallSpec();
  const auto error = [&](const EngineOptions& options) {
    const absl::Status status = KvCache::Create(spec, options).status();
    return std::string(status.message());
  };
  EXPECT_TRUE(absl::StrContains(error(Options(8, DType::kBF16)), "kv_cache"));
  spec.num_layers = int64_t{1} << 30;
  EXPECT_EQ(error(Options(int64_t{1} << 24, DType::kF32)),
            "context_length 16777216, batch_size 3: the cache exceeds the "
            "address space");
  spec.num_layers = int64_t{1} << 20;
  EXPECT_TRUE(absl::StrContains(error(Options(int64_t{1} << 24, DType::kF32)),
                                " bytes of keys and values"));
}

}  // namespace
}  // namespace qeff
