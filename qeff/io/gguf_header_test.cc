// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/gguf_header.h"

#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/util/mutate_testutil.h"
#include "qeff/util/output_file.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr uint64_t kHuge = ~uint64_t{0};

// A file from plain bytes and not with the writer, so that the two check each
// other.
class FileBytes {
 public:
  template <typename T>
  FileBytes& Number(T value) {
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    bytes_.append(raw, sizeof(T));
    return *this;
  }
  FileBytes& U32(uint32_t value) { return Number(value); }
  FileBytes& U64(uint64_t value) { return Number(value); }
  FileBytes& Text(absl::string_view text) {
    U64(text.size());
    bytes_.append(text.data(), text.size());
    return *this;
  }
  FileBytes& Start(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
    bytes_ += "GGUF";
    return U32(version).U64(tensors).U64(keys);
  }
  FileBytes& U32Key(absl::string_view key, uint32_t value) {
    return Text(key).U32(4).U32(value);
  }
  FileBytes& Tensor(absl::string_view name, std::vector<uint64_t> dims,
                    uint32_t type, uint64_t offset) {
    Text(name).U32(static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) U64(dim);
    return U32(type).U64(offset);
  }
  // Zeros up to a multiple of `alignment`, then `bytes` of data.
  FileBytes& Data(size_t bytes, size_t alignment = 32) {
    while (bytes_.size() % alignment != 0) bytes_ += '\0';
    bytes_.append(bytes, 'd');
    return *this;
  }

  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

absl::StatusOr<GgufHeader> Parse(const std::string& bytes) {
  return ParseGgufHeader(AsBytes(bytes), bytes.size(), "dir/f.gguf");
}

void ExpectInvalid(const FileBytes& file, absl::string_view part) {
  const auto header = Parse(file.bytes());
  EXPECT_EQ(header.status().code(), absl::StatusCode::kInvalidArgument)
      << part << header.status();
  EXPECT_THAT(
      std::string(header.status().message()),
      testing::AllOf(StartsWith("dir/f.gguf: "), HasSubstr(std::string(part))));
}

// A header with everything that a header can have.
FileBytes FullHeader() {
  FileBytes file;
  file.Start(/*tensors=*/3, /*keys=*/15);
  file.Text("u8").U32(0).Number(uint8_t{200});
  file.Text("i8").U32(1).Number(int8_t{-2});
  file.Text("u16").U32(2).Number(uint16_t{60000});
  file.Text("i16").U32(3).Number(int16_t{-300});
  file.U32Key("u32", 7);
  file.Text("i32").U32(5).Number(int32_t{-8});
  file.Text("f32").U32(6).Number(0.5f);
  file.Text("bool").U32(7).Number(uint8_t{1});
  file.Text("string").U32(8).Text("llama");
  file.Text("strings").U32(9).U32(8).U64(3).Text("a").Text("").Text("bc");
  file.Text("floats").U32(9).U32(6).U64(2).Number(1.0f).Number(-1.5f);
  file.Text("bools").U32(9).U32(7).U64(2).Number(uint16_t{0x0100});
  file.Text("u64").U32(10).U64(uint64_t{1} << 63);
  file.Text("i64").U32(11).Number(int64_t{-9});
  file.Text("f64").U32(12).Number(0.25);
  file.Tensor("norm", {3}, 0, 0);
  file.Tensor("q8", {64, 2}, 8, 32);
  file.Tensor("q4", {32, 1, 2, 1}, 2, 32 + 160);
  return file;
}

TEST(GgufHeaderTest, ParsesEveryTypeOfValue) {
  const auto header = Parse(FullHeader().Data(32 + 160 + 64).bytes());
  ASSERT_TRUE(header.ok()) << header.status();
  const GgufMetadata& metadata = header->metadata;
  EXPECT_EQ(header->version, 3u);
  ASSERT_EQ(metadata.size(), 15u);
  EXPECT_EQ(*FindGgufValue<uint8_t>(metadata, "u8"), 200);
  EXPECT_EQ(*FindGgufValue<int8_t>(metadata, "i8"), -2);
  EXPECT_EQ(*FindGgufValue<uint16_t>(metadata, "u16"), 60000);
  EXPECT_EQ(*FindGgufValue<int16_t>(metadata, "i16"), -300);
  EXPECT_EQ(*FindGgufValue<uint32_t>(metadata, "u32"), 7u);
  EXPECT_EQ(*FindGgufValue<int32_t>(metadata, "i32"), -8);
  EXPECT_EQ(*FindGgufValue<float>(metadata, "f32"), 0.5f);
  EXPECT_EQ(*FindGgufValue<bool>(metadata, "bool"), true);
  EXPECT_EQ(*FindGgufValue<std::string>(metadata, "string"), "llama");
  EXPECT_EQ(*FindGgufValue<uint64_t>(metadata, "u64"), uint64_t{1} << 63);
  EXPECT_EQ(*FindGgufValue<int64_t>(metadata, "i64"), -9);
  EXPECT_EQ(*FindGgufValue<double>(metadata, "f64"), 0.25);
  EXPECT_THAT(*FindGgufArray<std::vector<float>>(metadata, "floats"),
              ElementsAre(1.0f, -1.5f));
  EXPECT_THAT(*FindGgufArray<std::vector<bool>>(metadata, "bools"),
              ElementsAre(false, true));
  const auto* strings = FindGgufArray<GgufStrings>(metadata, "strings");
  ASSERT_NE(strings, nullptr);
  ASSERT_EQ(strings->size(), 3u);
  EXPECT_EQ((*strings)[0], "a");
  EXPECT_EQ((*strings)[1], "");
  EXPECT_EQ((*strings)[2], "bc");
  // Another type, another key.
  EXPECT_EQ(FindGgufValue<int32_t>(metadata, "u32"), nullptr);
  EXPECT_EQ(FindGgufArray<GgufStrings>(metadata, "floats"), nullptr);
  EXPECT_EQ(FindGgufValue<int32_t>(metadata, "absent"), nullptr);
}

TEST(GgufHeaderTest, PlacesTensors) {
  const FileBytes start = FullHeader();
  const uint64_t begin = (start.bytes().size() + 31) / 32 * 32;
  // The last tensor with its padding, with a part of it, and without.
  for (const size_t last : {64, 50, 36}) {
    const auto header = Parse(FileBytes(start).Data(32 + 160 + last).bytes());
    ASSERT_TRUE(header.ok()) << header.status();
    EXPECT_EQ(header->data_begin_bytes, begin);
    ASSERT_EQ(header->tensors.size(), 3u);
    EXPECT_EQ(header->tensors[0].name, "norm");
    EXPECT_EQ(header->tensors[0].shape, Shape({3}));
    EXPECT_EQ(header->tensors[0].size_bytes, 12u);
    EXPECT_EQ(header->tensors[1].type, GgmlType::kQ8_0);
    EXPECT_EQ(header->tensors[1].shape, Shape({2, 64}));
    EXPECT_EQ(header->tensors[1].begin_bytes, begin + 32);
    EXPECT_EQ(header->tensors[1].size_bytes, 4u * 34);
    EXPECT_EQ(header->tensors[2].shape, Shape({1, 2, 1, 32}));
    EXPECT_EQ(header->tensors[2].begin_bytes, begin + 192);
    EXPECT_EQ(header->tensors[2].size_bytes, 36u);
  }
}

TEST(GgufHeaderTest, OtherAlignmentsAndVersions) {
  FileBytes file;
  file.Start(2, 1, /*version=*/2).U32Key("general.alignment", 64);
  file.Tensor("a", {1}, 0, 0).Tensor("b", {1}, 24, 64).Data(65, 64);
  const auto header = Parse(file.bytes());
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->tensors[1].begin_bytes % 64, 0u);
  EXPECT_TRUE(Parse(FileBytes().Start(0, 0).bytes()).ok());
  EXPECT_TRUE(Parse(FileBytes().Start(0, 0).Data(0).bytes()).ok());
}

