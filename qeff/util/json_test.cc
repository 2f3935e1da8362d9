// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/json.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/util/mutate_testutil.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

std::string ErrorOf(absl::string_view text) {
  const auto parsed = ParseJson(text, "f.json");
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(parsed.status().message());
}

TEST(JsonTest, RejectsWhatIsNotOneValue) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("f.json: not valid JSON at byte"));
  EXPECT_THAT(ErrorOf("{} {}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorOf("{\"a\":1,}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorOf("{\"a\":NaN}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorOf("{\"a\":1e400}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorOf("\"\xFF\""), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorOf(absl::string_view("{}\0{", 4)), HasSubstr("found NUL"));
}

TEST(JsonTest, BuildsEveryKindOfValueInOrder) {
  const std::string text =
      R"({"z":[1,-2,1.5,true,null,[],{}],"a":{"s":"\u00e9"},"m":""})";
  EXPECT_EQ(ParseJson(text, "f")->dump(-1, ' ', true), text);
  EXPECT_EQ(*ParseJson("3", "f"), Json(3));
}

// A vocabulary: 20 s when each key is looked for among all earlier ones.
TEST(JsonTest, TakesTimeLinearInTheNumberOfMembers) {
  std::string text = "{";
  for (int i = 0; i < 300000; ++i) {
    text += (i == 0 ? "\"" : ",\"") + std::to_string(100000 + i) + "\":1";
  }
  const auto parsed = ParseJson(text + "}", "f");
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->size(), 300000u);
}

TEST(JsonTest, RejectsDuplicateKeys) {
  EXPECT_THAT(ErrorOf("{\"a\":1,\"b\":{\"a\":2},\"a\":3}"),
              HasSubstr("duplicate key \"a\""));
  EXPECT_TRUE(ParseJson("{\"a\":{\"a\":{\"a\":1}}}", "f").ok());
}

TEST(JsonTest, BoundsDepthWithoutRecursion) {
  EXPECT_TRUE(ParseJson(std::string(64, '[') + std::string(64, ']'), "f").ok());
  EXPECT_THAT(ErrorOf(std::string(65, '[') + std::string(65, ']')),
              HasSubstr("nested deeper than 64"));
  EXPECT_THAT(ErrorOf(std::string(5000000, '[')),
              HasSubstr("nested deeper than 64"));
}

TEST(JsonTest, ReaderNamesKeyExpectedAndFound) {
  const Json json = *ParseJson(
      R"({"n":3,"big":9223372036854775808,"f":1.5,"s":"x","neg":-1,"b":true,
          "null":null,"o":{"k":1}})",
      "c.json");
  const JsonObjectReader reader = *JsonObjectReader::Create(json, "c.json");
  EXPECT_EQ(*reader.Int("n", 1, 10), 3);
  EXPECT_EQ(reader.Int("n", 4, 10).status().message(),
            "c.json: n: expected an integer from 4 to 10, found 3");
  EXPECT_FALSE(reader.Int("big", 0, INT64_MAX).ok());
  EXPECT_FALSE(reader.Int("f", 0, 10).ok());
  EXPECT_FALSE(reader.Int("neg", 0, 10).ok());
  EXPECT_FALSE(reader.Int("s", 0, 10).ok());
  EXPECT_EQ(reader.Int("absent", 0, 1).status().message(),
            "c.json: absent: expected an integer from 0 to 1, found nothing");
  EXPECT_EQ(*reader.IntOr("null", 7, 0, 1), 7);
  EXPECT_EQ(*reader.Number("f"), 1.5);
  EXPECT_EQ(*reader.Number("n"), 3.0);
  EXPECT_FALSE(reader.Number("s").ok());
  EXPECT_TRUE(*reader.BoolOr("b", false));
  EXPECT_FALSE(reader.BoolOr("n", false).ok());
  EXPECT_EQ(*reader.String("s"), "x");
  EXPECT_FALSE(reader.String("n").ok());
  EXPECT_EQ(*(*reader.ObjectOr("o"))->Int("k", 0, 1), 1);
  EXPECT_FALSE(reader.ObjectOr("n").ok());
  EXPECT_FALSE(JsonObjectReader::Create(Json::array(), "c").ok());
}

TEST(ParseJsonTest, SurvivesDamage) {
  const std::string text =
      R"({"a": [1, -2.5e3, {"b\u00e9": "\ud83d\ude00"}], "c": true,
          "d": null, "e": [[[[]]]], "f": 12345678901234567890})";
  EXPECT_GT(ReadDamaged(text, 20000, "c.json: ",
                        [](const std::string& damaged) {
                          return ParseJson(damaged, "c.json").status();
                        }),
            1000);
}

TEST(JsonForMessageTest, ShowsWhatIsShort) {
  EXPECT_EQ(JsonForMessage(Json(1.5)), "1.5");
  EXPECT_EQ(JsonForMessage(Json("x")), "\"x\"");
  EXPECT_EQ(JsonForMessage(Json::parse("[\"A\", 2]")), "[\"A\",2]");
  EXPECT_EQ(JsonForMessage(Json::parse("[]")), "[]");
  EXPECT_EQ(JsonForMessage(Json::parse("[[1]]")), "an array");
  EXPECT_EQ(JsonForMessage(Json::parse("[1,2,3,4,5,6,7,8,9]")), "an array");
  EXPECT_EQ(JsonForMessage(Json::parse("{\"a\": 1}")), "an object");
  EXPECT_EQ(JsonForMessage(Json(std::string(100, 'x'))).size(), 60u);
}

}  // namespace
}  // namespace qeff
