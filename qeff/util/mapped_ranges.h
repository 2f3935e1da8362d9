// SPDX-License-Identifier: Apache-2.0
//
// Which addresses belong to which mapped file: the table that MappedFile fills
// and the SIGBUS guard reads. It is the one mutable global of the library,
// because a signal handler can reach nothing else.

#ifndef QEFF_UTIL_MAPPED_RANGES_H_
#define QEFF_UTIL_MAPPED_RANGES_H_

#include <cstddef>
#include <cstdint>

namespace qeff {
namespace internal_mapped_ranges {

// Longest part of a path that is kept: its end.
inline constexpr size_t kMaxPathBytes = 512;

// Enters [begin, begin + size_bytes) as the file `path`. Returns its slot, or
// -1 when all are taken: then the guard cannot name the file, nothing else.
// Thread-safe, lock-free.
int Register(const void* begin, size_t size_bytes, const char* path);

// Frees a slot from Register; -1 is ignored. Thread-safe, lock-free.
void Unregister(int slot);

// The path of the file that holds `address`, or null. Async-signal-safe; the
// text may be another file's when slots change at this very moment.
const char* FindPath(const void* address);

}  // namespace internal_mapped_ranges
}  // namespace qeff

#endif  // QEFF_UTIL_MAPPED_RANGES_H_
