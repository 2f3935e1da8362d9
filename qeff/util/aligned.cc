// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/aligned.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>

namespace qeff {
namespace {

// Sanitizers look after what operator new gives.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kMapLarge = false;
#else
constexpr bool kMapLarge = true;
#endif

bool IsMapped(size_t bytes) { return kMapLarge && bytes >= kHugePage; }

}  // namespace

void* AllocateZeroed(size_t bytes) {
  if (!IsMapped(bytes)) {
    void* data = ::operator new(bytes, std::align_val_t(kAlignment));
    std::memset(data, 0, bytes);
    return data;
  }
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) throw std::bad_alloc();
  // A wish; without it pages are small.
  (void)madvise(data, bytes, MADV_HUGEPAGE);
  return data;
}

void FreeZeroed(void* data, size_t bytes) {
  if (IsMapped(bytes)) {
    (void)munmap(data, bytes);
  } else {
    ::operator delete(data, std::align_val_t(kAlignment));
  }
}

}  // namespace qeff
