// SPDX-License-Identifier: Apache-2.0
//
// Integer arithmetic on values that come from a file. Every size and offset is
// computed once, in CheckedU64, and compared with the bytes that exist before
// anything is allocated.
//
//   CheckedU64 bytes = CheckedU64(rows) * cols * sizeof(float);
//   if (!bytes.valid() || bytes.value() > file_bytes) return Error(...);

#ifndef QEFF_UTIL_CHECKED_H_
#define QEFF_UTIL_CHECKED_H_

#include <cstdint>
#include <limits>
#include <type_traits>

#include "qeff/util/check.h"

namespace qeff {

// An unsigned 64-bit value that remembers whether any operation on the way to
// it overflowed. Thread-compatible.
class CheckedU64 {
 public:
  CheckedU64() = default;

  // A negative signed value is invalid.
  template <typename T, typename = std::enable_if_t<std::is_integral_v<T>>>
  CheckedU64(T value)  // NOLINT: implicit by design
      : value_(static_cast<uint64_t>(value)), valid_(value >= 0) {}

  bool valid() const { return valid_; }

  // Precondition: valid().
  uint64_t value() const {
    QEFF_DCHECK(valid_);
    return value_;
  }

  friend CheckedU64 operator+(CheckedU64 a, CheckedU64 b) {
    CheckedU64 sum;
    sum.valid_ = !__builtin_add_overflow(a.value_, b.value_, &sum.value_) &&
                 a.valid_ && b.valid_;
    return sum;
  }
  friend CheckedU64 operator-(CheckedU64 a, CheckedU64 b) {
    CheckedU64 difference;
    difference.valid_ =
        !__builtin_sub_overflow(a.value_, b.value_, &difference.value_) &&
        a.valid_ && b.valid_;
    return difference;
  }
  friend CheckedU64 operator*(CheckedU64 a, CheckedU64 b) {
    CheckedU64 product;
    product.valid_ =
        !__builtin_mul_overflow(a.value_, b.value_, &product.value_) &&
        a.valid_ && b.valid_;
    return product;
  }

  // Whether the value is valid and at most `limit`.
  bool AtMost(uint64_t limit) const { return valid_ && value_ <= limit; }

 private:
  uint64_t value_ = 0;
  bool valid_ = true;
};

// Whether `value` can be represented in `To`.
template <typename To, typename From>
constexpr bool FitsIn(From value) {
  static_assert(std::is_integral_v<To> && std::is_integral_v<From>);
  const To converted = static_cast<To>(value);
  return static_cast<From>(converted) == value &&
         ((converted < To{}) == (value < From{}));
}

// Converts between integer types. Precondition (checked): the value fits.
template <typename To, typename From>
To IntCast(From value) {
  QEFF_CHECK((FitsIn<To, From>(value)));
  return static_cast<To>(value);
}

// ceil(numerator / denominator) for non-negative integers.
template <typename T>
constexpr T CeilDiv(T numerator, T denominator) {
  return (numerator + denominator - 1) / denominator;
}

// Smallest multiple of `multiple` that is at least `value`.
template <typename T>
constexpr T RoundUp(T value, T multiple) {
  return CeilDiv(value, multiple) * multiple;
}

}  // namespace qeff

#endif  // QEFF_UTIL_CHECKED_H_
