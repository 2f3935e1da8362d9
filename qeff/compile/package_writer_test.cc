// SPDX-License-Identifier: Apache-2.0

#include "qeff/compile/package_writer.h"

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/device/engine.h"
#include "qeff/device/package/device_package.h"
#include "qeff/device/package/package_format.h"
#include "qeff/device/package/package_testutil.h"
#include "qeff/device/package/tokenizer_section.h"
#include "qeff/device/reference_model.h"
#include "qeff/io/io_testutil.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/util/aligned.h"
#include "qeff/util/checksum.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The numbers of PackageBytes.
PackageWriteOptions TestOptions() {
  PackageWriteOptions options;
  options.producer = "test";
  options.run = {/*context_length=*/48, /*batch_size=*/3,
                 /*prefill_chunk=*/16, Activations::kFloat32, DType::kF16};
  return options;
}

TEST(PackageWriterTest, WritesWhatTheReaderWants) {
  const std::string path = MakeTestFolder() + "/model.qeff";
  const TokenizerTables tables = FullTables();
  for (const TokenizerTables* tokenizer :
       {&tables, static_cast<const TokenizerTables*>(nullptr)}) {
    const auto model = RandomModel(SmallSpec(), 5, DType::kBF16);
    ASSERT_TRUE(WritePackage(*model, tokenizer, TestOptions(), path).ok());
    EXPECT_EQ(ReadTestFile(path), PackageBytes(*model, tokenizer));
    EXPECT_TRUE(DevicePackage::Open(path).ok());
  }
}

// A layout and random bytes of its size.
DeviceMatrix PackedMatrix(const WeightLayout& layout, int64_t rows,
                          int64_t cols, uint8_t seed) {
  const size_t size =
      static_cast<size_t>(LayoutBytes(layout, rows, cols).value());
  auto bytes = std::make_shared<AlignedArray<uint8_t>>(size);
  for (size_t i = 0; i < size; ++i) {
    (*bytes)[i] = static_cast<uint8_t>(i * 7 + seed);
  }
  return DeviceMatrix{layout, rows, cols, bytes->span(), bytes};
}

TEST(PackageWriterTest, KeepsPackedLayouts) {
  const std::string path = MakeTestFolder() + "/model.qeff";
  const auto model = RandomModel(SmallSpec(), 5);
  DeviceBlock& block = model->blocks[0];
  block.q.weight = PackedMatrix(
      *PackedIntLayout::Create(4, 24, 24, 8, DType::kF16), 24, 24, 1);
  block.k.weight = PackedMatrix(
      *PackedIntLayout::Create(8, 12, 24, 0, DType::kBF16), 12, 24, 2);
  block.v.weight = PackedMatrix(
      *PackedIntLayout::Create(4, 12, 24, 16, DType::kF32), 12, 24, 3);
  block.o.weight = PackedMatrix(
      *PackedIntLayout::Create(3, 24, 24, 8, DType::kF16, true), 24, 24, 5);
  block.up.weight = PackedMatrix(*PackedBF16Layout::Create(40, 24), 40, 24, 4);
  ASSERT_TRUE(WritePackage(*model, nullptr, TestOptions(), path).ok());
  const auto package = DevicePackage::Open(path);
  ASSERT_TRUE(package.ok()) << package.status();
  const DeviceBlock& read = package->model()->blocks[0];
  EXPECT_EQ(WeightLayoutName(read.q.weight.layout), "int4 in groups of 8");
  EXPECT_EQ(WeightLayoutName(read.k.weight.layout), "int8");
  EXPECT_EQ(WeightLayoutName(read.v.weight.layout), "int4 in groups of 16");
  EXPECT_EQ(WeightLayoutName(read.up.weight.layout), "BF16 packed");
  EXPECT_EQ(std::get<PackedIntLayout>(read.v.weight.layout).scale_dtype(),
            DType::kF32);
  const auto& o = std::get<PackedIntLayout>(read.o.weight.layout);
  EXPECT_EQ(o.bits(), 3);
  EXPECT_TRUE(o.asymmetric());
  EXPECT_TRUE(read.o.weight.bytes == block.o.weight.bytes);
  EXPECT_TRUE(read.q.weight.bytes == block.q.weight.bytes);
  EXPECT_TRUE(read.k.weight.bytes == block.k.weight.bytes);
  EXPECT_TRUE(read.v.weight.bytes == block.v.weight.bytes);
  EXPECT_TRUE(read.up.weight.bytes == block.up.weight.bytes);
}

