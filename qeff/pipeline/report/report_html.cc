// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/report_html.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "qeff/pipeline/report/front_section.h"
#include "qeff/pipeline/report/histogram_section.h"
#include "qeff/pipeline/report/html_text.h"
#include "qeff/pipeline/report/layer_section.h"
#include "qeff/pipeline/report/loss_section.h"
#include "qeff/pipeline/report/page_assets.h"
#include "qeff/pipeline/report/report_json.h"
#include "qeff/pipeline/report/sample_section.h"
#include "qeff/pipeline/report/step_section.h"
#include "qeff/pipeline/report/summary.h"
#include "qeff/util/sha256.h"

namespace qeff {
namespace {

using namespace internal_report;  // NOLINT: the parts of this function

// Nothing from elsewhere, and of scripts only the one with this hash.
// Source: Content Security Policy Level 3, section 2.3.1.
std::string SecurityPolicy() {
  return absl::StrCat(
      "default-src 'none'; style-src 'unsafe-inline'; ", "script-src 'sha256-",
      absl::Base64Escape(absl::HexStringToBytes(Sha256Hex(PageScript()))), "'");
}

struct Part {
  const char* id;  // of its section
  const char* name;
  std::string (*draw)(const Json& report);
};

constexpr Part kParts[] = {
    {"front", "Quality", FrontSection},
    {"samples", "Answers", SampleSection},
    {"layers", "Layers", LayerSection},
    {"values", "Values", HistogramSection},
    {"loss", "Training", LossSection},
    {"steps", "Steps", StepSection},
    {"recipe", "Recipe", RecipeSection},
    {"environment", "Environment", EnvironmentSection},
};

}  // namespace

std::string ReportHtml(const Json& report) {
  const std::string data = JsonForScript(report);
  // What is drawn is what the page holds: valid UTF-8 and finite numbers.
  const Json shown = Json::parse(data, nullptr, /*allow_exceptions=*/false);
  const std::string model = StringAt(shown, "model");
  std::string links;
  std::string sections;
  for (const Part& part : kParts) {
    const std::string section = part.draw(shown);
    if (section.empty()) continue;
    absl::StrAppend(&links, "<a href=\"#", part.id, "\">", part.name, "</a>\n");
    sections += section;
  }
  return absl::StrCat(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"",
      SecurityPolicy(),
      "\">\n<meta name=\"viewport\" content=\"width=device-width, "
      "initial-scale=1\">\n<title>",
      EscapeHtml(
          absl::StrCat("qeff optimize", model.empty() ? "" : ": ", model)),
      "</title>\n<style>", PageStyle(), "</style>\n</head>\n<body>\n",
      Summary(shown), "<nav>\n", links, "</nav>\n<main>\n", sections,
      "</main>\n<script type=\"application/json\" id=\"report\">", data,
      "</script>\n<script>", PageScript(), "</script>\n</body>\n</html>\n");
}

}  // namespace qeff
