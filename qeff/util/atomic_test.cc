// SPDX-License-Identifier: Apache-2.0
//
// Atomic files and folders: what is left after success, failure and death.

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/util/atomic_file.h"
#include "qeff/util/atomic_folder.h"
#include "qeff/util/output_file.h"
#include "qeff/util/scratch_folder.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

constexpr absl::StatusCode kUnavailable = absl::StatusCode::kUnavailable;

std::string Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

void Write(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

class AtomicTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/qeff_atomic_XXXXXX";
    ASSERT_NE(mkdtemp(&folder_[0]), nullptr);
  }
  std::string Path(const std::string& name) { return folder_ + "/" + name; }
  std::vector<std::string> List() {
    std::vector<std::string> names;
    DIR* stream = opendir(folder_.c_str());
    while (const dirent* entry = readdir(stream)) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
    }
    closedir(stream);
    std::sort(names.begin(), names.end());
    return names;
  }

  // Runs `begin` in a child that then waits; returns the child's id once
  // `begin` has returned.
  template <typename Begin>
  pid_t StartChild(Begin begin) {
    int ready[2];
    EXPECT_EQ(pipe(ready), 0);
    const pid_t child = fork();
    if (child == 0) {
      const auto held = begin();
      if (write(ready[1], held.ok() ? "y" : "n", 1) != 1) _exit(1);
      while (true) pause();
    }
    char answer = 0;
    EXPECT_EQ(read(ready[0], &answer, 1), 1);
    EXPECT_EQ(answer, 'y');
    close(ready[0]);
    close(ready[1]);
    return child;
  }
  void Kill(pid_t child) {
    kill(child, SIGKILL);
    int status;
    waitpid(child, &status, 0);
  }

  std::string folder_;
};

TEST_F(AtomicTest, WritesAndReplacesFiles) {
  ASSERT_TRUE(WriteFileAtomically(Path("f"), "one").ok());
  EXPECT_EQ(Read(Path("f")), "one");
  ASSERT_TRUE(WriteFileAtomically(Path("f"), "").ok());
  EXPECT_EQ(Read(Path("f")), "");
  EXPECT_THAT(List(), ElementsAre("f"));
  struct stat info;
  ASSERT_EQ(stat(Path("f").c_str(), &info), 0);
  const mode_t mask = umask(0);
  umask(mask);
  EXPECT_EQ(info.st_mode & 0777, 0666 & ~mask);
}

TEST_F(AtomicTest, ReplacesALinkAndNotItsTarget) {
  Write(Path("victim"), "precious");
  ASSERT_EQ(symlink("victim", Path("f").c_str()), 0);
  ASSERT_TRUE(WriteFileAtomically(Path("f"), "new").ok());
  EXPECT_EQ(Read(Path("victim")), "precious");
  struct stat info;
  ASSERT_EQ(lstat(Path("f").c_str(), &info), 0);
  EXPECT_TRUE(S_ISREG(info.st_mode));
}

TEST_F(AtomicTest, FileErrorsNameThePathAndLeaveNothing) {
  Write(Path("file"), "x");
  ASSERT_EQ(mkdir(Path("taken").c_str(), 0700), 0);
  for (const std::string& path :
       {Path("absent/f"), Path("file/f"), std::string("/proc/f")}) {
    const absl::Status status = WriteFileAtomically(path, "x");
    EXPECT_EQ(status.code(), kUnavailable) << status;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr(path.substr(0, path.rfind('/') + 1)));
  }
  for (const char* path : {"", "/", ".", "..", "x/.."}) {
    EXPECT_EQ(WriteFileAtomically(path, "x").code(),
              absl::StatusCode::kInvalidArgument)
        << path;
  }
  EXPECT_THAT(List(), ElementsAre("file", "taken"));
}

// Renaming over /dev/null would break the machine, not only this run.
TEST_F(AtomicTest, OnlyFilesAreReplaced) {
  ASSERT_EQ(mkdir(Path("taken").c_str(), 0700), 0);
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  for (const auto& [name, kind] :
       std::vector<std::pair<std::string, std::string>>{
           {"taken", "a directory"}, {"pipe", "a special file"}}) {
    const absl::Status status = WriteFileAtomically(Path(name), "x");
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_EQ(status.message(),
              Path(name) +
                  ": expected a file to replace or a new path, found " + kind);
  }
  EXPECT_THAT(List(), ElementsAre("pipe", "taken"));
}

TEST_F(AtomicTest, ErrorsNameTheFinalPath) {
  auto file = AtomicFile::Create(Path("f"));
  ASSERT_TRUE(file.ok()) << file.status();
  const absl::Status status = (*file)->Write(uint64_t{1} << 63, AsBytes("x"));
  EXPECT_THAT(std::string(status.message()), StartsWith(Path("f") + ": "));
}

