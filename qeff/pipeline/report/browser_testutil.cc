// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/browser_testutil.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "qeff/pipeline/report/html_text.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/subprocess.h"

namespace qeff::internal_report {
namespace {

constexpr char kBrowser[] = "/usr/bin/chromium";
constexpr char kChecks[] = "qeff/pipeline/report/browser_checks.html";

double Left(const Json& item) { return item["box"][0].get<double>(); }
double Top(const Json& item) { return item["box"][1].get<double>(); }
double Right(const Json& item) { return item["box"][2].get<double>(); }
double Bottom(const Json& item) { return item["box"][3].get<double>(); }

double Value(const Json& mark, const std::string& name) {
  return std::stod(mark["data"][name].get<std::string>());
}

bool Overlap(const Json& a, const Json& b) {
  return Left(a) < Right(b) && Left(b) < Right(a) && Top(a) < Bottom(b) &&
         Top(b) < Bottom(a);
}

std::map<std::string, Json> ChartsOf(const Json& view) {
  std::map<std::string, Json> charts;
  for (const Json& chart : view["charts"]) {
    charts[chart["id"].get<std::string>()] = chart;
  }
  return charts;
}

// The contrast of "rgb(r, g, b) on rgb(r, g, b)". Source: WCAG 2.1, "relative
// luminance" and "contrast ratio".
double Contrast(const std::string& pair) {
  std::vector<double> luminances;
  for (const absl::string_view colour : absl::StrSplit(pair, " on ")) {
    int rgb[3];
    if (std::sscanf(std::string(colour).c_str(), "rgb(%d, %d, %d)", &rgb[0],
                    &rgb[1], &rgb[2]) != 3) {
      return 0;
    }
    const double weights[] = {0.2126, 0.7152, 0.0722};
    double luminance = 0;
    for (int i = 0; i < 3; ++i) {
      const double c = rgb[i] / 255.0;
      luminance +=
          weights[i] *
          (c <= 0.03928 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4));
    }
    luminances.push_back(luminance);
  }
  if (luminances.size() != 2) return 0;
  return (std::max(luminances[0], luminances[1]) + 0.05) /
         (std::min(luminances[0], luminances[1]) + 0.05);
}

}  // namespace

bool HasBrowser() { return access(kBrowser, X_OK) == 0; }

std::string OutputFolder() {
  const char* outputs = std::getenv("TEST_UNDECLARED_OUTPUTS_DIR");
  return outputs != nullptr ? outputs : testing::TempDir();
}

