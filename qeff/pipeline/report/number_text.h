// SPDX-License-Identifier: Apache-2.0
//
// Numbers as people read them, in the same letters on every machine.

#ifndef QEFF_PIPELINE_REPORT_NUMBER_TEXT_H_
#define QEFF_PIPELINE_REPORT_NUMBER_TEXT_H_

#include <string>

namespace qeff::internal_report {

// A unit and how many of the base unit it is.
struct Unit {
  const char* name;
  double size;
};

// The largest unit that `value` has one of, or the smallest of all: B, kB, MB,
// GB, powers of ten as disks and files count; ms, s, min, h.
Unit BytesUnit(double value);
Unit SecondsUnit(double value);

// `value` to `digits` significant digits, without trailing zeros; integers
// below 1e7 in full; beyond that, or below 1e-4, with an exponent.
std::string NumberText(double value, int digits = 4);

// The same with an exponent in any case: "1.2e5".
std::string ExponentText(double value, int digits);

// With three digits and a unit, between them a space that breaks no line:
// "12.3 MB", "4.5 min".
std::string BytesText(double bytes);
std::string SecondsText(double seconds);

// "921 M", three digits of a count.
std::string CountText(double count);

// A share, "94.1 %"; and a change of `before` to `after`, "+2.3 %", or nothing
// when `before` is 0.
std::string PercentText(double share);
std::string ChangeText(double before, double after);

}  // namespace qeff::internal_report

#endif  // QEFF_PIPELINE_REPORT_NUMBER_TEXT_H_
