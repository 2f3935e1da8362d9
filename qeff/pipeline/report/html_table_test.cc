// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/html_table.h"

#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "qeff/pipeline/report/model_table.h"
#include "qeff/pipeline/report/number_text.h"

namespace qeff::internal_report {
namespace {

using absl::StrContains;

TEST(HtmlTableTest, HasTheColumnsThatAreUsed) {
  const Json items = {{{"name", "a<b"}, {"bytes", 1000}, {"none", nullptr}},
                      {{"name", "c"}, {"chosen", true}}};
  const std::string html = HtmlTable(
      items, {{"bytes", "Size", BytesText}, {"none", "None", BytesText}},
      [](const Json&, const char*) { return "a note"; });
  EXPECT_TRUE(StrContains(html, "<th>Size</th>"));
  EXPECT_FALSE(StrContains(html, "None"));
  EXPECT_TRUE(
      StrContains(html, "a&lt;b</th><td>1\u00A0kB<small>a note</small></td>"))
      << html;
  EXPECT_TRUE(StrContains(html, "<tr class=\"chosen\"><th scope=\"row\">c"));
  EXPECT_TRUE(StrContains(html, "<td>–"));
  EXPECT_EQ(HtmlTable(Json::array(), {}, nullptr), "");
}

TEST(ModelTableTest, ChangesAreFromTheFirst) {
  const std::string html =
      ModelTable({{{"name", "a"}, {"bytes", 4000}, {"perplexity", 10}},
                  {{"name", "b"}, {"bytes", 1000}, {"perplexity", 10.5}},
                  {{"name", "c"}, {"bytes", 5000}, {"perplexity", 9}}});
  for (const char* part :
       {"4× smaller", "+5\u00A0%", "+25\u00A0%", "-10\u00A0%"}) {
    EXPECT_TRUE(StrContains(html, part)) << part;
  }
}

TEST(SearchTableTest, HasRecipes) {
  const std::string html =
      SearchTable({{{"name", "a"}, {"bytes", 1}, {"recipe", "step { <x> }"}}});
  EXPECT_TRUE(StrContains(html, "<pre>step { &lt;x&gt; }</pre>"));
  EXPECT_EQ(SearchTable(Json::array()), "");
}

}  // namespace
}  // namespace qeff::internal_report
