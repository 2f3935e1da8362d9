// SPDX-License-Identifier: Apache-2.0
//
// The hash that names folders of the cache, QEfficient's.
//
//   HashParams(Json{{"key", "value"}}) == "e43abcf337524483"

#ifndef QEFF_EXPORT_AIC_PARAM_HASH_H_
#define QEFF_EXPORT_AIC_PARAM_HASH_H_

#include <string>

#include "absl/status/statusor.h"
#include "qeff/util/json.h"

namespace qeff {

// The first 16 hexadecimal digits of the SHA-256 of CompactJson(value). Errors:
// kInvalidArgument when a number is not finite. Thread-safe.
absl::StatusOr<std::string> HashParams(const Json& value);

}  // namespace qeff

#endif  // QEFF_EXPORT_AIC_PARAM_HASH_H_
