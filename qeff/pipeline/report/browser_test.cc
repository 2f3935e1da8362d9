// SPDX-License-Identifier: Apache-2.0
//
// The page in headless Chromium, as wide as a phone and as a desktop, light and
// dark: that it runs without complaint, that what the charts show is what the
// report says, and that it can be read.

#include <unistd.h>

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "qeff/pipeline/report/browser_testutil.h"
#include "qeff/pipeline/report/report_html.h"
#include "qeff/pipeline/report/report_testutil.h"
#include "qeff/util/json.h"
#include "qeff/util/mapped_file.h"

namespace qeff::internal_report {
namespace {

class BrowserTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!HasBrowser()) {
      GTEST_SKIP() << "SKIPPED: chromium is not installed";
    }
  }
};

TEST_F(BrowserTest, RunsWithoutComplaint) {
  const std::string path = WriteFile("page.html", ReportHtml(ExampleReport()));
  // The script made its element: the policy lets it run.
  EXPECT_TRUE(absl::StrContains(
      RunBrowser(path, Scheme::kLight, {"--dump-dom"}), "id=\"tip\""));
  for (const Scheme scheme : {Scheme::kLight, Scheme::kDark}) {
    const std::string picture = absl::StrCat(
        OutputFolder(), scheme == Scheme::kDark ? "/dark.png" : "/light.png");
    RunBrowser(
        path, scheme,
        {"--window-size=1280,6400", absl::StrCat("--screenshot=", picture)});
    EXPECT_EQ(access(picture.c_str(), R_OK), 0);
  }
}

TEST_F(BrowserTest, Prints) {
  const std::string path = WriteFile("print.html", ReportHtml(ExampleReport()));
  const std::string pdf = absl::StrCat(OutputFolder(), "/print.pdf");
  // Paper is white, whatever the screen is.
  RunBrowser(path, Scheme::kDark, {absl::StrCat("--print-to-pdf=", pdf)});
  const auto printed = ReadFileToString(pdf, 1 << 24);
  ASSERT_TRUE(printed.ok()) << printed.status();
  EXPECT_TRUE(absl::StartsWith(*printed, "%PDF"));
}

TEST_F(BrowserTest, ShowsWhatTheReportSays) {
  const Json report = ExampleReport();
  for (const Scheme scheme : {Scheme::kLight, Scheme::kDark}) {
    for (const Json& view :
         Measure(ReportHtml(report), scheme, "checks.html")) {
      SCOPED_TRACE(view["width"]);
      EXPECT_EQ(view["dark"], scheme == Scheme::kDark);
      EXPECT_EQ(view["report"], report);
      const Json& mark = view["charts"][0]["marks"][0];
      EXPECT_EQ(view["tip"], view["runs_scripts"] ? mark["label"] : Json());
      ExpectValuesOfReport(view, report);
      ExpectProportions(view);
      ExpectReadable(view);
    }
  }
}

TEST_F(BrowserTest, StringsDoNothing) {
  for (const Json& view :
       Measure(ReportHtml(HostileReport()), Scheme::kLight, "hostile.html")) {
    EXPECT_FALSE(view["hacked"]);
    EXPECT_EQ(view["scripts"], 2);
    EXPECT_EQ(view["foreign"], 0);
    EXPECT_EQ(view["report"], HostileReport());
    EXPECT_LE(view["scroll_width"], view["width"]);
    EXPECT_FALSE(view["charts"].empty());
  }
}

}  // namespace
}  // namespace qeff::internal_report
