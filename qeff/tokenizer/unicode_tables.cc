// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/unicode_tables.h"

#include <algorithm>

namespace qeff {
namespace {

constexpr size_t kBlocks = 0x110000 / 256;

bool Valid(const UnicodeMapping& mapping) {
  if (mapping.keys.size() != mapping.ends.size()) return false;
  if (!std::is_sorted(mapping.keys.begin(), mapping.keys.end()) ||
      !std::is_sorted(mapping.ends.begin(), mapping.ends.end())) {
    return false;
  }
  const auto beyond_unicode = [](uint32_t c) { return c > 0x10FFFF; };
  return (mapping.ends.empty() ||
          mapping.ends.back() <= mapping.values.size()) &&
         std::none_of(mapping.values.begin(), mapping.values.end(),
                      beyond_unicode);
}

}  // namespace

absl::Span<const uint32_t> UnicodeMapping::Find(uint32_t code_point) const {
  const auto it = std::lower_bound(keys.begin(), keys.end(), code_point);
  if (it == keys.end() || *it != code_point) return {};
  const size_t i = it - keys.begin();
  const uint32_t begin = i == 0 ? 0 : ends[i - 1];
  return absl::MakeConstSpan(values.data() + begin, ends[i] - begin);
}

bool UnicodeTables::Valid() const {
  if (block_of.size() != kBlocks || properties.size() % 256 != 0) return false;
  const size_t blocks = properties.size() / 256;
  for (const uint16_t block : block_of) {
    if (block >= blocks) return false;
  }
  return combining.size() == combining_classes.size() &&
         std::is_sorted(combining.begin(), combining.end()) &&
         qeff::Valid(canonical) && qeff::Valid(compatibility) &&
         qeff::Valid(lowercase) && pairs.size() == composed.size() &&
         std::is_sorted(pairs.begin(), pairs.end());
}

uint8_t UnicodeTables::CombiningClass(uint32_t code_point) const {
  const auto it =
      std::lower_bound(combining.begin(), combining.end(), code_point);
  if (it == combining.end() || *it != code_point) return 0;
  return combining_classes[it - combining.begin()];
}

uint32_t UnicodeTables::Compose(uint32_t first, uint32_t second) const {
  const uint64_t pair = static_cast<uint64_t>(first) << 32 | second;
  const auto it = std::lower_bound(pairs.begin(), pairs.end(), pair);
  if (it == pairs.end() || *it != pair) return 0;
  return composed[it - pairs.begin()];
}

}  // namespace qeff
