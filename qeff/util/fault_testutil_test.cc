// SPDX-License-Identifier: Apache-2.0
//
// Faults at every call of atomic files and folders, and that faults are what
// they are said to be.

#include "qeff/util/fault_testutil.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/util/atomic_file.h"
#include "qeff/util/atomic_folder.h"

namespace qeff {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class FaultTest : public ::testing::Test {
 protected:
  FaultTest() : folder_(::testing::TempDir() + "/faults_XXXXXX") {
    EXPECT_NE(mkdtemp(&folder_[0]), nullptr);
  }
  ~FaultTest() override { CountFileCalls(); }

  std::string Content() const {
    std::ifstream file(Path());
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  int Entries() const {
    return static_cast<int>(std::distance(fs::directory_iterator(folder_), {}));
  }
  std::string Path() const { return folder_ + "/f"; }
  absl::Status WriteFile(const std::string& content) const {
    return WriteFileAtomically(Path(), content);
  }
  absl::Status WriteFolder() const {
    auto folder = AtomicFolder::Create(folder_ + "/d");
    if (!folder.ok()) return folder.status();
    const auto file = (*folder)->AddFile("a");
    if (!file.ok()) return file.status();
    const absl::Status status = (*file)->Write(0, AsBytes("content"));
    return status.ok() ? (*folder)->Commit() : status;
  }

  std::string folder_;
};

TEST_F(FaultTest, EveryErrorOfAFileKeepsTheOldOne) {
  ASSERT_TRUE(WriteFile("old").ok());
  CountFileCalls();
  ASSERT_TRUE(WriteFile("old").ok());
  const int count = FileCalls();
  EXPECT_EQ(count, 5);  // create, write, sync, rename, sync the folder
  for (int n = 1; n <= count; ++n) {
    FailFileCall(n, EIO);
    const absl::Status status = WriteFile("new");
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(status.message(), HasSubstr(folder_));
    EXPECT_THAT(status.message(), HasSubstr("Input/output error"));
    EXPECT_EQ(Content(), n < count ? "old" : "new") << n;
    EXPECT_EQ(Entries(), 1) << n;
  }
}

TEST_F(FaultTest, AFullDiskKeepsTheOldFile) {
  ASSERT_TRUE(WriteFile("old").ok());
  for (int n = 1; n <= 3; ++n) {
    FailFileCallsFrom(n, ENOSPC);
    EXPECT_THAT(WriteFile("new").message(),
                HasSubstr("No space left on device"));
    EXPECT_EQ(Content(), "old");
    EXPECT_EQ(Entries(), 1);
  }
}

TEST_F(FaultTest, EveryErrorOfAFolderLeavesNothing) {
  for (int n = 1;; ++n) {
    ASSERT_LT(n, 20);
    FailFileCall(n, EIO);
    const absl::Status status = WriteFolder();
    if (status.ok()) break;
    EXPECT_THAT(status.message(), HasSubstr(folder_));
    EXPECT_EQ(Entries(), 0) << n << ": " << status;
  }
}

TEST_F(FaultTest, AKilledProcessLeavesTheOldFileOrTheNewOne) {
  ASSERT_TRUE(WriteFile("old").ok());
  int killed = 0;
  for (int n = 1; n < 8; ++n) {
    const pid_t child = fork();
    if (child == 0) {
      KillAtFileCall(n);
      _exit(WriteFile("new").ok() ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    killed += WIFSIGNALED(status) ? 1 : 0;
    EXPECT_THAT(Content(), ::testing::AnyOf("old", "new"));
  }
  // The leftover of the one before is removed, which is a call as well.
  EXPECT_GE(killed, 5);
  ASSERT_TRUE(WriteFile("new").ok());
  EXPECT_EQ(Entries(), 1);
}

TEST_F(FaultTest, SmallDisksAreFullAndCanBeReadOnly) {
  const pid_t child = fork();
  if (child == 0) {
    if (!MountSmallDisk(folder_, 1 << 16)) _exit(77);
    const absl::Status full = WriteFile(std::string(1 << 17, 'x'));
    if (!absl::StrContains(full.message(), "No space left on device")) _exit(1);
    if (Entries() != 0 || !WriteFile("small").ok()) _exit(2);
    if (!MakeReadOnly(folder_)) _exit(3);
    const absl::Status refused = WriteFile("new");
    if (!absl::StrContains(refused.message(), "Read-only file")) _exit(4);
    _exit(Content() == "small" ? 0 : 5);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
    GTEST_SKIP() << "no mounts of users' own here";
  }
  EXPECT_EQ(status, 0);
  EXPECT_EQ(Entries(), 0);  // for this process nothing was mounted
}

}  // namespace
}  // namespace qeff
