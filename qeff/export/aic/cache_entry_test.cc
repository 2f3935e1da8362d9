// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/cache_entry.h"

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kExport[] = "/Llama/Llama-0123456789abcdef";
constexpr char kCompilation[] = "/qpc-fedcba9876543210";

// An export with two files, one in a folder.
void Make(const std::string& folder) {
  auto builder = EntryBuilder::Begin(folder);
  ASSERT_TRUE(builder.ok()) << builder.status();
  ASSERT_TRUE((*builder)->Write("model.onnx", "graph").ok());
  std::filesystem::create_directory(folder + "/qpc");
  WriteTestFile(folder + "/qpc/programqpc.bin", "program");
  ASSERT_TRUE((*builder)->Commit().ok());
}

class CacheEntryTest : public ::testing::Test {
 protected:
  const std::string root_ = MakeTestFolder();
  const std::string entry_ = root_ + kExport;
};

TEST_F(CacheEntryTest, IsCompleteOnlyAfterCommit) {
  EXPECT_EQ(LookAtEntry(entry_), EntryState::kMissing);
  {
    auto builder = EntryBuilder::Begin(entry_);
    ASSERT_TRUE(builder.ok()) << builder.status();
    EXPECT_EQ(LookAtEntry(entry_), EntryState::kUnfinished);
    ASSERT_TRUE((*builder)->Write("model.onnx", "half").ok());
    EXPECT_EQ(LookAtEntry(entry_), EntryState::kUnfinished);
    EXPECT_FALSE(EntryHas(entry_, "model.onnx"));
  }
  EXPECT_EQ(LookAtEntry(entry_), EntryState::kUnfinished);
  EXPECT_FALSE(VerifyEntry(entry_).ok());
  Make(entry_);
  EXPECT_EQ(LookAtEntry(entry_), EntryState::kComplete);
  EXPECT_TRUE(VerifyEntry(entry_).ok());
  EXPECT_THAT(ListTestFolder(entry_),
              ElementsAre("model.onnx", "qeff_entry.json", "qpc"));
  EXPECT_TRUE(EntryHas(entry_, "qpc/programqpc.bin"));
  EXPECT_FALSE(EntryHas(entry_, "qpc/other.bin"));
}

