// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/number_text.h"

#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"

namespace qeff::internal_report {
namespace {

// A number and its unit stay on one line.
constexpr char kNoBreakSpace[] = "\u00A0";

template <size_t kCount>
Unit Largest(const Unit (&units)[kCount], double value) {
  Unit best = units[0];
  for (const Unit& unit : units) {
    if (std::fabs(value) >= unit.size) best = unit;
  }
  return best;
}

std::string WithUnit(double value, const Unit& unit) {
  return absl::StrCat(NumberText(value / unit.size, 3), kNoBreakSpace,
                      unit.name);
}

// "1.50" as "1.5".
absl::string_view WithoutZeros(absl::string_view text) {
  if (!absl::StrContains(text, '.')) return text;
  while (absl::EndsWith(text, "0")) text.remove_suffix(1);
  if (absl::EndsWith(text, ".")) text.remove_suffix(1);
  return text;
}

}  // namespace

Unit BytesUnit(double value) {
  static constexpr Unit kUnits[] = {
      {"B", 1}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}};
  return Largest(kUnits, value);
}

Unit SecondsUnit(double value) {
  static constexpr Unit kUnits[] = {
      {"ms", 1e-3}, {"s", 1}, {"min", 60}, {"h", 3600}};
  return Largest(kUnits, value);
}

std::string NumberText(double value, int digits) {
  if (value == 0) return "0";
  const double size = std::fabs(value);
  if (size < 1e7 && (value == std::round(value) || size >= 1e5)) {
    return absl::StrFormat("%.0f", value);
  }
  if (size >= 1e7 || size < 1e-4) {
    return ExponentText(value, digits);
  }
  // The digits before the point are not rounded.
  const int whole = static_cast<int>(std::floor(std::log10(size))) + 1;
  const int decimals = digits > whole ? digits - whole : 0;
  const std::string text = absl::StrFormat("%.*f", decimals, value);
  return std::string(WithoutZeros(text));
}

std::string ExponentText(double value, int digits) {
  const std::string text = absl::StrFormat("%.*e", digits - 1, value);
  const size_t e = text.find('e');
  return absl::StrCat(WithoutZeros(absl::string_view(text).substr(0, e)), "e",
                      std::stoi(text.substr(e + 1)));
}

std::string BytesText(double bytes) {
  return WithUnit(bytes, BytesUnit(bytes));
}

std::string SecondsText(double seconds) {
  return WithUnit(seconds, SecondsUnit(seconds));
}

std::string CountText(double count) {
  static constexpr Unit kUnits[] = {
      {"", 1}, {"k", 1e3}, {"M", 1e6}, {"G", 1e9}};
  const Unit unit = Largest(kUnits, count);
  return unit.size == 1 ? NumberText(count, 3) : WithUnit(count, unit);
}

std::string PercentText(double share) {
  return absl::StrCat(NumberText(share * 100, 3), kNoBreakSpace, "%");
}

std::string ChangeText(double before, double after) {
  if (before == 0) return "";
  const double change = (after - before) / std::fabs(before);
  return absl::StrCat(change > 0 ? "+" : "", NumberText(change * 100, 2),
                      kNoBreakSpace, "%");
}

}  // namespace qeff::internal_report
