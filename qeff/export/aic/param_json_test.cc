// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/param_json.h"

#include "gtest/gtest.h"

namespace qeff {
namespace {

// What Python's json.dump writes.
TEST(IndentedJsonTest, IsPythons) {
  const Json value = {{"b", Json::array({"1", 2})},
                      {"a", {{"empty", Json::object()}}},
                      {"none", Json::array()},
                      {"\u00e9", nullptr}};
  EXPECT_EQ(IndentedJson(value), R"({
    "a":{
        "empty":{}
    },
    "b":[
        "1",
        2
    ],
    "none":[],
    "\u00e9":null
})");
}

TEST(CompactJsonTest, IsPythons) {
  EXPECT_EQ(CompactJson(Json{{"b", {1, nullptr}}, {"a", "\x7f\n"}}),
            "{\"a\":\"\\u007f\\n\",\"b\":[1,null]}");
}

}  // namespace
}  // namespace qeff
