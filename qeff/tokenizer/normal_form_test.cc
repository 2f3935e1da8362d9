// SPDX-License-Identifier: Apache-2.0
//
// Normal forms against ICU's.

#include "qeff/tokenizer/normal_form.h"

#include <cstdint>
#include <string>

#include "gtest/gtest.h"
#include "qeff/tokenizer/unicode_tables_icu.h"
#include "qeff/tokenizer/utf8.h"
#include "qeff/util/random.h"
#include "unicode/normalizer2.h"
#include "unicode/unistr.h"

namespace qeff {
namespace {

const UnicodeTables& Tables() {
  static const auto* const tables =
      new UnicodeTables(BuildUnicodeTables().value());
  return *tables;
}

std::string ByIcu(NormalForm form, const std::string& text) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* normalizer =
      form == NormalForm::kNfc    ? icu::Normalizer2::getNFCInstance(error)
      : form == NormalForm::kNfd  ? icu::Normalizer2::getNFDInstance(error)
      : form == NormalForm::kNfkc ? icu::Normalizer2::getNFKCInstance(error)
                                  : icu::Normalizer2::getNFKDInstance(error);
  std::string out;
  normalizer->normalize(icu::UnicodeString::fromUTF8(text), error)
      .toUTF8String(out);
  EXPECT_TRUE(U_SUCCESS(error));
  return out;
}

class NormalFormTest : public testing::TestWithParam<NormalForm> {
 protected:
  static std::string Normalized(const std::string& text) {
    std::string out;
    AppendNormalized(Tables(), GetParam(), text, &out);
    return out;
  }
};

TEST_P(NormalFormTest, EveryCodePoint) {
  for (uint32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text = "e";
    AppendUtf8(c, &text);
    text += "\xCC\x81\xCC\xA3";  // acute, dot below: not in canonical order
    ASSERT_EQ(Normalized(text), ByIcu(GetParam(), text)) << c;
  }
}

TEST_P(NormalFormTest, RandomText) {
  // Blocks in which characters combine.
  const std::pair<uint32_t, uint32_t> kBlocks[] = {
      {0x20, 0x7E},     {0xC0, 0x17F},      {0x300, 0x36F},    {0x900, 0x9FF},
      {0x1100, 0x11FF}, {0xAC00, 0xAC7F},   {0x3040, 0x30FF},  {0x1E00, 0x1FFF},
      {0xFB00, 0xFB4F}, {0x1D100, 0x1D1FF}, {0x11080, 0x110CF}};
  Random random(1);
  for (int i = 0; i < 20000; ++i) {
    std::string text;
    for (int j = 0; j < 12; ++j) {
      const auto& block = kBlocks[random.NextBelow(std::size(kBlocks))];
      AppendUtf8(
          static_cast<uint32_t>(
              block.first + random.NextBelow(block.second - block.first + 1)),
          &text);
    }
    ASSERT_EQ(Normalized(text), ByIcu(GetParam(), text)) << text;
  }
}

TEST_P(NormalFormTest, InvalidBytesAreCopied) {
  EXPECT_EQ(Normalized("a\xFF\x80z"), "a\xFF\x80z");
  EXPECT_EQ(Normalized("\xE3\x81"), "\xE3\x81");
}

TEST_P(NormalFormTest, ManyMarksAreFast) {
  std::string text = "a";
  for (int i = 0; i < 300000; ++i) text += i % 2 ? "\xCC\x81" : "\xCC\xA3";
  EXPECT_GT(Normalized(text).size(), 500000u);
}

INSTANTIATE_TEST_SUITE_P(All, NormalFormTest,
                         testing::Values(NormalForm::kNfc, NormalForm::kNfd,
                                         NormalForm::kNfkc, NormalForm::kNfkd));

}  // namespace
}  // namespace qeff
