// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/safetensors.h"

#include <sys/stat.h>

#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"

namespace qeff {
namespace {

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;

TEST(SafetensorsFileTest, MapsTensors) {
  const std::string path = MakeTestFolder() + "/x.safetensors";
  WriteTestFile(path, SafetensorsBytes({{"b", Shape({3}), {1, 2, 3}},
                                        {"a", Shape({2, 1}), {-1, 0.5f}},
                                        {"none", Shape({0}), {}}}));
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->path(), path);
  EXPECT_EQ((*file)->Find("c"), nullptr);
  const SafetensorsEntry* entry = (*file)->Find("a");
  ASSERT_NE(entry, nullptr);
  const TensorView view = (*file)->View(*entry);
  EXPECT_EQ(view.shape, Shape({2, 1}));
  float values[2];
  ReadFloats(view, 0, absl::MakeSpan(values));
  EXPECT_EQ(values[0], -1.0f);
  EXPECT_EQ(values[1], 0.5f);
  EXPECT_TRUE((*file)->View(*(*file)->Find("none")).bytes.empty());
}

TEST(SafetensorsFileTest, RejectsWhatIsNoRegularFile) {
  const std::string folder = MakeTestFolder();
  EXPECT_EQ(SafetensorsFile::Open(folder + "/absent").status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(SafetensorsFile::Open(folder).status().code(), kInvalid);
  ASSERT_EQ(mkfifo((folder + "/fifo").c_str(), 0600), 0);
  EXPECT_EQ(SafetensorsFile::Open(folder + "/fifo").status().code(), kInvalid);
  EXPECT_EQ(SafetensorsFile::Open("/dev/zero").status().code(), kInvalid);
}

}  // namespace
}  // namespace qeff
