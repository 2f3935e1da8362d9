// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/sigbus_guard.h"

#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>

#include "gtest/gtest.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/mapped_ranges.h"

namespace qeff {
namespace {

using internal_mapped_ranges::FindPath;
using internal_mapped_ranges::Register;
using internal_mapped_ranges::Unregister;

TEST(MappedRangesTest, FindsWhatIsRegistered) {
  char bytes[8];
  const std::string long_path(2000, 'p');
  const int a = Register(bytes, 4, "first");
  const int b = Register(bytes + 4, 4, long_path.c_str());
  EXPECT_STREQ(FindPath(bytes + 3), "first");
  EXPECT_EQ(FindPath(bytes + 4), std::string(511, 'p'));
  Unregister(b);
  EXPECT_EQ(FindPath(bytes + 4), nullptr);
  Unregister(a);
  Unregister(-1);
}

TEST(MappedRangesTest, RunsOutOfSlotsQuietly) {
  char byte;
  std::vector<int> slots;
  for (int i = 0; i < 1000; ++i) slots.push_back(Register(&byte, 1, "many"));
  EXPECT_EQ(slots.back(), -1);
  for (int slot : slots) Unregister(slot);
  EXPECT_EQ(FindPath(&byte), nullptr);
}

// Maps a file, cuts it, and reads behind its end.
void ReadTruncatedFile() {
  const std::string path = testing::TempDir() + "/qeff_sigbus_guard_test";
  std::ofstream(path) << std::string(20000, 'x');
  InstallSigbusGuard();
  const auto file = MappedFile::Open(path);
  if (!file.ok() || truncate(path.c_str(), 100) != 0) std::exit(1);
  const volatile uint8_t* bytes = (*file)->bytes().data();
  std::exit(bytes[16384]);
}

TEST(SigbusGuardDeathTest, NamesTheFileThatShrank) {
  EXPECT_EXIT(ReadTruncatedFile(), testing::ExitedWithCode(4),
              "qeff_sigbus_guard_test: file changed while reading");
}

TEST(SigbusGuardDeathTest, LeavesOtherCausesAlone) {
  EXPECT_EXIT(
      {
        InstallSigbusGuard();
        std::raise(SIGBUS);
        std::raise(SIGBUS);
        std::exit(0);
      },
      testing::KilledBySignal(SIGBUS), "");
}

}  // namespace
}  // namespace qeff
