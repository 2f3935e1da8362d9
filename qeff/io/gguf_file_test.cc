// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/gguf_file.h"

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/format/ggml_codec.h"
#include "qeff/io/gguf_writer.h"
#include "qeff/io/io_testutil.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/util/output_file.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

constexpr GgmlType kTypes[] = {
    GgmlType::kF32,  GgmlType::kF16,  GgmlType::kBF16, GgmlType::kQ8_0,
    GgmlType::kQ4_0, GgmlType::kQ4_K, GgmlType::kQ5_K, GgmlType::kQ6_K,
    GgmlType::kQ4_1, GgmlType::kQ5_0, GgmlType::kQ5_1, GgmlType::kMXFP4};

constexpr int64_t kRows = 3;
constexpr int64_t kCols = 512;

std::vector<uint8_t> EncodeRows(GgmlType type, const std::vector<float>& rows) {
  const GgmlTypeTraits& traits = *FindGgmlType(type);
  std::vector<uint8_t> bytes(rows.size() / traits.block_elems *
                             traits.block_bytes);
  switch (type) {
    case GgmlType::kF32:
      ConvertFromFloat(rows, DType::kF32, absl::MakeSpan(bytes));
      break;
    case GgmlType::kF16:
      ConvertFromFloat(rows, DType::kF16, absl::MakeSpan(bytes));
      break;
    case GgmlType::kBF16:
      ConvertFromFloat(rows, DType::kBF16, absl::MakeSpan(bytes));
      break;
    default:
      EncodeGgmlRow(type, rows, {}, absl::MakeSpan(bytes));
      break;
  }
  return bytes;
}

class GgufFileTest : public testing::Test {
 protected:
  // A file with one matrix of each type, called by it, of the same values.
  void WriteAllTypes() {
    const Random random(1, 0);
    values_.resize(kRows * kCols);
    for (size_t i = 0; i < values_.size(); ++i) values_[i] = random.NormalAt(i);
    std::vector<GgufTensorInfo> infos;
    for (const GgmlType type : kTypes) {
      GgufTensorInfo info;
      info.name = std::string(FindGgmlType(type)->name);
      info.type = type;
      info.shape = Shape({kRows, kCols});
      infos.push_back(info);
    }
    GgufMetadata metadata;
    metadata.emplace_back("general.architecture", std::string("llama"));
    const auto writer = GgufWriter::Create(path_, metadata, infos);
    ASSERT_TRUE(writer.ok()) << writer.status();
    for (size_t i = 0; i < infos.size(); ++i) {
      ASSERT_TRUE(
          (*writer)->Write(i, 0, EncodeRows(infos[i].type, values_)).ok());
    }
    ASSERT_TRUE((*writer)->Commit().ok());
  }

  // Opens the file and, if that works, decodes every tensor.
  absl::Status ReadAll() const {
    const auto file = GgufFile::Open(path_);
    if (!file.ok()) return file.status();
    for (const GgufTensorInfo& tensor : (*file)->header().tensors) {
      std::vector<float> row(static_cast<size_t>(GgufRowElems(tensor)));
      for (int64_t r = 0; r < GgufRows(tensor); ++r) {
        const absl::Status status =
            (*file)->ReadRows(tensor, r, absl::MakeSpan(row));
        if (!status.ok()) return status;
      }
    }
    return absl::OkStatus();
  }

  const std::string path_ = MakeTestFolder() + "/model.gguf";
  std::vector<float> values_;
};