// Whatever a process had done when it was killed.
TEST_F(CacheEntryTest, AKilledProcessLeavesItUnfinished) {
  const pid_t child = fork();
  if (child == 0) {
    auto builder = EntryBuilder::Begin(entry_);
    (void)(*builder)->Write("model.onnx", "all of it");
    _exit(0);  // without destructors
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(LookAtEntry(entry_), EntryState::kUnfinished);
  Make(entry_);
  EXPECT_EQ(LookAtEntry(entry_), EntryState::kComplete);
}

TEST_F(CacheEntryTest, BeginRemovesWhatWasThere) {
  Make(entry_);
  Make(entry_ + kCompilation);
  WriteTestFile(entry_ + "/left_over", "x");
  auto builder = EntryBuilder::Begin(entry_);
  ASSERT_TRUE(builder.ok()) << builder.status();
  EXPECT_THAT(ListTestFolder(entry_),
              ElementsAre("qeff_entry.json", "qeff_entry.lock"));
}

TEST_F(CacheEntryTest, OneProcessMakesIt) {
  auto builder = EntryBuilder::Begin(entry_);
  ASSERT_TRUE(builder.ok());
  EXPECT_THAT(EntryBuilder::Begin(entry_).status().message(),
              HasSubstr("another process"));
  EXPECT_THAT(RemoveEntry(entry_).message(), HasSubstr("another process"));
  builder->reset();
  EXPECT_TRUE(RemoveEntry(entry_).ok());
  EXPECT_EQ(LookAtEntry(entry_), EntryState::kMissing);
}

TEST_F(CacheEntryTest, FindsDamage) {
  Make(entry_);
  WriteTestFile(entry_ + "/model.onnx", "longer than it was");
  EXPECT_EQ(LookAtEntry(entry_), EntryState::kDamaged);
  const absl::Status size = VerifyEntry(entry_);
  EXPECT_EQ(size.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(size.message(), HasSubstr("model.onnx: expected 5 bytes"));
  Make(entry_);
  std::filesystem::remove(entry_ + "/qpc/programqpc.bin");
  EXPECT_EQ(LookAtEntry(entry_), EntryState::kDamaged);
  EXPECT_THAT(VerifyEntry(entry_).message(), HasSubstr("programqpc.bin"));
}

// Same size: only reading it tells. Then it counts as unfinished.
TEST_F(CacheEntryTest, VerifyReadsFilesAndUnmarksADamagedEntry) {
  Make(entry_);
  WriteTestFile(entry_ + "/model.onnx", "grapH");
  EXPECT_EQ(LookAtEntry(entry_), EntryState::kComplete);
  EXPECT_THAT(VerifyEntry(entry_).message(),
              HasSubstr("model.onnx: from byte 0 on: expected checksum"));
  EXPECT_EQ(LookAtEntry(entry_), EntryState::kUnfinished);
}

TEST_F(CacheEntryTest, ABrokenMarkerIsDamage) {
  for (const char* text :
       {"", "{", "[]", "{\"schema\": 2}", "{\"schema\": 1, \"complete\": true}",
        "{\"schema\": 1, \"complete\": true, "
        "\"files\": {\"a\": {\"bytes\": -1}}}"}) {
    Make(entry_);
    WriteTestFile(entry_ + "/qeff_entry.json", text);
    EXPECT_EQ(LookAtEntry(entry_), EntryState::kDamaged) << text;
    EXPECT_FALSE(VerifyEntry(entry_).ok());
    EXPECT_EQ(LookAtEntry(entry_), EntryState::kUnfinished) << text;
  }
}

TEST_F(CacheEntryTest, LeavesOthersFoldersAlone) {
  std::filesystem::create_directories(entry_);
  WriteTestFile(entry_ + "/Llama.onnx", "theirs");
  EXPECT_EQ(LookAtEntry(entry_), EntryState::kForeign);
  EXPECT_EQ(EntryBuilder::Begin(entry_).status().code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_FALSE(RemoveEntry(entry_).ok());
  EXPECT_FALSE(VerifyEntry(entry_).ok());
  EXPECT_THAT(ListTestFolder(entry_), ElementsAre("Llama.onnx"));
}

TEST_F(CacheEntryTest, ListsExportsAndCompilations) {
  EXPECT_THAT(*ListEntries(root_ + "/none"), IsEmpty());
  const absl::Time begin = absl::Now() - absl::Minutes(1);
  Make(entry_);
  Make(entry_ + kCompilation);
  std::filesystem::create_directories(root_ + "/Llama/Llama-short/x");
  ASSERT_TRUE(EntryBuilder::Begin(root_ + "/B/B-0000000000000000").ok());
  const auto entries = ListEntries(root_);
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 3u);
  EXPECT_EQ((*entries)[0].folder, root_ + "/B/B-0000000000000000");
  EXPECT_EQ((*entries)[0].state, EntryState::kUnfinished);
  EXPECT_EQ((*entries)[1].folder, entry_);
  EXPECT_EQ((*entries)[2].folder, entry_ + kCompilation);
  for (size_t i : {1, 2}) {
    EXPECT_EQ((*entries)[i].state, EntryState::kComplete);
    EXPECT_EQ((*entries)[i].bytes, 12u);
    EXPECT_GT((*entries)[i].used, begin);
  }
}

TEST_F(CacheEntryTest, KnowsWhenItWasUsed) {
  Make(entry_);
  std::filesystem::last_write_time(
      entry_ + "/qeff_entry.json",
      std::filesystem::file_time_type::clock::now() - std::chrono::hours(48));
  EXPECT_LT((*ListEntries(root_))[0].used, absl::Now() - absl::Hours(47));
  MarkUsed(entry_);
  EXPECT_GT((*ListEntries(root_))[0].used, absl::Now() - absl::Hours(1));
}

}  // namespace
}  // namespace qeff
