// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/entry_marker.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(EntryMarkerTest, ReadsWhatItWrote) {
  const std::string folder = MakeTestFolder();
  EXPECT_TRUE(absl::IsNotFound(ReadMarker(folder).status()));
  ASSERT_TRUE(WriteMarker(folder, nullptr).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(ReadMarker(folder).status()));
  const FileRecords records = {{"a", {7, {"x", "y"}}}, {"qpc/b", {0, {}}}};
  ASSERT_TRUE(WriteMarker(folder, &records).ok());
  const auto read = ReadMarker(folder);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), 2u);
  EXPECT_EQ(read->at("a").bytes, 7u);
  EXPECT_THAT(read->at("a").checksums, ElementsAre("x", "y"));
  EXPECT_THAT(read->at("qpc/b").checksums, IsEmpty());
}

// xxhsum -H64 says the same of the file.
TEST(EntryMarkerTest, RecordsXxh64) {
  const std::string path = MakeTestFolder() + "/file";
  WriteTestFile(path, "a");
  const auto record = RecordOf(path);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->bytes, 1u);
  EXPECT_THAT(record->checksums, ElementsAre("d24ec4f1a98c6e5b"));
  WriteTestFile(path, "");
  EXPECT_THAT(RecordOf(path)->checksums, IsEmpty());
}

TEST(EntryMarkerTest, SaysWhereAFileDiffers) {
  const FileRecord expected = {600 << 20, {"a", "b", "c"}};
  FileRecord found = expected;
  EXPECT_TRUE(CompareContent("f", expected, found).ok());
  found.checksums[1] = "x";
  EXPECT_THAT(CompareContent("f", expected, found).message(),
              HasSubstr(absl::StrCat("f: from byte ", 256 << 20,
                                     " on: expected checksum b, found x")));
}

}  // namespace
}  // namespace qeff
