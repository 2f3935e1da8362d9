// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/safetensors_writer.h"

#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/io/safetensors.h"

namespace qeff {
namespace {

TEST(SafetensorsWriterTest, IsReadBack) {
  const std::string path = MakeTestFolder() + "/t.safetensors";
  WriteTestFile(path, "what was there");
  const uint8_t bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  const TensorView wide{DType::kF32, Shape({1, 2}), bytes};
  const TensorView narrow{DType::kI8, Shape({3}),
                          absl::MakeConstSpan(bytes, 3)};
  ASSERT_TRUE(WriteSafetensorsFile(path, {{"n", narrow}, {"w", wide}}).ok());
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  const TensorView read = (*file)->View(*(*file)->Find("w"));
  EXPECT_EQ(read.shape, wide.shape);
  EXPECT_EQ(read.bytes, wide.bytes);
  EXPECT_EQ((*file)->View(*(*file)->Find("n")).bytes, narrow.bytes);
}

TEST(SafetensorsWriterTest, ErrorsLeaveTheOldFile) {
  const std::string folder = MakeTestFolder();
  const std::string path = folder + "/t.safetensors";
  WriteTestFile(path, "what was there");
  const TensorView empty{DType::kF32, Shape({0}), {}};
  EXPECT_EQ(WriteSafetensorsFile(path, {{"a", empty}, {"a", empty}}).code(),
            absl::StatusCode::kInvalidArgument);
  // Too few or too many bytes would leave a hole or overwrite a neighbour.
  const uint8_t bytes[8] = {};
  for (const size_t size : {0, 7, 8}) {
    const TensorView wrong{DType::kF32, Shape({1}),
                           absl::MakeConstSpan(bytes, size)};
    EXPECT_EQ(
        WriteSafetensorsFile(path, {{"e", empty}, {"t", wrong}}).message(),
        path + ": tensor 't': expected 4 bytes for shape [1] of F32, found " +
            std::to_string(size));
  }
  EXPECT_EQ(ReadTestFile(path), "what was there");
  EXPECT_EQ(WriteSafetensorsFile(folder + "/none/t", {{"a", empty}}).code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(ListTestFolder(folder).size(), 1u);
}

}  // namespace
}  // namespace qeff
