// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/partial_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/remove_tree.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

class PartialFolderTest : public ::testing::Test {
 protected:
  PartialFolderTest() {
    std::string pattern = ::testing::TempDir() + "/partial.XXXXXX";
    parent_ = mkdtemp(pattern.data());
    output_ = parent_ + "/model";
  }

  static bool Exists(const std::string& path) {
    struct stat info;
    return lstat(path.c_str(), &info) == 0;
  }
  static std::string Read(const std::string& path) {
    const auto text = ReadFileToString(path, 100);
    return text.ok() ? *text : text.status().ToString();
  }
  absl::StatusCode CodeOf(PartialWork work) const {
    return PartialFolder::Open(output_, work).status().code();
  }

  std::string parent_;
  std::string output_;
};

TEST_F(PartialFolderTest, BecomesTheOutput) {
  auto folder = PartialFolder::Open(output_, PartialWork::kRefuse);
  ASSERT_TRUE(folder.ok()) << folder.status();
  ASSERT_TRUE((*(*folder)->AddFile("a"))->Write(0, AsBytes("text")).ok());
  EXPECT_EQ((*folder)->AddFile("a").status().code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ((*folder)->AddFile("b/c").status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(Exists(output_));
  ASSERT_TRUE((*folder)->Commit().ok());
  EXPECT_EQ(Read(output_ + "/a"), "text");
  EXPECT_FALSE(Exists(output_ + ".partial"));
  EXPECT_EQ(CodeOf(PartialWork::kRefuse), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(CodeOf(PartialWork::kRestart), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(CodeOf(PartialWork::kResume), absl::StatusCode::kAlreadyExists);
}

TEST_F(PartialFolderTest, ResumesWhatWasLeft) {
  {
    auto folder = PartialFolder::Open(output_, PartialWork::kResume);
    ASSERT_TRUE(folder.ok()) << folder.status();
    ASSERT_TRUE((*(*folder)->AddFile("a"))->Write(0, AsBytes("text")).ok());
    ASSERT_TRUE((*(*folder)->AddFile("old"))->Write(0, AsBytes("x")).ok());
    ASSERT_EQ(mkdir(((*folder)->path() + "/own").c_str(), 0777), 0);
  }
  const auto refused = PartialFolder::Open(output_, PartialWork::kRefuse);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(refused.status().message(), HasSubstr("--resume"));
  EXPECT_EQ(PartialFolder::Check(output_, PartialWork::kRefuse),
            refused.status());
  EXPECT_TRUE(PartialFolder::Check(output_, PartialWork::kResume).ok());
  EXPECT_TRUE(PartialFolder::Check(output_, PartialWork::kRestart).ok());
  EXPECT_THAT(refused.status().message(), HasSubstr("--restart"));

  auto folder = PartialFolder::Open(output_, PartialWork::kResume);
  ASSERT_TRUE(folder.ok()) << folder.status();
  EXPECT_FALSE((*folder)->was_complete());
  ASSERT_TRUE((*(*folder)->AddFile("a"))->Write(4, AsBytes("+")).ok());
  ASSERT_TRUE((*folder)->Commit().ok());
  EXPECT_EQ(Read(output_ + "/a"), "text+");
  EXPECT_FALSE(Exists(output_ + "/old"));
  EXPECT_FALSE(Exists(output_ + ".partial"));
}

TEST_F(PartialFolderTest, RestartForgets) {
  {
    auto folder = PartialFolder::Open(output_, PartialWork::kRefuse);
    ASSERT_TRUE((*(*folder)->AddFile("a"))->Write(0, AsBytes("text")).ok());
  }
  auto folder = PartialFolder::Open(output_, PartialWork::kRestart);
  ASSERT_TRUE(folder.ok()) << folder.status();
  ASSERT_TRUE((*(*folder)->AddFile("a"))->Write(0, AsBytes("new")).ok());
  ASSERT_TRUE((*folder)->Commit().ok());
  EXPECT_EQ(Read(output_ + "/a"), "new");
}

// What a process leaves that was killed while it removed the work.
TEST_F(PartialFolderTest, EndedWhileRemoving) {
  for (const PartialWork work : {PartialWork::kResume, PartialWork::kRestart}) {
    {
      auto folder = PartialFolder::Open(output_, PartialWork::kRefuse);
      ASSERT_TRUE((*(*folder)->AddFile("a"))->Write(0, AsBytes("old")).ok());
      for (const char* name : {"/journal", "/states"}) {
        ASSERT_EQ(mkdir(((*folder)->path() + name).c_str(), 0777), 0);
      }
      ASSERT_EQ(rename((*folder)->temporary_path().c_str(),
                       ((*folder)->path() + "/removed").c_str()),
                0);
      ASSERT_EQ(rmdir(((*folder)->path() + "/states").c_str()), 0);
    }
    EXPECT_THAT(
        PartialFolder::Open(output_, PartialWork::kRefuse).status().message(),
        HasSubstr("--restart"));
    auto folder = PartialFolder::Open(output_, work);
    ASSERT_TRUE(folder.ok()) << folder.status();
    EXPECT_FALSE((*folder)->was_complete());
    EXPECT_FALSE(Exists((*folder)->path() + "/journal"));
    EXPECT_FALSE(Exists((*folder)->path() + "/removed"));
    ASSERT_TRUE((*(*folder)->AddFile("b"))->Write(0, AsBytes("new")).ok());
    ASSERT_TRUE((*folder)->Commit().ok());
    EXPECT_FALSE(Exists(output_ + "/a"));
    EXPECT_EQ(Read(output_ + "/b"), "new");
    EXPECT_FALSE(Exists(output_ + ".partial"));
    RemoveTree(AT_FDCWD, output_.c_str());
  }
}

TEST_F(PartialFolderTest, OneProcessAtATime) {
  auto folder = PartialFolder::Open(output_, PartialWork::kRefuse);
  ASSERT_TRUE(folder.ok()) << folder.status();
  // A lock belongs to the open file, not to the process.
  const auto second = PartialFolder::Open(output_, PartialWork::kResume);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(CodeOf(PartialWork::kRestart), absl::StatusCode::kUnavailable);
}

TEST_F(PartialFolderTest, EndedBetweenRenameAndCleaning) {
  ASSERT_EQ(mkdir(output_.c_str(), 0777), 0);
  ASSERT_EQ(mkdir((output_ + ".partial").c_str(), 0777), 0);
  EXPECT_EQ(CodeOf(PartialWork::kRefuse), absl::StatusCode::kAlreadyExists);
  auto folder = PartialFolder::Open(output_, PartialWork::kResume);
  ASSERT_TRUE(folder.ok()) << folder.status();
  EXPECT_TRUE((*folder)->was_complete());
  EXPECT_TRUE(Exists(output_));
  EXPECT_FALSE(Exists(output_ + ".partial"));
}

TEST_F(PartialFolderTest, BothOutputAndUnfinishedWork) {
  { (void)PartialFolder::Open(output_, PartialWork::kRefuse); }
  ASSERT_EQ(mkdir(output_.c_str(), 0777), 0);
  EXPECT_EQ(CodeOf(PartialWork::kResume), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(Exists(output_ + ".partial/output"));
}

TEST_F(PartialFolderTest, Discards) {
  auto folder = PartialFolder::Open(output_, PartialWork::kRefuse);
  ASSERT_TRUE((*folder)->AddFile("a").ok());
  (*folder)->Discard();
  EXPECT_FALSE(Exists(output_ + ".partial"));
}

TEST_F(PartialFolderTest, BadPlaces) {
  EXPECT_EQ(PartialFolder::Open("/", PartialWork::kRefuse).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(PartialFolder::Open(parent_ + "/no/model", PartialWork::kRefuse)
                .status()
                .code(),
            absl::StatusCode::kUnavailable);
  ASSERT_EQ(symlink("/", (output_ + ".partial").c_str()), 0);
  EXPECT_EQ(CodeOf(PartialWork::kResume), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace qeff
