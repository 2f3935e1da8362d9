// SPDX-License-Identifier: Apache-2.0

#include "tools/memory_reserve.h"

#include <sys/mman.h>

#include <atomic>
#include <cstddef>
#include <new>

namespace qeff {
namespace {

constexpr size_t kReserveBytes = size_t{1} << 20;

// A handler has no parameters to find it by.
std::atomic<void*> reserve{nullptr};

void ReleaseAndThrow() {
  void* const bytes = reserve.exchange(nullptr);
  if (bytes != nullptr) (void)munmap(bytes, kReserveBytes);
  throw std::bad_alloc();
}

}  // namespace

void KeepMemoryReserve() {
  // Not malloc's, which might keep for itself what is freed.
  void* const bytes = mmap(nullptr, kReserveBytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (bytes != MAP_FAILED) reserve = bytes;
  std::set_new_handler(&ReleaseAndThrow);
}

}  // namespace qeff