std::string WriteFile(const std::string& name, const std::string& text) {
  const std::string path = absl::StrCat(OutputFolder(), "/", name);
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

std::string RunBrowser(const std::string& path, Scheme scheme,
                       const std::vector<std::string>& flags) {
  const std::string log = WriteFile("log.txt", "");
  // Its messages apart from the document.
  std::vector<std::string> command = {
      "/bin/sh",
      "-c",
      "exec \"$@\" 2>\"$0\"",
      log,
      kBrowser,
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--no-first-run",
      "--disable-background-networking",
      "--hide-scrollbars",
      "--enable-logging=stderr",
      absl::StrCat("--user-data-dir=", testing::TempDir(), "/chromium"),
      absl::StrCat("--blink-settings=preferredColorScheme=",
                   static_cast<int>(scheme))};
  command.insert(command.end(), flags.begin(), flags.end());
  command.push_back(absl::StrCat("file://", path));
  std::string output;
  SubprocessOptions options;
  options.timeout = absl::Seconds(120);
  options.on_output = [&](absl::string_view text) {
    output.append(text.data(), text.size());
  };
  const auto exit_code = RunSubprocess(command, options);
  EXPECT_TRUE(exit_code.ok()) << exit_code.status() << output;
  EXPECT_EQ(exit_code.value_or(-1), 0) << output;
  // What scripts and the policy complain of.
  const auto messages = ReadFileToString(log, 1 << 20);
  EXPECT_TRUE(messages.ok()) << messages.status();
  for (const absl::string_view line :
       absl::StrSplit(messages.value_or(""), '\n')) {
    // That the frame without scripts runs none is no complaint.
    EXPECT_TRUE(!absl::StrContains(line, "CONSOLE") ||
                absl::StrContains(line, "the document's frame is sandboxed"))
        << line;
  }
  return output;
}

Json Measure(const std::string& html, Scheme scheme, const std::string& name) {
  const auto checks = ReadFileToString(kChecks, 1 << 20);
  EXPECT_TRUE(checks.ok()) << checks.status();
  const std::string path =
      WriteFile(name, absl::StrCat(*checks,
                                   "<script type=\"application/json\" "
                                   "id=\"page\">",
                                   JsonForScript(Json(html)), "</script>\n"));
  const std::string output = RunBrowser(path, scheme, {"--dump-dom"});
  const std::string begin = "<pre id=\"checks\">";
  const size_t from = output.find(begin);
  if (from == std::string::npos) {
    ADD_FAILURE() << output;
    return Json::array();
  }
  const size_t to = output.find("</pre>", from);
  const std::string text = absl::StrReplaceAll(
      output.substr(from + begin.size(), to - from - begin.size()),
      {{"&lt;", "<"}, {"&gt;", ">"}, {"&nbsp;", " "}, {"&amp;", "&"}});
  Json json = Json::parse(text, nullptr, false);
  EXPECT_EQ(json.size(), 3u) << text.substr(0, 1000);
  return json;
}

void ExpectValuesOfReport(const Json& view, const Json& report) {
  const auto charts = ChartsOf(view);
  std::map<std::string, const Json*> models;
  for (const char* list : {"models", "front"}) {
    if (!report.contains(list)) continue;
    for (const Json& model : report[list]) {
      models[model["name"].get<std::string>()] = &model;
    }
  }
  const auto expect_front = [&](const char* id, const char* key) {
    size_t with = 0;
    for (const auto& [name, model] : models) with += model->contains(key);
    EXPECT_EQ(charts.at(id)["marks"].size(), with);
    for (const Json& mark : charts.at(id)["marks"]) {
      const Json& model = *models.at(mark["data"]["name"]);
      EXPECT_EQ(Value(mark, "bytes"), model["bytes"].get<double>());
      EXPECT_EQ(Value(mark, "value"), model[key].get<double>());
    }
  };
  expect_front("front-perplexity", "perplexity");
  expect_front("front-kl", "kl_mean");

  for (const auto& [key, attribute] :
       {std::pair<const char*, const char*>{"relative_error", "value"},
        {"loss", "value"},
        {"rounding_loss", "compared"},
        {"sensitivity", "value"}}) {
    const bool parts = absl::string_view(key) == "sensitivity";
    const Json& listed = report[parts ? "sensitivities" : "layers"];
    const char* const of = parts ? "scheme" : "step";
    const absl::string_view chart_key = absl::StripPrefix(key, "rounding_");
    std::map<std::string, double> drawn, expected;
    for (const auto& [id, chart] : charts) {
      if (!absl::StartsWith(id, absl::StrCat("layers-", chart_key))) continue;
      for (const Json& mark : chart["marks"]) {
        const Json& data = mark["data"];
        if (!data.contains(attribute)) continue;
        drawn[data["step"].get<std::string>() +
              data["layer"].get<std::string>()] = Value(mark, attribute);
      }
    }
    for (const Json& layer : listed) {
      if (!layer.contains(key)) continue;
      expected[layer.value(of, "") + layer["name"].get<std::string>()] =
          layer[key];
    }
    EXPECT_EQ(drawn, expected) << key;
  }

  const std::pair<const char*, const char*> kinds[] = {
      {"weights-", "weight_histograms"},
      {"activations-", "activation_histograms"}};
  for (const auto& [prefix, list] : kinds) {
    for (const Json& histogram : report[list]) {
      const Json& marks =
          charts.at(prefix + histogram["role"].get<std::string>())["marks"];
      ASSERT_EQ(marks.size(), histogram["before"].size());
      for (size_t i = 0; i < marks.size(); ++i) {
        EXPECT_EQ(Value(marks[i], "before"), histogram["before"][i]);
        EXPECT_EQ(Value(marks[i], "after"), histogram["after"][i]);
      }
    }
  }

  for (const Json& curve : report["loss_curves"]) {
    std::vector<double> losses;
    for (const char* key : {"loss", "held_out"}) {
      for (const Json& point : curve["points"]) {
        if (!point.contains(key) || !point[key].is_number()) continue;
        losses.push_back(point[key]);
      }
    }
    std::vector<double> drawn;
    const std::string id = "loss-" + curve["step"].get<std::string>();
    for (const Json& mark : charts.at(id)["marks"]) {
      drawn.push_back(Value(mark, "value"));
    }
    EXPECT_EQ(drawn, losses) << id;
  }

  for (const auto& [id, key] :
       {std::pair<const char*, const char*>{"steps-time", "seconds"},
        {"steps-memory", "peak_bytes"}}) {
    const Json& marks = charts.at(id)["marks"];
    ASSERT_EQ(marks.size(), report["steps"].size());
    for (size_t i = 0; i < marks.size(); ++i) {
      EXPECT_EQ(Value(marks[i], "value"), report["steps"][i][key]);
    }
  }
}

void ExpectProportions(const Json& view) {
  std::map<std::string, std::vector<Json>> groups;
  for (const auto& [id, chart] : ChartsOf(view)) {
    if (absl::StartsWith(id, "steps-")) groups[id] = chart["marks"];
    if (!absl::StartsWith(id, "layers-")) continue;
    // Points, not bars.
    if (absl::StartsWith(id, "layers-loss")) continue;
    auto& group = groups[std::string(id.substr(0, id.rfind('-')))];
    for (const Json& mark : chart["marks"]) group.push_back(mark);
  }
  EXPECT_GE(groups.size(), 4u);
  for (const auto& [id, marks] : groups) {
    const bool rows = absl::StartsWith(id, "steps-");
    const auto length = [&](const Json& mark) {
      return rows ? Right(mark) - Left(mark) : Bottom(mark) - Top(mark);
    };
    const auto longest = std::max_element(
        marks.begin(), marks.end(), [](const Json& a, const Json& b) {
          return Value(a, "value") < Value(b, "value");
        });
    const double scale = length(*longest) / Value(*longest, "value");
    EXPECT_GT(length(*longest), 50) << id;
    for (const Json& mark : marks) {
      EXPECT_NEAR(length(mark), scale * Value(mark, "value"), 0.5)
          << id << mark;
    }
  }
}

void ExpectReadable(const Json& view) {
  EXPECT_LE(view["scroll_width"], view["width"]);
  for (const Json& chart : view["charts"]) {
    SCOPED_TRACE(chart["id"]);
    const Json frame = {{"box", chart["figure"]}};
    const Json plot = {{"box", chart["plot"]}};
    EXPECT_GT(Right(plot) - Left(plot), 200);
    EXPECT_FALSE(chart["marks"].empty());
    for (const Json& mark : chart["marks"]) {
      EXPECT_FALSE(mark["label"].get<std::string>().empty());
      EXPECT_GT(Right(mark) - Left(mark), 0) << mark;
      // Half of a point may stand over an end of its axis.
      EXPECT_GE(Left(mark), -8) << mark;
      EXPECT_LE(Right(mark), Right(plot) + 8) << mark;
      EXPECT_GE(Top(mark), -8) << mark;
      EXPECT_LE(Bottom(mark), Bottom(plot) + 8) << mark;
    }
    const Json& texts = chart["texts"];
    EXPECT_GE(texts.size(), 4u);
    for (size_t i = 0; i < texts.size(); ++i) {
      EXPECT_GE(texts[i]["size"], 12);
      EXPECT_GE(Left(texts[i]), Left(frame)) << texts[i];
      EXPECT_LE(Right(texts[i]), Right(frame) + 1) << texts[i];
      for (size_t j = 0; j < i; ++j) {
        EXPECT_FALSE(Overlap(texts[i], texts[j])) << texts[i] << texts[j];
      }
    }
  }
  // WCAG 2.1, level AA.
  EXPECT_FALSE(view["colours"].empty());
  for (const Json& pair : view["colours"]) {
    EXPECT_GE(Contrast(pair), 4.5) << pair;
  }
}

}  // namespace qeff::internal_report
