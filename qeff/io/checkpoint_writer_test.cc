// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/checkpoint_writer.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <numeric>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const Json kConfig = {{"model_type", "llama"}, {"hidden_size", 4}};

// Every dtype, a scalar and an empty tensor, in an order that would misalign
// the wider ones if it were kept.
std::vector<TensorInfo> MixedTensors() {
  return {{"byte", DType::kU8, Shape({3})},
          {"double", DType::kF64, Shape({2})},
          {"flag", DType::kBool, Shape({1})},
          {"half", DType::kF16, Shape({2, 3})},
          {"brain", DType::kBF16, Shape({5})},
          {"scalar", DType::kF32, Shape()},
          {"empty", DType::kF32, Shape({0, 7})},
          {"float", DType::kF32, Shape({2, 2})},
          {"int8", DType::kI8, Shape({7})},
          {"int16", DType::kI16, Shape({3})},
          {"int32", DType::kI32, Shape({3})},
          {"int64", DType::kI64, Shape({1})},
          {"e4m3", DType::kF8E4M3, Shape({3})},
          {"e5m2 \"quoted\" \n \xC3\xA9", DType::kF8E5M2, Shape({1, 1, 1})}};
}

// Bytes that differ from tensor to tensor.
std::vector<uint8_t> Content(const TensorInfo& tensor) {
  std::vector<uint8_t> bytes(tensor.size_bytes());
  std::iota(bytes.begin(), bytes.end(),
            static_cast<uint8_t>(tensor.name.size() * 37 + tensor.name[0]));
  return bytes;
}

absl::Status WriteAll(CheckpointWriter* writer,
                      const std::vector<TensorInfo>& tensors) {
  for (const TensorInfo& tensor : tensors) {
    const absl::Status status = writer->Write(tensor.name, 0, Content(tensor));
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

void ExpectReadsBack(const std::string& folder,
                     const std::vector<TensorInfo>& tensors) {
  const auto checkpoint = Checkpoint::Open(folder);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->config(), kConfig);
  EXPECT_EQ((*checkpoint)->tensors().size(), tensors.size());
  EXPECT_THAT((*checkpoint)->warnings(), IsEmpty());
  for (const TensorInfo& tensor : tensors) {
    const auto view = (*checkpoint)->Get(tensor.name, tensor.shape);
    ASSERT_TRUE(view.ok()) << view.status();
    EXPECT_EQ(view->dtype, tensor.dtype);
    EXPECT_EQ(view->bytes, absl::MakeConstSpan(Content(tensor)));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(view->bytes.data()) %
                  DTypeBytes(tensor.dtype),
              0u)
        << tensor.name;
  }
}

TEST(CheckpointWriterTest, ReadsBackWhatWasWritten) {
  const std::string parent = MakeTestFolder();
  const std::vector<TensorInfo> tensors = MixedTensors();
  auto writer = CheckpointWriter::Create(parent + "/out", tensors);
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE(WriteAll(writer->get(), tensors).ok());
  const absl::Status status =
      (*writer)->Commit(kConfig, {{"tokenizer.json", "{}"}});
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_THAT(ListTestFolder(parent), ElementsAre("out"));
  EXPECT_THAT(
      ListTestFolder(parent + "/out"),
      ElementsAre("config.json", "model.safetensors", "tokenizer.json"));
  ExpectReadsBack(parent + "/out", tensors);
  const std::string bytes = ReadTestFile(parent + "/out/model.safetensors");
  EXPECT_THAT(bytes.substr(8), testing::StartsWith(
                                   R"({"__metadata__":{"format":"pt"},)"));
  EXPECT_EQ(static_cast<uint8_t>(bytes[0]) % 8, 0);
}

}  // namespace
}  // namespace qeff