TEST(GgufHeaderTest, RejectsOtherFiles) {
  ExpectInvalid(FileBytes(), "header ends at byte 0");
  ExpectInvalid(FileBytes().U32(0x46554747), "header ends at byte 4");
  ExpectInvalid(FileBytes().U64(2).Text("{}"), "begins with 'GGUF'");
  ExpectInvalid(FileBytes().U32(0x04034B50).U64(0), "looks like a zip archive");
  for (const uint32_t version : {0u, 1u, 4u, 0xFFFFFFFFu}) {
    ExpectInvalid(FileBytes().Start(0, 0, version), "version: expected 2 or 3");
  }
  ExpectInvalid(FileBytes().Start(0, 0, 3u << 24), "a big-endian file");
}

TEST(GgufHeaderTest, RejectsCountsBeforeAllocating) {
  for (const uint64_t count : {kHuge, uint64_t{1} << 63, uint64_t{1} << 60,
                               uint64_t{1} << 40, uint64_t{2}}) {
    ExpectInvalid(FileBytes().Start(0, count).U32Key("k", 1),
                  "number of keys: expected at most 1, found");
    ExpectInvalid(FileBytes().Start(count, 0).Tensor("t", {1}, 24, 0),
                  "number of tensors: expected at most 1, found");
  }
  ExpectInvalid(FileBytes().Start(1, 0).Data(64), "a tensor without a name");
  // Fewer than there are: the rest is taken for data.
  ExpectInvalid(FileBytes().Start(0, 0).U32Key("k", 1).Data(64),
                "file: expected 24 bytes, padding aside");
}