TEST_F(AtomicTest, UncommittedFileDisappears) {
  {
    auto file = AtomicFile::Create(Path("f"));
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_TRUE((*file)->Write(3, AsBytes("def")).ok());
    EXPECT_THAT(List(), ElementsAre(StartsWith(".f.tmp.")));
  }
  EXPECT_THAT(List(), IsEmpty());
}

TEST_F(AtomicTest, FileIsWrittenInPartsAndAnyOrder) {
  auto file = AtomicFile::Create(Path("f"));
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE((*file)->Resize(8).ok());
  ASSERT_TRUE((*file)->Write(3, AsBytes("def")).ok());
  ASSERT_TRUE((*file)->Write(0, AsBytes("abc")).ok());
  ASSERT_TRUE((*file)->Commit().ok());
  EXPECT_EQ(Read(Path("f")), std::string("abcdef\0\0", 8));
}

TEST_F(AtomicTest, ReadersNeverSeeHalfAFile) {
  const std::string versions[] = {std::string(100000, 'a'),
                                  std::string(50000, 'b')};
  ASSERT_TRUE(WriteFileAtomically(Path("f"), versions[0]).ok());
  std::atomic<bool> done{false};
  std::vector<std::thread> readers;
  for (int t = 0; t < 2; ++t) {
    readers.emplace_back([&] {
      while (!done) {
        const std::string content = Read(Path("f"));
        EXPECT_TRUE(content == versions[0] || content == versions[1]);
      }
    });
  }
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(WriteFileAtomically(Path("f"), versions[i % 2]).ok());
  }
  done = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_THAT(List(), ElementsAre("f"));
}

