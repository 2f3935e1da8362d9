// SPDX-License-Identifier: Apache-2.0
//
// Heap arrays that begin at a cache line, for anything that kernels touch.

#ifndef QEFF_UTIL_ALIGNED_H_
#define QEFF_UTIL_ALIGNED_H_

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

#include "absl/types/span.h"

namespace qeff {

inline constexpr size_t kAlignment = 64;

// `bytes` > 0 zeros at a multiple of kAlignment. From kHugePage bytes on they
// come from the system directly, in huge pages where it has any, and go back
// to it: zeroed once, with few page faults, and memory that is not needed any
// more never stays. Throws std::bad_alloc.
void* AllocateZeroed(size_t bytes);
void FreeZeroed(void* data, size_t bytes);
inline constexpr size_t kHugePage = size_t{2} << 20;

// Of zeros at first. Throws std::bad_alloc.
template <typename T>
class AlignedArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  AlignedArray() = default;
  explicit AlignedArray(size_t size) : size_(size) {
    if (size == 0) return;
    if (size > static_cast<size_t>(-1) / sizeof(T)) throw std::bad_alloc();
    data_ = static_cast<T*>(AllocateZeroed(size * sizeof(T)));
  }
  AlignedArray(AlignedArray&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  AlignedArray& operator=(AlignedArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~AlignedArray() {
    if (data_ != nullptr) FreeZeroed(data_, size_ * sizeof(T));
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }

  absl::Span<T> span() { return absl::Span<T>(data_, size_); }
  absl::Span<const T> span() const { return absl::Span<const T>(data_, size_); }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace qeff

#endif  // QEFF_UTIL_ALIGNED_H_
