// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/cache_entry.h"

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <functional>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/util/fault_testutil.h"

namespace qeff {
namespace {

namespace fs = std::filesystem;
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
  fs::create_directory(folder + "/qpc");
  WriteTestFile(folder + "/qpc/programqpc.bin", "program");
  ASSERT_TRUE((*builder)->Commit().ok());
}

// As a write some time later.
void Change(const std::string& path, const std::string& content) {
  const auto time = fs::last_write_time(path);
  WriteTestFile(path, content);
  fs::last_write_time(path, time + std::chrono::seconds(5));
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

// What can happen to a file, and to the folder.
TEST_F(CacheEntryTest, FindsDamage) {
  struct Damage {
    const char* what;
    std::function<void()> make;
    const char* message;
  };
  const std::string graph = entry_ + "/model.onnx";
  const std::string program = entry_ + "/qpc/programqpc.bin";
  const Damage damages[] = {
      {"longer", [&] { WriteTestFile(graph, "longer than it was"); },
       "model.onnx: expected 5 bytes, found 18"},
      {"cut off", [&] { fs::resize_file(program, 3); },
       "qpc/programqpc.bin: expected 7 bytes, found 3"},
      {"empty", [&] { WriteTestFile(graph, ""); },
       "model.onnx: expected 5 bytes, found 0"},
      {"changed", [&] { Change(graph, "grapH"); },
       "model.onnx: from byte 0 on: expected checksum"},
      {"missing", [&] { fs::remove(program); },
       "qpc/programqpc.bin: No such file"},
      {"a folder",
       [&] {
         fs::remove(graph);
         fs::create_directory(graph);
       },
       "model.onnx: Is a directory"},
      {"a dangling link",
       [&] {
         fs::remove(graph);
         fs::create_symlink("nowhere", graph);
       },
       "model.onnx: No such file"},
      {"a folder is gone", [&] { fs::remove_all(entry_ + "/qpc"); },
       "qpc/programqpc.bin: No such file"},
      {"a folder is a file",
       [&] {
         fs::remove_all(entry_ + "/qpc");
         WriteTestFile(entry_ + "/qpc", "x");
       },
       "/qpc"},
      {"one too much", [&] { WriteTestFile(entry_ + "/other.data", "x"); },
       "other.data: expected no file of this name"},
      {"one too much in a folder",
       [&] { WriteTestFile(entry_ + "/qpc/more.bin", "x"); },
       "qpc/more.bin: expected no file of this name"},
  };
  for (const Damage& damage : damages) {
    SCOPED_TRACE(damage.what);
    Make(entry_);
    damage.make();
    EXPECT_EQ(LookAtEntry(entry_), EntryState::kDamaged);
    const absl::Status status = VerifyEntry(entry_);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_TRUE(absl::StartsWith(status.message(), entry_)) << status;
    EXPECT_THAT(status.message(), HasSubstr(damage.message));
    EXPECT_EQ(LookAtEntry(entry_), EntryState::kUnfinished);
    Make(entry_);
    EXPECT_TRUE(VerifyEntry(entry_).ok());
    ASSERT_TRUE(RemoveEntry(entry_).ok());
  }
}

// What size and time do not show, reading does. Then it counts as unfinished.
TEST_F(CacheEntryTest, VerifyReadsAllFiles) {
  Make(entry_);
  const auto time = fs::last_write_time(entry_ + "/model.onnx");
  WriteTestFile(entry_ + "/model.onnx", "grapH");
  fs::last_write_time(entry_ + "/model.onnx", time);
  EXPECT_EQ(LookAtEntry(entry_), EntryState::kComplete);
  EXPECT_THAT(VerifyEntry(entry_).message(),
              HasSubstr("model.onnx: from byte 0 on: expected checksum"));
  EXPECT_EQ(LookAtEntry(entry_), EntryState::kUnfinished);
}

// Copies have times of their own.
TEST_F(CacheEntryTest, ACopyIsComplete) {
  Make(entry_);
  Change(entry_ + "/model.onnx", "graph");
  EXPECT_EQ(LookAtEntry(entry_), EntryState::kComplete);
  EXPECT_TRUE(VerifyEntry(entry_).ok());
}

// By its own script, on the machine that made it.
TEST_F(CacheEntryTest, ABundleMayHaveBeenCompiled) {
  {
    auto builder = EntryBuilder::Begin(entry_);
    ASSERT_TRUE(builder.ok()) << builder.status();
    ASSERT_TRUE((*builder)->Write("qaic-compile.sh", "script").ok());
    ASSERT_TRUE((*builder)->Commit().ok());
  }
  fs::create_directory(entry_ + "/qpc");
  WriteTestFile(entry_ + "/qpc/programqpc.bin", "program");
  EXPECT_EQ(LookAtEntry(entry_), EntryState::kComplete);
  EXPECT_TRUE(VerifyEntry(entry_).ok());
  EXPECT_FALSE(EntryHas(entry_, "qpc/programqpc.bin"));
}

// A bit of every byte: what is complete then has the files that it had.
TEST_F(CacheEntryTest, DamagedMarkersNameNoOtherFiles) {
  Make(entry_);
  const std::string path = entry_ + "/qeff_entry.json";
  const std::string marker = ReadTestFile(path);
  int complete = 0;
  for (size_t i = 0; i < marker.size(); ++i) {
    std::string damaged = marker;
    damaged[i] = static_cast<char>(damaged[i] ^ (1 << i % 8));
    WriteTestFile(path, damaged);
    if (LookAtEntry(entry_) != EntryState::kComplete) continue;
    ++complete;  // another time, or a checksum, which tells
    EXPECT_TRUE(EntryHas(entry_, "model.onnx"));
    EXPECT_TRUE(EntryHas(entry_, "qpc/programqpc.bin"));
    const absl::Status status = VerifyEntry(entry_);
    EXPECT_TRUE(status.ok() ||
                absl::StrContains(status.message(), "expected checksum"))
        << status;
  }
  EXPECT_LT(complete, static_cast<int>(marker.size()) / 2);
  for (size_t size = 0; size + 1 < marker.size(); ++size) {
    WriteTestFile(path, marker.substr(0, size));
    EXPECT_EQ(LookAtEntry(entry_), EntryState::kDamaged) << size;
  }
}

// What is left is removed, or made again, by the next one.
TEST_F(CacheEntryTest, ProcessesThatAreKilledLeaveNoForeignFolders) {
  for (const bool remove : {false, true}) {
    SCOPED_TRACE(remove);
    for (int n = 1;; ++n) {
      SCOPED_TRACE(n);
      ASSERT_LT(n, 100);
      if (remove) Make(entry_);
      const pid_t child = fork();
      if (child == 0) {
        KillAtFileCall(n);
        if (remove) {
          (void)RemoveEntry(entry_);
        } else {
          Make(entry_);
        }
        _exit(0);
      }
      int status = 0;
      ASSERT_EQ(waitpid(child, &status, 0), child);
      EXPECT_NE(LookAtEntry(entry_), EntryState::kForeign);
      if (LookAtEntry(entry_) == EntryState::kComplete) {
        EXPECT_TRUE(VerifyEntry(entry_).ok());
      }
      Make(entry_);
      EXPECT_EQ(LookAtEntry(entry_), EntryState::kComplete);
      ASSERT_TRUE(RemoveEntry(entry_).ok());
      EXPECT_FALSE(fs::exists(entry_));
      if (!WIFSIGNALED(status)) break;
    }
  }
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
  fs::create_directories(entry_);
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
  fs::create_directories(root_ + "/Llama/Llama-short/x");
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
  fs::last_write_time(
      entry_ + "/qeff_entry.json",
      fs::file_time_type::clock::now() - std::chrono::hours(48));
  EXPECT_LT((*ListEntries(root_))[0].used, absl::Now() - absl::Hours(47));
  MarkUsed(entry_);
  EXPECT_GT((*ListEntries(root_))[0].used, absl::Now() - absl::Hours(1));
}

}  // namespace
}  // namespace qeff
