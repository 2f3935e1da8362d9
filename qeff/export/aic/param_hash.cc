// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/param_hash.h"

#include <algorithm>
#include <cmath>

#include "qeff/export/aic/param_json.h"
#include "qeff/util/sha256.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr size_t kHashDigits = 16;

bool AllFinite(const Json& value) {
  if (value.is_number_float()) return std::isfinite(value.get<double>());
  return std::all_of(value.begin(), value.end(), [](const Json& member) {
    return !member.is_structured() && !member.is_number_float()
               ? true
               : AllFinite(member);
  });
}

}  // namespace

absl::StatusOr<std::string> HashParams(const Json& value) {
  if (!AllFinite(value)) {
    return InvalidInputError("parameters to hash: a number is not finite");
  }
  return Sha256Hex(CompactJson(value)).substr(0, kHashDigits);
}

}  // namespace qeff
