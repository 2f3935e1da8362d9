// SPDX-License-Identifier: Apache-2.0
//
// JSON with the bytes that QEfficient writes and hashes. For results that
// people read see util/json.h.

#ifndef QEFF_EXPORT_AIC_PARAM_JSON_H_
#define QEFF_EXPORT_AIC_PARAM_JSON_H_

#include <string>

#include "qeff/util/json.h"

namespace qeff {

// As Python's json.dumps(value, sort_keys=True, indent=4, separators=(",",
// ":")): keys sorted by bytes, no space after a colon, ASCII only, no final
// newline. Numbers from 1e15 up that are not integers are written in another
// way than Python's. Invalid UTF-8 becomes U+FFFD. Thread-safe.
std::string IndentedJson(const Json& value);

// The same without any white space.
std::string CompactJson(const Json& value);

}  // namespace qeff

#endif  // QEFF_EXPORT_AIC_PARAM_JSON_H_
