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

void BuildProperties(UnicodeTables* tables) {
  std::map<std::array<uint16_t, 256>, uint16_t> known;
  for (UChar32 first = 0; first < kCodePoints; first += 256) {
    std::array<uint16_t, 256> block;
    for (int i = 0; i < 256; ++i) block[i] = PropertiesOf(first + i);
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

void BuildDecompositions(const icu::Normalizer2& nfc,
                         const icu::Normalizer2& nfkc, UnicodeTables* tables) {
  icu::UnicodeString canonical, compatibility;
  for (UChar32 c = 0; c < kCodePoints; ++c) {
    if (c >= kFirstHangulSyllable && c <= kLastHangulSyllable) continue;
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
  }
}

void BuildCompositions(const icu::Normalizer2& nfc, UnicodeTables* tables) {
  std::vector<std::pair<uint64_t, uint32_t>> pairs;
  icu::UnicodeString raw;
  for (UChar32 c = 0; c < kCodePoints; ++c) {
    if (c >= kFirstHangulSyllable && c <= kLastHangulSyllable) continue;
    if (!nfc.getRawDecomposition(c, raw) || raw.countChar32() != 2) continue;
    const UChar32 first = raw.char32At(0);
    const UChar32 second = raw.char32At(U16_LENGTH(first));
    if (nfc.composePair(first, second) != c) continue;
    pairs.emplace_back(static_cast<uint64_t>(first) << 32 | second, c);
  }
  std::sort(pairs.begin(), pairs.end());
  for (const auto& [pair, composed] : pairs) {
    tables->pairs.push_back(pair);
    tables->composed.push_back(composed);
  }
}

void BuildLowercase(UnicodeTables* tables) {
  for (UChar32 c = 0; c < kCodePoints; ++c) {
    if (U_IS_SURROGATE(c)) continue;
    if (u_tolower(c) == c &&
        !u_hasBinaryProperty(c, UCHAR_CHANGES_WHEN_LOWERCASED)) {
      continue;
    }
    // The sigma's form at the end of a word depends on its neighbours; by
    // itself it is the common one.
    icu::UnicodeString lower(c);
    lower.toLower(icu::Locale::getRoot());
    Append(c, lower, &tables->lowercase);
  }
}

}  // namespace

absl::StatusOr<UnicodeTables> BuildUnicodeTables() {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(error);
  const icu::Normalizer2* nfkc = icu::Normalizer2::getNFKCInstance(error);
  if (U_FAILURE(error)) {
    return absl::InternalError(absl::StrCat(
        "ICU's normalization data cannot be loaded: ", u_errorName(error)));
  }
  UnicodeTables tables;
  BuildProperties(&tables);
  BuildDecompositions(*nfc, *nfkc, &tables);
  BuildCompositions(*nfc, &tables);
  BuildLowercase(&tables);
  return tables;
}

}  // namespace qeff
