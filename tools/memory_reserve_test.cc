// SPDX-License-Identifier: Apache-2.0

#include "tools/memory_reserve.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <new>

#include "gtest/gtest.h"

namespace qeff {
namespace {

void* Map(size_t bytes) {
  return mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

// Bytes of addresses that this process has.
size_t AddressBytes() {
  size_t pages = 0;
  FILE* const file = std::fopen("/proc/self/statm", "re");
  if (file == nullptr || std::fscanf(file, "%zu", &pages) != 1) _exit(10);
  std::fclose(file);
  return pages * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

// In a process of its own, which has no addresses left.
int ExhaustAddresses() {
  KeepMemoryReserve();
  constexpr size_t kNeeded = size_t{3} << 18;
  const size_t used = AddressBytes();
  const rlimit limit = {used + kNeeded / 2, used + kNeeded / 2};
  if (setrlimit(RLIMIT_AS, &limit) != 0) return 11;
  if (Map(kNeeded) != MAP_FAILED) return 12;
  // Twice: the second finds nothing to give back.
  for (int i = 0; i < 2; ++i) {
    try {
      void* volatile bytes = ::operator new (size_t{1} << 30);
      ::operator delete(bytes);
      return 13;
    } catch (const std::bad_alloc&) {
    }
  }
  return Map(kNeeded) != MAP_FAILED ? 0 : 14;
}

TEST(KeepMemoryReserveTest, GivesTheReserveBackBeforeBadAlloc) {
  const pid_t child = fork();
  if (child == 0) _exit(ExhaustAddresses());
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace qeff
