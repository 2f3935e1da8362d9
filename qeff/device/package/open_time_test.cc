// SPDX-License-Identifier: Apache-2.0
//
// Opening a package of 7 billion weights does not depend on their number: the
// file is sparse, and what Open reads of it (header, norms) is in the page
// cache after the first time.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>

#include "gtest/gtest.h"
#include "qeff/device/package/device_package.h"
#include "qeff/device/package/package_format.h"
#include "qeff/device/reference_model.h"

namespace qeff {
namespace {

// Llama 2 7B.
TransformerSpec Spec7B() {
  TransformerSpec spec = SmallSpec();
  spec.hidden_size = 4096;
  spec.num_layers = 32;
  spec.num_heads = spec.num_kv_heads = 32;
  spec.head_dim = 128;
  spec.ffn_size = 11008;
  spec.vocab_size = 32000;
  spec.max_positions = 4096;
  return spec;
}

DeviceMatrix Int(int bits, int64_t rows, int64_t cols, int64_t group) {
  DeviceMatrix matrix;
  matrix.layout =
      *PackedIntLayout::Create(bits, rows, cols, group, DType::kF16);
  matrix.rows = rows;
  matrix.cols = cols;
  return matrix;
}

DeviceModel Plan(const TransformerSpec& spec) {
  DeviceModel plan;
  plan.spec = spec;
  const int64_t hidden = spec.hidden_size, ffn = spec.ffn_size;
  plan.token_embedding.layout = FloatRows{DType::kBF16};
  plan.token_embedding.rows = spec.vocab_size;
  plan.token_embedding.cols = hidden;
  plan.blocks.resize(static_cast<size_t>(spec.num_layers));
  for (DeviceBlock& block : plan.blocks) {
    block.attention_norm.weight.resize(hidden);
    block.ffn_norm.weight.resize(hidden);
    for (DeviceLinear* linear : {&block.q, &block.k, &block.v, &block.o}) {
      linear->weight = Int(4, hidden, hidden, 128);
    }
    block.gate.weight = block.up.weight = Int(4, ffn, hidden, 128);
    block.down.weight = Int(4, hidden, ffn, 128);
  }
  plan.final_norm.weight.resize(hidden);
  plan.lm_head.weight = Int(8, spec.vocab_size, hidden, 0);
  return plan;
}

TEST(OpenTimeTest, SevenBillionWeights) {
  PackageHeader header;
  header.producer = "test";
  header.spec = Spec7B();
  header.tensors = TensorsOfModel(Plan(header.spec));
  ASSERT_TRUE(PlacePackage(&header).ok());
  EXPECT_GT(header.file_bytes, uint64_t{3} << 30);
  const std::string start = EncodePackageStart(header);
  const std::string path = testing::TempDir() + "/7b.qeff";
  const int fd = open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(ftruncate(fd, static_cast<off_t>(header.file_bytes)), 0);
  ASSERT_EQ(pwrite(fd, start.data(), start.size(), 0),
            static_cast<ssize_t>(start.size()));
  close(fd);

  double best_ms = 1e9;
  for (int i = 0; i < 20; ++i) {
    const auto before = std::chrono::steady_clock::now();
    const auto package = DevicePackage::Open(path);
    const std::chrono::duration<double, std::milli> ms =
        std::chrono::steady_clock::now() - before;
    ASSERT_TRUE(package.ok()) << package.status();
    best_ms = std::min(best_ms, ms.count());
  }
  std::printf("opened %.2f GB in %.3f ms\n",
              static_cast<double>(header.file_bytes) * 1e-9, best_ms);
  EXPECT_LT(best_ms, 50.0);
  std::remove(path.c_str());
}

}  // namespace
}  // namespace qeff
