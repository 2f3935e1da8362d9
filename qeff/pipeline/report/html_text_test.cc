// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/html_text.h"

#include <limits>
#include <string>

#include "gtest/gtest.h"

namespace qeff::internal_report {
namespace {

TEST(HtmlTextTest, EscapesWhatHtmlGivesAMeaning) {
  EXPECT_EQ(EscapeHtml("<script>a && \"b\" + 'c'</script>"),
            "&lt;script&gt;a &amp;&amp; &quot;b&quot; + &#39;c&#39;"
            "&lt;/script&gt;");
  EXPECT_EQ(EscapeHtml("Straße 日本語 😀\n\tend"), "Straße 日本語 😀\n\tend");
  EXPECT_EQ(EscapeHtml(absl::string_view("a\0b\x1b[31m\x7f", 9)),
            "a\uFFFDb\uFFFD[31m\uFFFD");
}

TEST(HtmlTextTest, ScriptIsTheSameJsonWithoutOneTag) {
  const Json value = {{"</script><b>", "<!-- <script> -->"},
                      {"numbers", {0.1, -0.0, 1e-300, 12345678901234}}};
  const std::string text = JsonForScript(value);
  EXPECT_EQ(text.find('<'), std::string::npos) << text;
  EXPECT_EQ(Json::parse(text), value);
}

TEST(HtmlTextTest, ScriptIsJsonWhateverTheStringsAndNumbersAre) {
  const Json value = {{"bytes", "a\xFFz"},
                      {"nan", std::numeric_limits<double>::quiet_NaN()}};
  const Json read = Json::parse(JsonForScript(value));
  EXPECT_EQ(read["bytes"], "a\uFFFDz");
  EXPECT_TRUE(read["nan"].is_null());
}

TEST(HtmlTextTest, SectionOfNothingIsNothing) {
  EXPECT_EQ(HtmlSection("a", "Title", "lead", ""), "");
  EXPECT_EQ(HtmlSection("a", "T<", "", "<p>x</p>"),
            "<section id=\"a\">\n<h2>T&lt;</h2>\n<p>x</p></section>\n");
}

}  // namespace
}  // namespace qeff::internal_report
