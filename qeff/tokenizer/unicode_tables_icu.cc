// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/unicode_tables_icu.h"

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "unicode/locid.h"
#include "unicode/normalizer2.h"
#include "unicode/uchar.h"
#include "unicode/unistr.h"

namespace qeff {
namespace {

constexpr UChar32 kCodePoints = 0x110000;
constexpr UChar32 kFirstHangulSyllable = 0xAC00;
constexpr UChar32 kLastHangulSyllable = 0xD7A3;

uint16_t PropertiesOf(UChar32 c) {
  const uint32_t category = U_GET_GC_MASK(c);
  uint16_t bits = 0;
  const auto set_if = [&](bool condition, UnicodeProperty property) {
    if (condition) bits |= property;
  };
  set_if(category & U_GC_L_MASK, kUnicodeLetter);
  set_if(category & U_GC_N_MASK, kUnicodeNumber);
  set_if(u_hasBinaryProperty(c, UCHAR_WHITE_SPACE), kUnicodeWhiteSpace);
  set_if(category & U_GC_M_MASK, kUnicodeMark);
  set_if(category & U_GC_MN_MASK, kUnicodeNonspacingMark);
  const bool ascii_symbol = c < 0x80 && (category & U_GC_S_MASK) != 0;
  set_if((category & U_GC_P_MASK) != 0 || ascii_symbol, kUnicodePunctuation);
  set_if(category & (U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CO_MASK | U_GC_CS_MASK),
         kUnicodeControl);
  set_if((category & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0 ||
             u_hasBinaryProperty(c, UCHAR_JOIN_CONTROL) ||
             u_hasBinaryProperty(c, UCHAR_ALPHABETIC),
         kUnicodeWord);
  set_if(u_hasBinaryProperty(c, UCHAR_NFC_INERT), kUnicodeNfcInert);
  set_if(u_hasBinaryProperty(c, UCHAR_NFD_INERT), kUnicodeNfdInert);
  set_if(u_hasBinaryProperty(c, UCHAR_NFKC_INERT), kUnicodeNfkcInert);
  set_if(u_hasBinaryProperty(c, UCHAR_NFKD_INERT), kUnicodeNfkdInert);
  return bits;
}

// Code points [first, end) of one general category.
struct CategoryRange {
  UChar32 first;
  UChar32 end;
  UCharCategory category;

  // Unassigned, private and surrogate code points are all alike: three
  // quarters of all, so that leaving them out makes building three times as
  // fast.
  bool uniform() const {
    return category == U_UNASSIGNED || category == U_PRIVATE_USE_CHAR ||
           category == U_SURROGATE;
  }
};

std::vector<CategoryRange> CategoryRanges() {
  std::vector<CategoryRange> ranges;
  u_enumCharTypes(
      [](const void* context, UChar32 first, UChar32 end,
         UCharCategory category) -> UBool {
        auto* out = static_cast<std::vector<CategoryRange>*>(
            const_cast<void*>(context));
        out->push_back({first, end, category});
        return true;
      },
      &ranges);
  return ranges;
}

// Calls `visit` for each character that can have a mapping.
template <typename Visit>
void ForEachCharacter(const std::vector<CategoryRange>& ranges,
                      const Visit& visit) {
  for (const CategoryRange& range : ranges) {
    if (range.uniform()) continue;
    for (UChar32 c = range.first; c < range.end; ++c) {
      // Hangul syllables are computed, not looked up.
      if (c >= kFirstHangulSyllable && c <= kLastHangulSyllable) continue;
      visit(c);
    }
  }
}

void BuildProperties(const std::vector<CategoryRange>& ranges,
                     UnicodeTables* tables) {
  std::vector<uint16_t> properties(kCodePoints);
  for (const CategoryRange& range : ranges) {
    uint16_t last = PropertiesOf(range.first);
    for (UChar32 c = range.first; c < range.end; ++c) {
      if (!range.uniform()) last = PropertiesOf(c);
      properties[c] = last;
    }
  }
  std::map<std::array<uint16_t, 256>, uint16_t> known;
  for (UChar32 first = 0; first < kCodePoints; first += 256) {
    std::array<uint16_t, 256> block;
    std::copy_n(properties.begin() + first, 256, block.begin());
    const auto [it, is_new] =
        known.emplace(block, static_cast<uint16_t>(known.size()));
    if (is_new) {
      tables->properties.insert(tables->properties.end(), block.begin(),
                                block.end());
    }
    tables->block_of.push_back(it->second);
  }
}

void Append(UChar32 key, const icu::UnicodeString& value,
            UnicodeMapping* mapping) {
  mapping->keys.push_back(key);
  for (int32_t i = 0; i < value.length();) {
    const UChar32 c = value.char32At(i);
    mapping->values.push_back(c);
    i += U16_LENGTH(c);
  }
  mapping->ends.push_back(static_cast<uint32_t>(mapping->values.size()));
}

void BuildDecompositions(const std::vector<CategoryRange>& ranges,
                         const icu::Normalizer2& nfc,
                         const icu::Normalizer2& nfkc, UnicodeTables* tables) {
  icu::UnicodeString canonical, compatibility;
  ForEachCharacter(ranges, [&](UChar32 c) {
    const bool has_canonical = nfc.getDecomposition(c, canonical);
    if (has_canonical) Append(c, canonical, &tables->canonical);
    if (nfkc.getDecomposition(c, compatibility) &&
        !(has_canonical && canonical == compatibility)) {
      Append(c, compatibility, &tables->compatibility);
    }
    const uint8_t combining_class = nfc.getCombiningClass(c);
    if (combining_class != 0) {
      tables->combining.push_back(c);
      tables->combining_classes.push_back(combining_class);
    }
  });
}

void BuildCompositions(const std::vector<CategoryRange>& ranges,
                       const icu::Normalizer2& nfc, UnicodeTables* tables) {
  std::vector<std::pair<uint64_t, uint32_t>> pairs;
  icu::UnicodeString raw;
  ForEachCharacter(ranges, [&](UChar32 c) {
    if (!nfc.getRawDecomposition(c, raw) || raw.countChar32() != 2) return;
    const UChar32 first = raw.char32At(0);
    const UChar32 second = raw.char32At(U16_LENGTH(first));
    if (nfc.composePair(first, second) != c) return;
    pairs.emplace_back(static_cast<uint64_t>(first) << 32 | second, c);
  });
  std::sort(pairs.begin(), pairs.end());
  for (const auto& [pair, composed] : pairs) {
    tables->pairs.push_back(pair);
    tables->composed.push_back(composed);
  }
}

void BuildLowercase(const std::vector<CategoryRange>& ranges,
                    UnicodeTables* tables) {
  ForEachCharacter(ranges, [&](UChar32 c) {
    if (!u_hasBinaryProperty(c, UCHAR_CHANGES_WHEN_LOWERCASED)) return;
    // The sigma's form at the end of a word depends on its neighbours; by
    // itself it is the common one.
    icu::UnicodeString lower(c);
    lower.toLower(icu::Locale::getRoot());
    Append(c, lower, &tables->lowercase);
  });
}

absl::StatusOr<UnicodeTables> Build() {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(error);
  const icu::Normalizer2* nfkc = icu::Normalizer2::getNFKCInstance(error);
  if (U_FAILURE(error)) {
    return absl::InternalError(absl::StrCat(
        "ICU's normalization data cannot be loaded: ", u_errorName(error)));
  }
  const std::vector<CategoryRange> ranges = CategoryRanges();
  UnicodeTables tables;
  BuildProperties(ranges, &tables);
  BuildDecompositions(ranges, *nfc, *nfkc, &tables);
  BuildCompositions(ranges, *nfc, &tables);
  BuildLowercase(ranges, &tables);
  return tables;
}

}  // namespace

absl::StatusOr<UnicodeTables> BuildUnicodeTables() {
  static const auto* const tables = new absl::StatusOr<UnicodeTables>(Build());
  return *tables;
}

}  // namespace qeff
