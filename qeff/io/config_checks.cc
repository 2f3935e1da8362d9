// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/config_checks.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "qeff/util/status.h"

namespace qeff {

absl::Status UnsupportedKey(const JsonObjectReader& reader,
                            const std::string& key) {
  return absl::UnimplementedError(
      absl::StrCat(reader.context(), ": ", key, " = ",
                   JsonForMessage(*reader.Find(key)), " is not supported"));
}

absl::Status ExpectAbsent(const JsonObjectReader& reader,
                          const std::string& key) {
  const Json* value = reader.Find(key);
  if (value == nullptr || (value->is_structured() && value->empty()) ||
      (value->is_boolean() && !value->get<bool>())) {
    return absl::OkStatus();
  }
  return UnsupportedKey(reader, key);
}

absl::Status ExpectOneOf(const JsonObjectReader& reader, const std::string& key,
                         std::initializer_list<absl::string_view> accepted) {
  const Json* value = reader.Find(key);
  if (value == nullptr) return absl::OkStatus();
  QEFF_ASSIGN_OR_RETURN(const std::string text, reader.String(key));
  if (std::find(accepted.begin(), accepted.end(), text) != accepted.end()) {
    return absl::OkStatus();
  }
  return UnsupportedKey(reader, key);
}

}  // namespace qeff
