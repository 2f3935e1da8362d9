// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/remove_tree.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
namespace fs = std::filesystem;

class RemoveTreeTest : public ::testing::Test {
 protected:
  RemoveTreeTest() {
    std::string pattern = ::testing::TempDir() + "/remove.XXXXXX";
    folder_ = mkdtemp(pattern.data());
  }
  ~RemoveTreeTest() override { fs::remove_all(folder_); }

  std::string Path(const std::string& name) const {
    return folder_ + "/" + name;
  }
  void Write(const std::string& name) const { std::ofstream(Path(name)) << 1; }
  std::vector<std::string> List() const {
    std::vector<std::string> names;
    const int fd = open(folder_.c_str(), O_RDONLY | O_DIRECTORY);
    ForEachEntry(fd, [&](const char* name) { names.emplace_back(name); });
    close(fd);
    std::sort(names.begin(), names.end());
    return names;
  }

  std::string folder_;
};

TEST_F(RemoveTreeTest, RemovesFilesFoldersAndLinksButNotTheirTargets) {
  Write("kept");
  fs::create_directories(Path("a/b/c"));
  Write("a/b/.hidden");
  fs::create_symlink("../kept", Path("a/link"));
  fs::create_directory(Path("other"));
  Write("other/file");
  fs::create_directory_symlink("../other", Path("a/folder_link"));
  RemoveTree(AT_FDCWD, Path("a").c_str());
  EXPECT_THAT(List(), ElementsAre("kept", "other"));
  EXPECT_TRUE(fs::exists(Path("other/file")));
  RemoveTree(AT_FDCWD, Path("kept").c_str());
  RemoveTree(AT_FDCWD, Path("not there").c_str());
  EXPECT_THAT(List(), ElementsAre("other"));
}

// Many times what is read of a folder at a time, while they are removed.
TEST_F(RemoveTreeTest, RemovesAllOfManyEntries) {
  fs::create_directory(Path("many"));
  for (int i = 0; i < 3000; ++i) {
    Write("many/a_file_with_a_name_" + std::to_string(i));
  }
  RemoveTree(AT_FDCWD, Path("many").c_str());
  EXPECT_THAT(List(), IsEmpty());
}

TEST_F(RemoveTreeTest, KeepsEntriesThatAreNamed) {
  for (const char* name : {"a", "b", "c"}) Write(name);
  fs::create_directory(Path("d"));
  const int fd = open(folder_.c_str(), O_RDONLY | O_DIRECTORY);
  RemoveEntries(fd, {"b", "e"});
  close(fd);
  EXPECT_THAT(List(), ElementsAre("b"));
}

}  // namespace
}  // namespace qeff
