// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/axis.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_format.h"
#include "qeff/pipeline/report/number_text.h"
#include "qeff/util/check.h"

namespace qeff::internal_report {
namespace {

// A bar of it would not be seen: decimal steps are not exact in binary.
constexpr double kSlack = 1e-6;

// The smallest of 1, 2 and 5 times a power of ten that is at least `step`.
double RoundStep(double step) {
  const double power = std::pow(10, std::floor(std::log10(step)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= step * (1 - kSlack)) return factor * power;
  }
  return 10 * power;
}

// `text`, or where it does not fit beside a plot and that is shorter, `value`
// with an exponent.
std::string Shorter(const std::string& text, double value, int digits) {
  // Five digits: 38 pixels of 40. A point and a sign are half as wide.
  constexpr int kMostHalves = 10;
  const auto halves = [](const std::string& number) {
    int sum = 0;
    for (const char c : number) sum += c == '.' || c == '-' ? 1 : 2;
    return sum;
  };
  if (halves(text) <= kMostHalves) return text;
  const std::string exponent = ExponentText(value, digits);
  return halves(exponent) < halves(text) ? exponent : text;
}

}  // namespace

double Axis::Share(double value) const {
  const double share =
      log ? std::log(std::max(value, low) / low) / std::log(high / low)
          : (value - low) / (high - low);
  return std::clamp(share, 0.0, 1.0);
}

std::string Axis::TickText(double tick) const {
  const double value = tick / unit;
  if (log || ticks.size() < 2) return Shorter(NumberText(value), value, 1);
  const double step = (ticks[1] - ticks[0]) / unit;
  if (std::fabs(value) < step / 2) return "0";
  // From the first of the value to that of the step.
  const double last = std::floor(std::log10(step) + kSlack);
  const int digits =
      1 + static_cast<int>(std::floor(std::log10(std::fabs(value)) + kSlack) -
                           last);
  if (step < 1e-4 || step >= 1e6) return ExponentText(value, digits);
  const int decimals = std::max(0, static_cast<int>(-last));
  return Shorter(absl::StrFormat("%.*f", decimals, value), value, digits);
}

Axis LinearAxis(double low, double high, const AxisOptions& options) {
  if (low > high) std::swap(low, high);
  // Something to draw in, wide enough for doubles to tell its ticks apart.
  const double narrowest = std::max({std::fabs(low), std::fabs(high)}) * kSlack;
  if (high - low <= narrowest) {
    const double margin = high == 0 ? options.unit : std::fabs(high) / 2;
    low = low == 0 ? 0 : low - margin;
    high += margin;
  }
  Axis axis;
  axis.unit = options.unit;
  const double range = (high - low) / options.unit;
  const double step = options.unit * RoundStep(std::max(range / options.ticks,
                                                        options.min_step));
  double first = std::ceil(low / step - kSlack);
  double last = std::floor(high / step + kSlack);
  if (options.round_ends) {
    first = std::floor(low / step + kSlack);
    last = std::ceil(high / step - kSlack);
    low = std::min(low, first * step);
    high = std::max(high, last * step);
  }
  axis.low = low;
  axis.high = high;
  for (double i = first; i <= last; ++i) axis.ticks.push_back(i * step);
  return axis;
}

Axis LogAxis(double low, double high) {
  QEFF_CHECK(low > 0 && high > 0);
  if (low > high) std::swap(low, high);
  const int first = static_cast<int>(std::floor(std::log10(low) + kSlack));
  const int last = static_cast<int>(std::ceil(std::log10(high) - kSlack));
  std::vector<double> grid;
  const int decades = last - first;
  const int stride = std::max(1, (decades + 4) / 5);
  for (int power = first; power <= last + 1; ++power) {
    if (decades > 2) {
      if ((power - first) % stride == 0) grid.push_back(std::pow(10, power));
      continue;
    }
    for (const double factor : {1.0, 2.0, 5.0}) {
      grid.push_back(factor * std::pow(10, power));
    }
  }
  Axis axis;
  axis.log = true;
  // From the last tick at or below `low` to the first at or above `high`.
  for (size_t i = 0; i < grid.size(); ++i) {
    const bool below = i + 1 < grid.size() && grid[i + 1] <= low * (1 + kSlack);
    if (below) continue;
    axis.ticks.push_back(grid[i]);
    if (axis.ticks.size() > 1 && grid[i] >= high * (1 - kSlack)) break;
  }
  axis.low = std::min(low, axis.ticks.front());
  axis.high = std::max(high, axis.ticks.back());
  return axis;
}

Axis AxisOf(const std::vector<double>& values, const AxisOptions& options) {
  if (values.empty()) return LinearAxis(0, 0, options);
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  if (*low > 0 && *high > 50 * *low) return LogAxis(*low, *high);
  return LinearAxis(*low, *high, options);
}

}  // namespace qeff::internal_report