TEST(GgufHeaderTest, RejectsLengths) {
  for (const uint64_t length :
       {kHuge, kHuge - 7, uint64_t{1} << 62, uint64_t{1} << 40, uint64_t{99}}) {
    ExpectInvalid(FileBytes().Start(0, 1).U64(length).U64(0).U64(0),
                  "a key: byte 24: length of a string: expected at most 16");
    ExpectInvalid(FileBytes().Start(0, 1).Text("k").U32(8).U64(length),
                  "key 'k': byte 37: length of a string: expected at most 0");
    ExpectInvalid(
        FileBytes().Start(1, 0).U64(length).U64(0).U64(0).U64(0).U64(0),
        "name of a tensor: byte 24: length");
    for (const uint32_t type : {0u, 6u, 7u, 8u, 10u}) {
      ExpectInvalid(
          FileBytes().Start(0, 1).Text("k").U32(9).U32(type).U64(length),
          "key 'k': number of ");
    }
  }
  ExpectInvalid(FileBytes().Start(0, 1).Text("").U32(4).U32(0).U64(0),
                "an empty key");
  ExpectInvalid(FileBytes().Start(0, 1).Text(std::string(65536, 'k')).U64(0),
                "length of a string: expected at most 65535, found 65536");
  ExpectInvalid(FileBytes().Start(1, 0).Tensor(std::string(64, 't'), {1}, 0, 0),
                "expected at most 63, found 64");
}

TEST(GgufHeaderTest, RejectsTypesOfValues) {
  for (const uint32_t type : {13u, 99u, 0xFFFFFFFFu}) {
    ExpectInvalid(FileBytes().Start(0, 1).Text("k").U32(type).U64(0),
                  "key 'k': type: expected 0 to 12");
    ExpectInvalid(FileBytes().Start(0, 1).Text("k").U32(9).U32(type).U64(0),
                  "key 'k': type of elements: expected 0 to 12");
  }
  ExpectInvalid(FileBytes().Start(0, 1).Text("k").U32(9).U32(9).U64(0),
                "arrays of arrays");
  ExpectInvalid(FileBytes().Start(0, 1).Text("k").U32(7).Number(uint8_t{2}),
                "expected a bool of 0 or 1, found 2");
  ExpectInvalid(FileBytes().Start(0, 2).U32Key("k", 1).U32Key("k", 2),
                "duplicate key 'k'");
}

TEST(GgufHeaderTest, RejectsAlignments) {
  for (const uint32_t alignment : {0u, 1u, 3u, 4u, 33u, 1u << 21, 1u << 31}) {
    ExpectInvalid(
        FileBytes().Start(0, 1).U32Key("general.alignment", alignment),
        "general.alignment: expected a u32 that is a power of 2");
  }
  ExpectInvalid(
      FileBytes().Start(0, 1).Text("general.alignment").U32(10).U64(32),
      "found type 10");
}

FileBytes OneTensor(std::vector<uint64_t> dims, uint32_t type,
                    uint64_t offset = 0, size_t data_bytes = 64) {
  return FileBytes()
      .Start(1, 0)
      .Tensor("t", std::move(dims), type, offset)
      .Data(data_bytes);
}

TEST(GgufHeaderTest, RejectsShapes) {
  ExpectInvalid(OneTensor({}, 0), "expected 1 to 4, found 0");
  ExpectInvalid(OneTensor({1, 1, 1, 1, 1}, 0), "expected 1 to 4, found 5");
  FileBytes many;
  many.Start(1, 0).Text("t").U32(1u << 31).Data(640);
  ExpectInvalid(many, "expected 1 to 4, found 2147483648");
  for (const uint64_t dim : {uint64_t{0}, kHuge, uint64_t{1} << 63}) {
    ExpectInvalid(OneTensor({64, dim}, 0), "tensor 't': dimension 1: expected");
  }
  constexpr uint64_t kMax = INT64_MAX;
  for (const uint32_t type : {0u, 1u, 24u, 28u}) {
    for (const auto& dims : std::vector<std::vector<uint64_t>>{
             {uint64_t{1} << 62, 4},
             {kMax, 2},
             {kMax},
             {kHuge / 4},
             {uint64_t{1} << 32, uint64_t{1} << 32},
             {uint64_t{1} << 61, 1, 8, 1}}) {
      if (dims[0] > kMax) continue;
      ExpectInvalid(OneTensor(dims, type), "needs more than the");
    }
  }
  ExpectInvalid(OneTensor({kMax / 32 * 32}, 8), "needs more than the");
}

