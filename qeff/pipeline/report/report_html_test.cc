// SPDX-License-Identifier: Apache-2.0
//
// The page as text; browser_test has a browser look at it.

#include "qeff/pipeline/report/report_html.h"

#include <set>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "qeff/pipeline/report/report_testutil.h"
#include "qeff/util/sha256.h"

namespace qeff {
namespace {

using internal_report::ExampleReport;
using internal_report::HostileReport;

size_t Count(absl::string_view text, absl::string_view part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != absl::string_view::npos;
       at = text.find(part, at + part.size())) {
    ++count;
  }
  return count;
}

// What stands between `begin` and `end`, the first time.
absl::string_view Between(absl::string_view text, absl::string_view begin,
                          absl::string_view end) {
  const size_t from = text.find(begin);
  if (from == absl::string_view::npos) return "";
  text.remove_prefix(from + begin.size());
  return text.substr(0, text.find(end));
}

std::set<std::string> Charts(const std::string& html) {
  std::set<std::string> charts;
  const std::vector<std::string> parts = absl::StrSplit(html, "data-chart=\"");
  for (size_t i = 1; i < parts.size(); ++i) {
    EXPECT_TRUE(charts.insert(parts[i].substr(0, parts[i].find('"'))).second)
        << "twice: " << parts[i].substr(0, 40);
  }
  return charts;
}

TEST(ReportHtmlTest, HoldsTheReport) {
  const std::string html = ReportHtml(ExampleReport());
  const Json data = Json::parse(std::string(Between(
      html, "<script type=\"application/json\" id=\"report\">", "</script>")));
  EXPECT_EQ(data, ExampleReport());
  EXPECT_EQ(html, ReportHtml(ExampleReport()));
}

TEST(ReportHtmlTest, DrawsEveryChart) {
  const std::set<std::string> charts = Charts(ReportHtml(ExampleReport()));
  std::set<std::string> expected = {
      "front-perplexity", "front-kl",     "loss-distill_1",
      "steps-time",       "steps-memory", "layers-loss-prune_1-up_proj"};
  for (const char* role : {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj",
                           "up_proj", "down_proj"}) {
    for (const char* kind :
         {"layers-relative_error-quantize_1", "layers-loss-quantize_1",
          "weights", "activations"}) {
      expected.insert(absl::StrCat(kind, "-", role));
    }
  }
  for (const char* role : {"qkv", "o", "gate_up", "down"}) {
    expected.insert(absl::StrCat("layers-sensitivity-int4_g32-", role));
  }
  EXPECT_EQ(charts, expected);
}

TEST(ReportHtmlTest, AsksNothingFromElsewhere) {
  const std::string html = ReportHtml(ExampleReport());
  for (const char* part : {"http:", "https:", "//cdn", "url(", "@import",
                           "<link", "<img", "<iframe", " src="}) {
    EXPECT_FALSE(absl::StrContains(html, part)) << part;
  }
}

// The browser runs the page's script only if the policy has its hash.
TEST(ReportHtmlTest, PolicyHasTheHashOfTheScript) {
  const std::string html = ReportHtml(ExampleReport());
  const std::string hash = absl::Base64Escape(absl::HexStringToBytes(
      Sha256Hex(Between(html, "<script>", "</script>"))));
  EXPECT_EQ(Between(html, "script-src 'sha256-", "'"), hash);
}

TEST(ReportHtmlTest, StringsAreNoHtml) {
  const std::string html = ReportHtml(HostileReport());
  // The data and the page's own, whatever the strings say.
  EXPECT_EQ(Count(html, "<script"), 2u);
  EXPECT_EQ(Count(html, "</script"), 2u);
  EXPECT_EQ(Count(html, "<img"), 0u);
  EXPECT_EQ(Count(html, "<!--"), 0u);
  EXPECT_EQ(Count(html, "<svg onload"), 0u);
  EXPECT_EQ(Count(html, "</title"), Count(html, "<title"));
  EXPECT_EQ(
      Json::parse(std::string(Between(html, "id=\"report\">", "</script>"))),
      HostileReport());
}

TEST(ReportHtmlTest, StepsAreEnough) {
  const std::string html = ReportHtml({{"steps", {{{"name", "only"}}}}});
  EXPECT_TRUE(absl::StrContains(html, "<b>only</b>"));
  EXPECT_TRUE(Charts(html).empty());
  EXPECT_FALSE(absl::StrContains(html, "<h2>Layers"));
}

// With a place for everything that is drawn.
void ExpectWholePage(const std::string& html) {
  EXPECT_TRUE(absl::EndsWith(html, "</html>\n"));
  for (const char* bad : {"nan%", "inf%", "\"nan", "\"inf", "\"-nan", "\"-inf",
                          ",nan", ",inf", " nan", " inf "}) {
    EXPECT_FALSE(absl::StrContains(html, bad)) << bad;
  }
}

// Whatever takes the place of a value, a page comes out, with the rest.
TEST(ReportHtmlTest, WrongTypesAreLeftOut) {
  Json example = ExampleReport();
  example["layers"].erase(example["layers"].begin() + 3,
                          example["layers"].end());
  example["loss_curves"][0]["points"].erase(3);
  const std::vector<Json> others = {
      0,
      1e308,
      -1e300,
      1e300,
      5e-324,
      1e-200,
      nullptr,
      true,
      -1.5,
      "text",
      Json::array(),
      Json::object(),
      Json::array({nullptr, 1, "a", Json::array({1})}),
      Json{{"before", {"x", -3, nullptr}}, {"low", 1}, {"high", 1}}};
  for (const Json& other : others) {
    SCOPED_TRACE(other);
    ExpectWholePage(ReportHtml(other));
    for (const auto& [key, value] : example.items()) {
      SCOPED_TRACE(key);
      Json report = example;
      report[key] = other;
      ExpectWholePage(ReportHtml(report));
      if (!value.is_array()) continue;
      report = example;
      report[key][0] = other;
      ExpectWholePage(ReportHtml(report));
      if (!value[0].is_object()) continue;
      for (const auto& [member, unused] : value[0].items()) {
        SCOPED_TRACE(member);
        report = example;
        report[key][0][member] = other;
        ExpectWholePage(ReportHtml(report));
        if (!unused.is_array()) continue;
        report[key][0][member] = {other, other, 1};
        ExpectWholePage(ReportHtml(report));
      }
    }
  }
}

}  // namespace
}  // namespace qeff
