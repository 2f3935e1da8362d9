// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/sparse_24_tensor.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/quantized_layer_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

// Two rows of 8, the first that of the format's example.
std::vector<RawTensor> Layer() {
  return {{"m.compressed",
           "F32",
           {2, 4},
           Bytes<float>({-.9f, .5f, 3, -4, 1, 2, 0, 7})},
          {"m.bitmask", "U8", {2, 1}, Bytes<uint8_t>({0x96, 0x5C})},
          {"m.shape", "I64", {2}, Bytes<int64_t>({2, 8})}};
}

TEST(Sparse24Tensor, Reads) {
  const auto checkpoint = OpenLayer(Layer());
  EXPECT_TRUE(HasSparse24Weight(*checkpoint, "m"));
  EXPECT_FALSE(HasSparse24Weight(*checkpoint, "n"));
  const auto tensor = OpenSparse24Tensor(*checkpoint, "m");
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_EQ(tensor->rows, 2);
  EXPECT_EQ(tensor->cols, 8);
  std::vector<float> values(16);
  ASSERT_TRUE(ReadSparse24Rows(*tensor, 0, 2, values.data()).ok());
  EXPECT_EQ(values, std::vector<float>({0, -.9f, .5f, 0, 3, 0, 0, -4,  //
                                        0, 0, 1, 2, 0, 0, 7, 0}));
}

TEST(Sparse24Tensor, DeclaresWhatItReads) {
  const auto infos = Sparse24Tensors("m", DType::kBF16, 3, 12);
  ASSERT_EQ(infos.size(), 3u);
  EXPECT_EQ(infos[0].name, "m.compressed");
  EXPECT_EQ(infos[0].shape, Shape({3, 6}));
  EXPECT_EQ(infos[1].shape, Shape({3, 2}));
  EXPECT_EQ(infos[2].dtype, DType::kI64);
}

TEST(Sparse24Tensor, RefusesBrokenTensors) {
  struct Case {
    size_t index;
    RawTensor tensor;
    const char* message;
  };
  for (const Case& c : std::vector<Case>{
           {0, {"m.compressed", "I32", {2, 4}, std::string(32, '\0')}, "F32"},
           {0,
            {"m.compressed", "F32", {2, 3}, std::string(24, '\0')},
            "[2, 4]"},
           {1, {"m.bitmask", "I8", {2, 1}, "ab"}, "U8"},
           {1, {"m.bitmask", "U8", {1, 2}, "ab"}, "[2, 1]"},
           {2,
            {"m.shape", "I64", {2}, Bytes<int64_t>({2, 6})},
            "multiple of 4"},
           {2, {"m.shape", "I64", {2}, Bytes<int64_t>({0, 8})}, "found 0"},
           {2, {"m.shape", "I64", {1}, Bytes<int64_t>({2})}, "[2]"},
       }) {
    auto tensors = Layer();
    tensors[c.index] = c.tensor;
    const auto checkpoint = OpenLayer(tensors);
    const auto tensor = OpenSparse24Tensor(*checkpoint, "m");
    EXPECT_EQ(tensor.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(tensor.status().message(), HasSubstr(c.message));
    EXPECT_THAT(tensor.status().message(), HasSubstr(c.tensor.name));
  }
  auto tensors = Layer();
  tensors[1].bytes = Bytes<uint8_t>({0x96, 0x1C});
  const auto checkpoint = OpenLayer(tensors);
  const auto tensor = OpenSparse24Tensor(*checkpoint, "m");
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  std::vector<float> values(16);
  const absl::Status status = ReadSparse24Rows(*tensor, 0, 2, values.data());
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("m.bitmask': row 1, column 4"));
}

}  // namespace
}  // namespace qeff
