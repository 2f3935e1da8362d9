// SPDX-License-Identifier: Apache-2.0
//
// What headless Chromium makes of a report's page, for tests.

#ifndef QEFF_PIPELINE_REPORT_BROWSER_TESTUTIL_H_
#define QEFF_PIPELINE_REPORT_BROWSER_TESTUTIL_H_

#include <string>
#include <vector>

#include "qeff/util/json.h"

namespace qeff::internal_report {

// Chromium's blink-settings.
enum class Scheme { kDark = 0, kLight = 1 };

// Whether there is one; without, tests are skipped.
bool HasBrowser();

// Where pages and pictures stay to be looked at.
std::string OutputFolder();

// The path of a file with `text` in that folder.
std::string WriteFile(const std::string& name, const std::string& text);

// What Chromium prints when it opens a file: with --dump-dom the document.
// Fails the test when it ends with an error or a script or the page's policy
// complains.
std::string RunBrowser(const std::string& path, Scheme scheme,
                       const std::vector<std::string>& flags);

// What browser_checks.html measures of a page: an object for each of a phone, a
// desktop, and a phone without scripts. Leaves it as the file `name`.
Json Measure(const std::string& html, Scheme scheme, const std::string& name);

// Expectations of what was measured.
//
// Marks have the values of the report, and none is missing.
void ExpectValuesOfReport(const Json& view, const Json& report);
// Lengths of bars are proportional to values, to half a pixel: of steps
// their widths, of layers their heights, on one scale for all roles.
void ExpectProportions(const Json& view);
// Everything lies inside of the page, no text over another, and colours are
// apart.
void ExpectReadable(const Json& view);

}  // namespace qeff::internal_report

#endif  // QEFF_PIPELINE_REPORT_BROWSER_TESTUTIL_H_
