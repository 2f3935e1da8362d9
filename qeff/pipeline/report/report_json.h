// SPDX-License-Identifier: Apache-2.0
//
// Reading a report: what is missing, null or of another type is not there, and
// the page is drawn without it. For files that users write use
// JsonObjectReader, which says what is wrong.

#ifndef QEFF_PIPELINE_REPORT_REPORT_JSON_H_
#define QEFF_PIPELINE_REPORT_REPORT_JSON_H_

#include <cmath>
#include <string>

#include "absl/types/optional.h"
#include "qeff/util/json.h"

namespace qeff::internal_report {

// The member `key`; null when `value` is no object or has none. Borrowed.
inline const Json& MemberAt(const Json& value, const char* key) {
  static const Json* const null = new Json();
  if (!value.is_object()) return *null;
  const auto it = value.find(key);
  return it == value.end() ? *null : *it;
}

// A number that can be drawn: sums and quotients of a few are doubles, too.
// None beyond 1e300; what is below 1e-300 is 0.
inline absl::optional<double> NumberOf(const Json& value) {
  if (!value.is_number()) return absl::nullopt;
  const double number = value.get<double>();
  if (!(std::fabs(number) <= 1e300)) return absl::nullopt;
  return std::fabs(number) < 1e-300 ? 0 : number;
}

inline absl::optional<double> NumberAt(const Json& value, const char* key) {
  return NumberOf(MemberAt(value, key));
}

// A string; empty without one.
inline std::string StringAt(const Json& value, const char* key) {
  const Json& member = MemberAt(value, key);
  return member.is_string() ? member.get<std::string>() : std::string();
}

inline bool FlagAt(const Json& value, const char* key) {
  const Json& member = MemberAt(value, key);
  return member.is_boolean() && member.get<bool>();
}

// An array; an empty one without one. Borrowed.
inline const Json& ListAt(const Json& value, const char* key) {
  static const Json* const empty = new Json(Json::array());
  const Json& member = MemberAt(value, key);
  return member.is_array() ? member : *empty;
}

}  // namespace qeff::internal_report

#endif  // QEFF_PIPELINE_REPORT_REPORT_JSON_H_