TEST_F(GgufFileTest, DecodesEveryType) {
  WriteAllTypes();
  const auto file = GgufFile::Open(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->path(), path_);
  EXPECT_EQ((*file)->Find("absent"), nullptr);
  for (const GgmlType type : kTypes) {
    const GgufTensorInfo* tensor = (*file)->Find(FindGgmlType(type)->name);
    ASSERT_NE(tensor, nullptr);
    const std::vector<uint8_t> encoded = EncodeRows(type, values_);
    EXPECT_EQ((*file)->Bytes(*tensor), absl::MakeConstSpan(encoded));
    ASSERT_EQ(GgufRows(*tensor), kRows);
    std::vector<float> all(values_.size());
    ASSERT_TRUE((*file)->ReadRows(*tensor, 0, absl::MakeSpan(all)).ok());
    // One row is that part of all, and close to what was written.
    std::vector<float> last(kCols);
    ASSERT_TRUE(
        (*file)->ReadRows(*tensor, kRows - 1, absl::MakeSpan(last)).ok());
    EXPECT_TRUE(std::equal(last.begin(), last.end(), all.end() - kCols));
    double error = 0;
    for (size_t i = 0; i < all.size(); ++i) {
      error += (all[i] - values_[i]) * (all[i] - values_[i]);
    }
    EXPECT_LT(std::sqrt(error / static_cast<double>(all.size())), 0.13)
        << tensor->name;
    if (type == GgmlType::kF32) {
      EXPECT_EQ(all, values_);
    }
  }
}

TEST_F(GgufFileTest, NamesTypesThatItCannotDecode) {
  GgufTensorInfo info;
  info.name = "w";
  info.type = static_cast<GgmlType>(11);  // Q3_K
  info.shape = Shape({1, 256});
  const auto writer = GgufWriter::Create(path_, {}, {info});
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE((*writer)->Write(0, 0, std::vector<uint8_t>(110)).ok());
  ASSERT_TRUE((*writer)->Commit().ok());
  const absl::Status status = ReadAll();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("model.gguf: tensor 'w': type Q3_K is not supported"));
  EXPECT_FALSE(CanDecodeGgml(info.type));
}

TEST_F(GgufFileTest, OtherFilesAreNamed) {
  EXPECT_EQ(GgufFile::Open(path_).status().code(), absl::StatusCode::kNotFound);
  WriteTestFile(path_, "");
  EXPECT_EQ(GgufFile::Open(path_).status().code(),
            absl::StatusCode::kInvalidArgument);
  WriteTestFile(path_, std::string("PK\x03\x04", 4) + std::string(100, 'x'));
  EXPECT_THAT(std::string(GgufFile::Open(path_).status().message()),
              HasSubstr("zip"));
}

// A file cut short anywhere is refused: none of it is believed, and no byte
// behind its end is read. (That the last tensor lacks its padding is allowed.)
TEST_F(GgufFileTest, EveryPrefixIsRefused) {
  WriteAllTypes();
  const std::string bytes = ReadTestFile(path_);
  const auto file = GgufFile::Open(path_);
  ASSERT_TRUE(file.ok());
  const GgufTensorInfo& last = (*file)->header().tensors.back();
  const uint64_t end = last.begin_bytes + last.size_bytes;
  const uint64_t data = (*file)->header().data_begin_bytes;
  for (uint64_t size = 0; size < end; size += size < data + 64 ? 1 : 61) {
    WriteTestFile(path_, absl::string_view(bytes).substr(0, size));
    EXPECT_EQ(ReadAll().code(), absl::StatusCode::kInvalidArgument) << size;
  }
  WriteTestFile(path_, absl::string_view(bytes).substr(0, end));
  EXPECT_TRUE(ReadAll().ok());
  WriteTestFile(path_, bytes + std::string(32, '\0'));
  EXPECT_EQ(ReadAll().code(), absl::StatusCode::kInvalidArgument);
}

// Any bit of the header and of the scales: an error or a decoded file, never a
// crash (run under sanitizers).
TEST_F(GgufFileTest, FlippedBitsAreNoTrouble) {
  WriteAllTypes();
  const std::string bytes = ReadTestFile(path_);
  const auto file = GgufFile::Open(path_);
  ASSERT_TRUE(file.ok());
  const uint64_t data = (*file)->header().data_begin_bytes;
  int refused = 0;
  for (uint64_t at = 0; at < bytes.size(); at += at < data ? 1 : 251) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = bytes;
      flipped[at] = static_cast<char>(flipped[at] ^ 1 << bit);
      WriteTestFile(path_, flipped);
      refused += ReadAll().ok() ? 0 : 1;
    }
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace qeff
