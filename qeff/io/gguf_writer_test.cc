// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/gguf_writer.h"

#include <string>
#include <thread>
#include <vector>

#include "absl/strings/escaping.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/util/output_file.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;

GgufTensorInfo Declare(std::string name, GgmlType type, Shape shape) {
  return {std::move(name), type, std::move(shape)};
}

class GgufWriterTest : public testing::Test {
 protected:
  absl::Status CreateError(const GgufMetadata& metadata,
                           const std::vector<GgufTensorInfo>& tensors) {
    const auto writer = GgufWriter::Create(path_, metadata, tensors);
    EXPECT_THAT(ListTestFolder(folder_), IsEmpty());
    return writer.status();
  }

  const std::string folder_ = MakeTestFolder();
  const std::string path_ = folder_ + "/model.gguf";
};

TEST_F(GgufWriterTest, GoldenBytes) {
  const GgufMetadata metadata = {{"general.architecture", std::string("x")},
                                 {"general.alignment", uint32_t{16}}};
  const auto writer = GgufWriter::Create(
      path_, metadata, {Declare("w", GgmlType::kF16, Shape({2, 3}))});
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE((*writer)->Write(0, 0, AsBytes("0123456789AB")).ok());
  ASSERT_TRUE((*writer)->Commit().ok());
  const std::string bytes = ReadTestFile(path_);
  EXPECT_EQ(bytes.size(), (*writer)->file_bytes());
  EXPECT_EQ(absl::BytesToHexString(bytes),
            "47475546"          // magic
            "03000000"          // version
            "0100000000000000"  // tensors
            "0200000000000000"  // keys
            "1400000000000000"  // a key of 20 bytes
            "67656e6572616c2e617263686974656374757265"
            "08000000"            // string
            "010000000000000078"  // "x"
            "1100000000000000"    // a key of 17 bytes
            "67656e6572616c2e616c69676e6d656e74"
            "0400000010000000"    // u32 16
            "010000000000000077"  // "w"
            "02000000"            // dimensions: in, out
            "03000000000000000200000000000000"
            "01000000"                  // F16
            "0000000000000000"          // offset
            "0000000000"                // to a multiple of 16
            "303132333435363738394142"  // data
            "00000000");
}

TEST_F(GgufWriterTest, ReadsBackWhatItWrote) {
  GgufStrings tokens;
  for (const char* token : {"<s>", "", "\xE2\x96\x81the"})
    tokens.push_back(token);
  const GgufMetadata metadata = {
      {"a", uint8_t{1}},
      {"b", int8_t{-1}},
      {"c", uint16_t{2}},
      {"d", int16_t{-2}},
      {"e", uint32_t{3}},
      {"f", int32_t{-3}},
      {"g", 1.5f},
      {"h", true},
      {"i", std::string("text")},
      {"j", GgufArray(tokens)},
      {"k", GgufArray(std::vector<float>{0.5f, -1})},
      {"l", GgufArray(std::vector<bool>{true, false})},
      {"m", uint64_t{4}},
      {"n", int64_t{-4}},
      {"o", 2.5},
      {"p", GgufArray(std::vector<int32_t>{})}};
  const auto writer =
      GgufWriter::Create(path_, metadata,
                         {Declare("q4", GgmlType::kQ4_0, Shape({3, 64})),
                          Declare("norm", GgmlType::kF32, Shape({5})),
                          Declare("q8", GgmlType::kQ8_0, Shape({1, 32}))});
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE((*writer)->Write(2, 0, AsBytes(std::string(34, '8'))).ok());
  ASSERT_TRUE((*writer)->Write(1, 0, AsBytes(std::string(20, 'n'))).ok());
  ASSERT_TRUE((*writer)->Write(0, 36, AsBytes(std::string(72, 'b'))).ok());
  ASSERT_TRUE((*writer)->Write(0, 0, AsBytes(std::string(36, 'a'))).ok());
  ASSERT_TRUE((*writer)->Commit().ok());

  const std::string bytes = ReadTestFile(path_);
  const auto header = ParseGgufHeader(AsBytes(bytes), bytes.size(), path_);
  ASSERT_TRUE(header.ok()) << header.status();
  ASSERT_EQ(header->metadata.size(), metadata.size());
  for (size_t i = 0; i < metadata.size(); ++i) {
    EXPECT_EQ(header->metadata[i].first, metadata[i].first);
    EXPECT_EQ(header->metadata[i].second.index(), metadata[i].second.index());
  }
  const auto* read = FindGgufArray<GgufStrings>(header->metadata, "j");
  ASSERT_EQ(read->size(), 3u);
  EXPECT_EQ((*read)[2], tokens[2]);
  EXPECT_THAT(*FindGgufArray<std::vector<bool>>(header->metadata, "l"),
              ElementsAre(true, false));
  EXPECT_EQ(*FindGgufValue<double>(header->metadata, "o"), 2.5);
  ASSERT_EQ(header->tensors.size(), 3u);
  const auto data = [&](size_t i) {
    return bytes.substr(header->tensors[i].begin_bytes,
                        header->tensors[i].size_bytes);
  };
  EXPECT_EQ(data(0), std::string(36, 'a') + std::string(72, 'b'));
  EXPECT_EQ(data(1), std::string(20, 'n'));
  EXPECT_EQ(data(2), std::string(34, '8'));
}

