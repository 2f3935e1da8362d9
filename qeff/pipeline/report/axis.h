// SPDX-License-Identifier: Apache-2.0
//
// The axis of a chart: its range, its ticks and where a value lies.

#ifndef QEFF_PIPELINE_REPORT_AXIS_H_
#define QEFF_PIPELINE_REPORT_AXIS_H_

#include <string>
#include <vector>

namespace qeff::internal_report {

struct Axis {
  double low = 0;
  double high = 1;
  bool log = false;
  double unit = 1;            // of what tick texts count
  std::vector<double> ticks;  // ascending, in [low, high]

  // 0 at `low`, 1 at `high`; values beyond an end lie at it.
  double Share(double value) const;
  // As many digits as tell all ticks apart; with an exponent where that is
  // needed to have room beside a plot.
  std::string TickText(double tick) const;
};

struct AxisOptions {
  int ticks = 5;           // at most about so many
  double unit = 1;         // ticks are round numbers of it
  double min_step = 0;     // between ticks, in units
  bool round_ends = true;  // to ticks
};

// From `low` to `high`, which may be the other way round or equal; both are
// finite. Ticks are multiples of 1, 2 or 5 times a power of ten.
Axis LinearAxis(double low, double high, const AxisOptions& options = {});

// The same, logarithmic: ticks are 1, 2 and 5 times powers of ten, or powers of
// ten alone when those are enough. Precondition: both are positive.
Axis LogAxis(double low, double high);

// Holds all `values`, which are finite: logarithmic when they are positive and
// the largest is more than 50 times the smallest, else linear.
Axis AxisOf(const std::vector<double>& values, const AxisOptions& options = {});

}  // namespace qeff::internal_report

#endif  // QEFF_PIPELINE_REPORT_AXIS_H_