TEST(PackageWriterTest, MatricesComeInAnyOrder) {
  const std::string folder = MakeTestFolder();
  const auto model = RandomModel(SmallSpec(), 5);
  // What is planned has no bytes.
  DeviceModel plan = *model;
  std::vector<std::pair<TensorId, DeviceMatrix>> matrices;
  VisitMatrices(&plan, [&](const TensorId& id, DeviceMatrix* matrix) {
    if (matrix->empty()) return;
    matrices.push_back({id, *matrix});
    matrix->bytes = {};
    matrix->owner = nullptr;
  });
  const std::string path = folder + "/model.qeff";
  auto writer = PackageWriter::Create(plan, nullptr, TestOptions(), path);
  ASSERT_TRUE(writer.ok()) << writer.status();
  const auto pool = *CreateThreadPool(3);
  pool->ParallelFor(static_cast<int64_t>(matrices.size()), 1,
                    [&](int64_t begin, int64_t end, int) {
                      for (int64_t i = begin; i < end; ++i) {
                        const auto& [id, matrix] =
                            matrices[matrices.size() - 1 - i];
                        EXPECT_TRUE((*writer)->Add(id, matrix.bytes).ok());
                      }
                    });
  EXPECT_EQ(ListTestFolder(folder).size(), 1u);  // the temporary
  ASSERT_TRUE((*writer)->Commit().ok());
  EXPECT_THAT(ListTestFolder(folder), ElementsAre("model.qeff"));
  EXPECT_EQ(ReadTestFile(path), PackageBytes(*model, nullptr));
}

TEST(PackageWriterTest, LeavesNothingBehind) {
  const std::string folder = MakeTestFolder();
  const std::string path = folder + "/model.qeff";
  WriteTestFile(path, "old");
  const auto model = RandomModel(SmallSpec(), 5);
  {
    auto writer = PackageWriter::Create(*model, nullptr, TestOptions(), path);
    ASSERT_TRUE(writer.ok());
  }
  DeviceModel wrong = *model;
  wrong.blocks[1].o = wrong.blocks[1].k;
  for (const absl::Status& status :
       {PackageWriter::Create(wrong, nullptr, TestOptions(), path).status(),
        WritePackage(wrong, nullptr, TestOptions(), path)}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("block 1 o weight: expected shape"));
    EXPECT_THAT(std::string(status.message()),
                ::testing::Not(HasSubstr(".tmp.")));
  }
  EXPECT_EQ(
      WritePackage(*model, nullptr, TestOptions(), folder + "/no/file").code(),
      absl::StatusCode::kUnavailable);
  EXPECT_THAT(ListTestFolder(folder), ElementsAre("model.qeff"));
  EXPECT_EQ(ReadTestFile(path), "old");
}

TEST(PackageWriterTest, RunsLikeTheModelInMemory) {
  const std::string path = MakeTestFolder() + "/model.qeff";
  const std::shared_ptr<const DeviceModel> model =
      RandomModel(SmallSpec(), 5, DType::kF16);
  ASSERT_TRUE(WritePackage(*model, nullptr, TestOptions(), path).ok());
  const auto package = DevicePackage::Open(path);
  ASSERT_TRUE(package.ok()) << package.status();
  const auto pool = *CreateThreadPool(2);
  const std::vector<int32_t> tokens = {1, 7, 3, 49, 0};
  std::vector<std::vector<float>> logits;
  for (const auto& m : {model, package->model()}) {
    auto engine = Engine::Create(m, pool.get(), package->header().options);
    ASSERT_TRUE(engine.ok()) << engine.status();
    const auto last = (*engine)->Append(tokens);
    ASSERT_TRUE(last.ok()) << last.status();
    logits.emplace_back(last->begin(), last->end());
  }
  EXPECT_EQ(logits[0], logits[1]);
}

// The bytes of a package are documented and stay what they are.
TEST(PackageWriterTest, GoldenFile) {
  const std::string path = MakeTestFolder() + "/model.qeff";
  const auto model = RandomModel(TinySpec(), 1, DType::kBF16);
  const TokenizerTables tables = FullTables();
  ASSERT_TRUE(WritePackage(*model, &tables, TestOptions(), path).ok());
  const std::string bytes = ReadTestFile(path);
  EXPECT_EQ(bytes.substr(0, 12), std::string("qeffpkg\0\4\0\0\0", 12));
  uint32_t header_bytes;
  std::memcpy(&header_bytes, &bytes[12], sizeof(header_bytes));
  EXPECT_EQ(header_bytes, 711u);
  uint64_t file_bytes;
  std::memcpy(&file_bytes, &bytes[16], sizeof(file_bytes));
  EXPECT_EQ(file_bytes, bytes.size());
  // Field 1, the producer, 4 bytes; field 2, the target, generic; field 3, the
  // spec, and of it field 1, the family.
  EXPECT_EQ(bytes.substr(24, 6), "\x0A\x04test");
  EXPECT_EQ(bytes.substr(30, 3), "\x10\x01\x1A");
  EXPECT_EQ(Checksum64(
                {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}),
            7334817652890395051u);
}

}  // namespace
}  // namespace qeff
