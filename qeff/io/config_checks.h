// SPDX-License-Identifier: Apache-2.0
//
// Refusing what a quantization_config asks for and qeff does not do, naming
// key and value.

#ifndef QEFF_IO_CONFIG_CHECKS_H_
#define QEFF_IO_CONFIG_CHECKS_H_

#include <initializer_list>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "qeff/util/json.h"

namespace qeff {

// kUnimplemented: "CONTEXT: KEY = VALUE is not supported". Precondition:
// `reader` has `key`.
absl::Status UnsupportedKey(const JsonObjectReader& reader,
                            const std::string& key);

// That error unless `key` is missing, null, false, or an empty object or array.
absl::Status ExpectAbsent(const JsonObjectReader& reader,
                          const std::string& key);

// That error unless `key` is missing or one of `accepted`; kInvalidArgument for
// what is no string.
absl::Status ExpectOneOf(const JsonObjectReader& reader, const std::string& key,
                         std::initializer_list<absl::string_view> accepted);

}  // namespace qeff

#endif  // QEFF_IO_CONFIG_CHECKS_H_