TEST_F(AtomicTest, WritersOfOneFileAtOnceAllSucceed) {
  std::vector<std::thread> writers;
  for (int t = 0; t < 4; ++t) {
    writers.emplace_back([&, t] {
      for (int i = 0; i < 10; ++i) {
        const absl::Status status =
            WriteFileAtomically(Path("f"), absl::StrCat("from ", t));
        EXPECT_TRUE(status.ok()) << status;
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  EXPECT_THAT(Read(Path("f")), StartsWith("from "));
  EXPECT_THAT(List(), ElementsAre("f"));
}

TEST_F(AtomicTest, LeftoversOfKilledRunsAreRemoved) {
  Kill(StartChild([&] { return AtomicFile::Create(Path("f")); }));
  Kill(StartChild([&] {
    auto folder = AtomicFolder::Create(Path("d"));
    if (folder.ok()) (void)(*folder)->AddFile("part");
    return folder;
  }));
  // Alike, but not ours.
  Write(Path(".f.tmp.12"), "");
  Write(Path(".f.tmp.12.xyz"), "");
  Write(Path(".ff.tmp.12.0123456789abcdef"), "");
  EXPECT_THAT(List(), SizeIs(5));
  ASSERT_TRUE(WriteFileAtomically(Path("f"), "x").ok());
  EXPECT_THAT(List(), SizeIs(5));  // the leftover is gone, f is there
  ASSERT_TRUE((*AtomicFolder::Create(Path("d")))->Commit().ok());
  EXPECT_THAT(List(), ElementsAre(".f.tmp.12", ".f.tmp.12.xyz",
                                  ".ff.tmp.12.0123456789abcdef", "d", "f"));
}

TEST_F(AtomicTest, ALiveProcessIsNamedAndLeftAlone) {
  const pid_t child =
      StartChild([&] { return AtomicFolder::Create(Path("d")); });
  const absl::Status status = AtomicFolder::Create(Path("d")).status();
  EXPECT_EQ(status.code(), kUnavailable) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(absl::StrCat("process ", child, " is writing")));
  EXPECT_EQ(AtomicFile::Create(Path("d")).status().code(), kUnavailable);
  EXPECT_TRUE(AtomicFolder::Create(Path("other")).ok());
  EXPECT_THAT(List(), SizeIs(1));
  Kill(child);
  EXPECT_TRUE(AtomicFolder::Create(Path("d")).ok());
  EXPECT_THAT(List(), IsEmpty());
}

TEST_F(AtomicTest, FolderAppearsComplete) {
  auto folder = AtomicFolder::Create(Path("d/"));
  ASSERT_TRUE(folder.ok()) << folder.status();
  const auto file = (*folder)->AddFile("a");
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE((*file)->Write(0, AsBytes("content")).ok());
  EXPECT_EQ((*folder)->AddFile("a").status().code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ((*folder)->AddFile("../a").status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(List(), ElementsAre(StartsWith(".d.tmp.")));
  ASSERT_TRUE((*folder)->Commit().ok());
  EXPECT_THAT(List(), ElementsAre("d"));
  EXPECT_EQ(Read(Path("d/a")), "content");
}

TEST_F(AtomicTest, FolderRefusesWhatExists) {
  ASSERT_EQ(mkdir(Path("empty").c_str(), 0700), 0);
  Write(Path("file"), "x");
  ASSERT_EQ(symlink("nowhere", Path("dangling").c_str()), 0);
  for (const char* name : {"empty", "file", "dangling", "empty/"}) {
    const absl::Status status = AtomicFolder::Create(Path(name)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(Path(name)));
  }
  EXPECT_THAT(List(), ElementsAre("dangling", "empty", "file"));
}

TEST_F(AtomicTest, FolderThatAppearsMeanwhileIsKept) {
  for (const char* kind : {"folder", "file"}) {
    const std::string path = Path(kind);
    auto folder = AtomicFolder::Create(path);
    ASSERT_TRUE((*folder)->AddFile("a").ok());
    if (absl::string_view(kind) == "file") {
      Write(path, "mine");
    } else {
      ASSERT_EQ(mkdir(path.c_str(), 0700), 0);
    }
    const absl::Status status = (*folder)->Commit();
    EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists) << status;
  }
  EXPECT_THAT(List(), ElementsAre("file", "folder"));
  EXPECT_EQ(Read(Path("file")), "mine");
}

TEST_F(AtomicTest, FolderErrorsComeBeforeAnyWork) {
  Write(Path("file"), "x");
  for (const std::string& path :
       {Path("absent/d"), Path("file/d"), std::string("/proc/d")}) {
    const absl::Status status = AtomicFolder::Create(path).status();
    EXPECT_EQ(status.code(), kUnavailable) << status;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr(path.substr(0, path.rfind('/') + 1)));
  }
  EXPECT_EQ(AtomicFolder::Create("..").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(AtomicTest, ScratchReplacesAKilledRunsAndIsRemoved) {
  ASSERT_EQ(mkdir(Path("scratch").c_str(), 0777), 0);
  Write(Path("scratch/old"), "of a killed run");
  std::shared_ptr<ScratchFolder> folder =
      ScratchFolder::Create(Path("scratch")).value();
  OutputFile* file = folder->AddFile("new").value();
  ASSERT_TRUE(file->Write(0, AsBytes("content")).ok());
  EXPECT_EQ(folder->AddFile("new").status().code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(folder->AddFile("../x").status().code(),
            absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(folder->Commit().ok());
  EXPECT_EQ(Read(folder->path() + "/new"), "content");
  EXPECT_EQ(Read(folder->path() + "/old"), "");
  folder.reset();
  EXPECT_THAT(List(), IsEmpty());
  EXPECT_EQ(ScratchFolder::Create(Path("none/scratch")).status().code(),
            kUnavailable);
}

TEST_F(AtomicTest, FullDeviceIsAnError) {
  const int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
  if (fd < 0) GTEST_SKIP() << "no /dev/full";
  OutputFile file((FileDescriptor(fd)), "/dev/full");
  const absl::Status status = file.Write(0, AsBytes("x"));
  EXPECT_EQ(status.code(), kUnavailable);
  EXPECT_EQ(status.message(),
            "/dev/full: write failed: No space left on device");
}

TEST_F(AtomicTest, FreeSpaceIsChecked) {
  EXPECT_TRUE(CheckFreeSpace(folder_, 1).ok());
  const absl::Status status = CheckFreeSpace(folder_, uint64_t{1} << 62);
  EXPECT_EQ(status.code(), kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("needs 4611686018427387904 bytes, free are "));
}

// In a process of its own: a limit cannot be raised again.
void WriteBeyondLimit(const std::string& path) {
  const rlimit limit = {1000, 1000};
  if (setrlimit(RLIMIT_FSIZE, &limit) != 0) std::exit(1);
  if (!WriteFileAtomically(path, std::string(1000, 'n')).ok()) std::exit(2);
  const absl::Status status = WriteFileAtomically(path, std::string(1001, 'x'));
  std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  std::exit(status.code() == kUnavailable ? 0 : 3);
}

TEST_F(AtomicTest, FileSizeLimitRaisesNoSignalAndKeepsTheOldFile) {
  EXPECT_EXIT(WriteBeyondLimit(Path("f")), testing::ExitedWithCode(0),
              "needs 1001 bytes, but the limit on file sizes .* is 1000");
  EXPECT_EQ(Read(Path("f")), std::string(1000, 'n'));
  EXPECT_THAT(List(), ElementsAre("f"));
}

TEST(PlainFileNameTest, IsOneEntryOfAFolder) {
  for (const char* name : {"a", ".a", "...", "a b", "model.safetensors"}) {
    EXPECT_TRUE(IsPlainFileName(name)) << name;
  }
  for (const char* name : {"", ".", "..", "/", "a/b", "a\\b", "a\n", "\x7F"}) {
    EXPECT_FALSE(IsPlainFileName(name)) << name;
  }
  EXPECT_FALSE(IsPlainFileName(absl::string_view("a\0b", 3)));
}

}  // namespace
}  // namespace qeff