TEST_F(GgufWriterTest, AppearsOnlyWhenItIsCommitted) {
  const std::vector<GgufTensorInfo> tensors = {
      Declare("a", GgmlType::kF32, Shape({2}))};
  WriteTestFile(path_, "old");
  {
    const auto writer = GgufWriter::Create(path_, {}, tensors);
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_TRUE((*writer)->Write(0, 0, AsBytes("1234")).ok());
    const absl::Status status = (*writer)->Commit();
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("tensor 'a': expected 8 bytes, 4 were written"));
  }
  EXPECT_THAT(ListTestFolder(folder_), ElementsAre("model.gguf"));
  EXPECT_EQ(ReadTestFile(path_), "old");
}

TEST_F(GgufWriterTest, WritesFromSeveralThreads) {
  constexpr int kParts = 64;
  const auto writer = GgufWriter::Create(
      path_, {}, {Declare("a", GgmlType::kF32, Shape({kParts, 16}))});
  ASSERT_TRUE(writer.ok()) << writer.status();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int part = t; part < kParts; part += 4) {
        const std::string bytes(64, static_cast<char>(part));
        EXPECT_TRUE((*writer)->Write(0, 64 * part, AsBytes(bytes)).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE((*writer)->Commit().ok());
  const std::string bytes = ReadTestFile(path_);
  for (int part = 0; part < kParts; ++part) {
    EXPECT_EQ(bytes[(*writer)->tensors()[0].begin_bytes + 64 * part + 63],
              static_cast<char>(part));
  }
}

TEST_F(GgufWriterTest, RefusesRangesOutsideTheTensor) {
  const auto writer =
      GgufWriter::Create(path_, {}, {Declare("a", GgmlType::kF32, Shape({2}))});
  ASSERT_TRUE(writer.ok()) << writer.status();
  for (const uint64_t offset : {uint64_t{5}, ~uint64_t{0} - 1}) {
    const absl::Status status = (*writer)->Write(0, offset, AsBytes("1234"));
    EXPECT_EQ(status.code(), kInvalid);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("tensor 'a': expected at most 8 bytes"));
  }
}

TEST_F(GgufWriterTest, RefusesWhatNoReaderTakes) {
  const GgufTensorInfo good = Declare("a", GgmlType::kF32, Shape({2}));
  EXPECT_EQ(CreateError({}, {good, good}).code(), kInvalid);
  EXPECT_EQ(CreateError({{"k", 1u}, {"k", 2u}}, {}).code(), kInvalid);
  EXPECT_EQ(CreateError({{"", 1u}}, {}).code(), kInvalid);
  EXPECT_EQ(CreateError({{"general.alignment", 3u}}, {good}).code(), kInvalid);
  EXPECT_EQ(CreateError({{"general.alignment", 0u}}, {good}).code(), kInvalid);
  EXPECT_EQ(CreateError({{"general.alignment", int32_t{32}}}, {}).code(),
            kInvalid);
  EXPECT_EQ(CreateError({{"k", GgufArray(std::monostate())}}, {}).code(),
            kInvalid);
  const std::string long_name(64, 'n');
  for (const GgufTensorInfo& tensor :
       {Declare("", GgmlType::kF32, Shape({2})),
        Declare(long_name, GgmlType::kF32, Shape({2})),
        Declare("a", GgmlType::kF32, Shape()),
        Declare("a", GgmlType::kF32, Shape({1, 1, 1, 1, 1})),
        Declare("a", GgmlType::kF32, Shape({2, 0})),
        Declare("a", GgmlType::kF32, Shape({2, -1})),
        Declare("a", GgmlType::kQ4_0, Shape({32, 16})),
        Declare("a", static_cast<GgmlType>(5), Shape({32})),
        Declare("a", GgmlType::kF32, Shape({INT64_MAX, 2})),
        Declare("a", GgmlType::kF32, Shape({INT64_MAX / 4}))}) {
    EXPECT_EQ(CreateError({}, {tensor}).code(), kInvalid)
        << tensor.name << tensor.shape.ToString();
  }
}

TEST_F(GgufWriterTest, SaysWhenThereIsNoRoom) {
  const absl::Status status = CreateError(
      {}, {Declare("a", GgmlType::kF32, Shape({int64_t{1} << 58}))});
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_EQ(
      GgufWriter::Create(folder_ + "/none/f.gguf", {}, {}).status().code(),
      absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace qeff
