// SPDX-License-Identifier: Apache-2.0
//
// A tokenizer.json with any value anywhere: what is not refused can be used.

#include <cstdint>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/tokenizer/build_from_json.h"
#include "qeff/tokenizer/portable_tokenizer.h"
#include "qeff/tokenizer/tokenizer_testutil.h"
#include "qeff/util/mutate_testutil.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr char kPath[] = "dir/tokenizer.json";

// Uses a tokenizer, if it is one.
absl::Status Use(const std::string& json) {
  QEFF_ASSIGN_OR_RETURN(TokenizerTables tables,
                        BuildFromTokenizerJson(json, kPath));
  QEFF_ASSIGN_OR_RETURN(const auto tokenizer,
                        PortableTokenizer::Create(std::move(tables)), kPath);
  for (const char* text : {"", "The  <|end|> th\xFF\xC3", "a\u0301 <s>\n9"}) {
    QEFF_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                          tokenizer->Encode(text, true), kPath);
    for (const int32_t id : ids) {
      EXPECT_GE(id, 0);
      EXPECT_LT(id, tokenizer->vocab_size());
    }
    QEFF_RETURN_IF_ERROR(tokenizer->Decode(ids, true).status(), kPath);
  }
  EXPECT_FALSE(tokenizer->Decode({-1}, false).ok());
  return absl::OkStatus();
}

// With every member that may stand there.
Json Full(Json json) {
  json["version"] = "1.0";
  json["truncation"] = nullptr;
  json["padding"] = nullptr;
  return json;
}

void ExpectSurvived(const Json& json) {
  ASSERT_TRUE(Use(json.dump()).ok()) << Use(json.dump());
  EXPECT_GT(ReadVariants(json, kPath, Use), 20);
  EXPECT_GT(ReadDamaged(json.dump(), 2000, kPath, Use), 20);
}

TEST(HostileTokenizerJsonTest, ByteLevel) {
  Json json = Full(ByteLevelJson({"t h", "th e"}));
  json["normalizer"] = {{"type", "Sequence"},
                        {"normalizers",
                         {{{"type", "NFC"}},
                          {{"type", "Replace"},
                           {"pattern", {{"String", "a"}}},
                           {"content", "b"}}}}};
  ExpectSurvived(json);
}

TEST(HostileTokenizerJsonTest, ByteFallback) {
  Json json = Full(ByteFallbackJson({"\u2581", "a", "\u2581a"}, {"\u2581 a"}));
  json["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single",
       {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
        {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
      {"pair", Json::array()},
      {"special_tokens",
       {{"<s>",
         {{"id", "<s>"},
          {"ids", Json::array({1})},
          {"tokens", Json::array({"<s>"})}}}}}};
  ExpectSurvived(json);
}

TEST(HostileTokenizerJsonTest, WordPiece) {
  ExpectSurvived(Full(WordPieceJson({"the", "##the", "t", "##h"})));
}

}  // namespace
}  // namespace qeff