TEST(GgufHeaderTest, RejectsTypesOfTensors) {
  for (const uint32_t type :
       {4u, 5u, 33u, 38u, 99u, 0x7FFFFFFFu, 0xFFFFFFFFu}) {
    ExpectInvalid(OneTensor({32}, type), "is none of ggml's types");
  }
  ExpectInvalid(OneTensor({16}, 8), "expected rows of a multiple of 32");
  ExpectInvalid(OneTensor({48, 2}, 2), "expected rows of a multiple of 32");
  ExpectInvalid(OneTensor({32, 8}, 12), "expected rows of a multiple of 256");
}

TEST(GgufHeaderTest, RejectsOffsetsAndSizes) {
  for (const uint64_t offset : {uint64_t{1}, uint64_t{32}, kHuge - 31, kHuge}) {
    ExpectInvalid(OneTensor({16}, 0, offset), "offset: expected 0, found");
  }
  for (const size_t bytes : {size_t{0}, size_t{32}, size_t{63}}) {
    ExpectInvalid(OneTensor({16}, 0, 0, bytes), "tensor 't': ");
  }
  ExpectInvalid(OneTensor({16}, 0, 0, 65), "file: expected");
  ExpectInvalid(OneTensor({16}, 0, 0, 1 << 20), "file: expected");
  FileBytes same;
  same.Start(2, 0).Tensor("a", {8}, 0, 0).Tensor("b", {8}, 0, 0).Data(64);
  ExpectInvalid(same, "tensor 'b': offset: expected 32, found 0");
  FileBytes twice;
  twice.Start(2, 0).Tensor("a", {8}, 0, 0).Tensor("a", {8}, 0, 32).Data(64);
  ExpectInvalid(twice, "duplicate tensor 'a'");
}

// Sizes that fit one by one, but whose sum would wrap if it were not compared
// with the file at each step.
TEST(GgufHeaderTest, RejectsSumsThatWrap) {
  std::string bytes =
      FileBytes()
          .Start(2, 0)
          .Tensor("a", {uint64_t{1} << 62}, 24, 0)
          .Tensor("b", {uint64_t{1} << 62}, 24, uint64_t{1} << 62)
          .bytes();
  for (const uint64_t file_bytes : {uint64_t{1} << 62, kHuge}) {
    const auto header = ParseGgufHeader(AsBytes(bytes), file_bytes, "f");
    EXPECT_EQ(header.status().code(), absl::StatusCode::kInvalidArgument);
  }
}

// Every truncation is refused, and no flipped bit does worse than that.
TEST(GgufHeaderTest, SurvivesTruncationsAndFlips) {
  const std::string header = FullHeader().bytes();
  const std::string file = FullHeader().Data(32 + 160 + 36).bytes();
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_FALSE(Parse(file.substr(0, size)).ok()) << size;
  }
  int accepted = 0;
  for (size_t bit = 0; bit < 8 * header.size(); ++bit) {
    std::string flipped = file;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    accepted += Parse(flipped).ok() ? 1 : 0;
  }
  // Flips within values and names change what is read, not its form.
  EXPECT_LT(accepted, static_cast<int>(8 * header.size()));
  EXPECT_GT(accepted, 0);
}

// Faults that a flipped bit does not make: lengths and counts of any size.
TEST(GgufHeaderTest, SurvivesDamage) {
  const std::string file = FullHeader().Data(32 + 160 + 36).bytes();
  EXPECT_GT(ReadDamaged(file, 50000, "",
                        [](const std::string& damaged) -> absl::Status {
                          const auto header = Parse(damaged);
                          if (!header.ok()) return header.status();
                          for (const GgufTensorInfo& tensor : header->tensors) {
                            EXPECT_LE(tensor.begin_bytes, damaged.size());
                            EXPECT_LE(tensor.size_bytes,
                                      damaged.size() - tensor.begin_bytes);
                          }
                          return absl::OkStatus();
                        }),
            100);
}

}  // namespace
}  // namespace qeff
