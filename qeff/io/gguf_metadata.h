// SPDX-License-Identifier: Apache-2.0
//
// Metadata of a GGUF file: keys with typed values. Reading is in
// gguf_header.h, writing in gguf_writer.h.

#ifndef QEFF_IO_GGUF_METADATA_H_
#define QEFF_IO_GGUF_METADATA_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"

namespace qeff {

// An array of strings in one block: a vocabulary takes as much memory as in
// the file. Thread-compatible.
class GgufStrings {
 public:
  size_t size() const { return ends_.size(); }
  absl::string_view operator[](size_t i) const {
    const size_t begin = i == 0 ? 0 : ends_[i - 1];
    return absl::string_view(bytes_.data() + begin, ends_[i] - begin);
  }
  void reserve(size_t count, size_t total_bytes) {
    ends_.reserve(count);
    bytes_.reserve(total_bytes);
  }
  void push_back(absl::string_view text) {
    bytes_.append(text.data(), text.size());
    ends_.push_back(bytes_.size());
  }

 private:
  std::string bytes_;
  std::vector<size_t> ends_;  // one past the last byte of each string
};

// Values and arrays. The index of an alternative is the type's number in
// files: 0 u8, 1 i8, 2 u16, 3 i16, 4 u32, 5 i32, 6 f32, 7 bool, 8 string,
// 9 array (of anything but arrays), 10 u64, 11 i64, 12 f64.
using GgufArray = std::variant<
    std::vector<uint8_t>, std::vector<int8_t>, std::vector<uint16_t>,
    std::vector<int16_t>, std::vector<uint32_t>, std::vector<int32_t>,
    std::vector<float>, std::vector<bool>, GgufStrings, std::monostate,
    std::vector<uint64_t>, std::vector<int64_t>, std::vector<double>>;
using GgufValue =
    std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float,
                 bool, std::string, GgufArray, uint64_t, int64_t, double>;

// In the order of the file.
using GgufMetadata = std::vector<std::pair<std::string, GgufValue>>;

// The value of `key` when there is one and it is of type T, else null. Cost:
// linear in the number of keys.
template <typename T>
const T* FindGgufValue(const GgufMetadata& metadata, absl::string_view key) {
  for (const auto& entry : metadata) {
    if (entry.first == key) return std::get_if<T>(&entry.second);
  }
  return nullptr;
}

// The same for an array of T, which may be GgufStrings.
template <typename Array>
const Array* FindGgufArray(const GgufMetadata& metadata,
                           absl::string_view key) {
  const auto* array = FindGgufValue<GgufArray>(metadata, key);
  return array == nullptr ? nullptr : std::get_if<Array>(array);
}

}  // namespace qeff

#endif  // QEFF_IO_GGUF_METADATA_H_
