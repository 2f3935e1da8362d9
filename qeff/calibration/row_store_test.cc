// SPDX-License-Identifier: Apache-2.0

#include "qeff/calibration/row_store.h"

#include <sys/stat.h>

#include <cstdlib>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

std::string Folder() {
  std::string pattern = ::testing::TempDir() + "/rows.XXXXXX";
  return mkdtemp(pattern.data());
}

Matrix<float> Numbers(int64_t rows, int64_t cols) {
  Matrix<float> m(rows, cols);
  for (int64_t i = 0; i < rows * cols; ++i) {
    m.data()[i] = static_cast<float>(i);
  }
  return m;
}

class RowStoreTest : public ::testing::TestWithParam<bool> {
 protected:
  RowStore Make(int64_t rows, int64_t cols) const {
    if (!GetParam()) return RowStore(rows, cols);
    return RowStore::InFile(folder_ + "/scratch", rows, cols).value();
  }

  const std::string folder_ = Folder();
};

TEST_P(RowStoreTest, KeepsRows) {
  RowStore store = Make(7, 3);
  const Matrix<float> numbers = Numbers(7, 3);
  ASSERT_TRUE(store.Write(0, numbers.view().Rows(0, 4)).ok());
  ASSERT_TRUE(store.Write(4, numbers.view().Rows(4, 3)).ok());
  auto rows = store.Read(2, 3);
  ASSERT_TRUE(rows.ok()) << rows.status();
  EXPECT_EQ(rows->row(0)[0], 6);
  EXPECT_EQ(rows->row(2)[2], 14);
  rows->row(1)[1] = -1;
  ASSERT_TRUE(store.Write(2, *rows).ok());
  rows = store.Read(0, 7);
  EXPECT_EQ(rows->row(3)[1], -1);
  EXPECT_EQ(rows->row(6)[2], 20);
  struct stat info;
  EXPECT_NE(stat((folder_ + "/scratch").c_str(), &info), 0);
}

TEST_P(RowStoreTest, SavesAndLoads) {
  // More than one piece.
  constexpr int64_t kRows = 1500, kCols = 1000;
  RowStore store = Make(kRows, kCols);
  const Matrix<float> numbers = Numbers(kRows, kCols);
  ASSERT_TRUE(store.Write(0, numbers.view()).ok());
  const std::string path = folder_ + "/saved";
  const auto saved = store.Save(path);
  ASSERT_TRUE(saved.ok()) << saved.status();

  RowStore other = Make(kRows, kCols);
  const auto loaded = other.Load(path);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(*loaded, *saved);
  EXPECT_EQ((*other.Read(kRows - 1, 1)).row(0)[kCols - 1], kRows * kCols - 1);
  // In memory or not, the file is the same.
  RowStore third(kRows, kCols);
  ASSERT_TRUE(third.Write(0, numbers.view()).ok());
  EXPECT_EQ(*third.Save(path + "2"), *saved);
  third.Read(700, 1)->row(0)[3] += 1;
  EXPECT_NE(*third.Save(path + "2"), *saved);

  RowStore smaller = Make(kRows - 1, kCols);
  EXPECT_THAT(smaller.Load(path).status().message(),
              HasSubstr("expected 5996000 bytes, found 6000000"));
  EXPECT_FALSE(smaller.Load(folder_ + "/none").ok());
}

TEST_P(RowStoreTest, RowsMayBeReadBeyond) {
  RowStore store = Make(2, 5);
  const auto rows = store.Read(0, 2);
  volatile float last = rows->data()[10 + RowStore::kReadBeyondElems - 1];
  (void)last;
}

INSTANTIATE_TEST_SUITE_P(Places, RowStoreTest, ::testing::Bool());

TEST(RowStoreFileTest, RefusesWhatTheDiskCannotHold) {
  const auto store =
      RowStore::InFile(Folder() + "/scratch", int64_t{1} << 40, 1 << 10);
  EXPECT_EQ(store.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(RowStore::InFile("/no/such/folder/x", 1, 1).ok());
}

}  // namespace
}  // namespace qeff
