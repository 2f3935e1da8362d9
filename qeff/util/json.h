// SPDX-License-Identifier: Apache-2.0
//
// JSON from untrusted files: parsing that is bounded before a tree is built,
// and accessors that name the key, what was expected and what was found.

#ifndef QEFF_UTIL_JSON_H_
#define QEFF_UTIL_JSON_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "nlohmann/json.hpp"

namespace qeff {

// Keys keep the order of the file.
using Json = nlohmann::ordered_json;

// Deepest nesting of arrays and objects that ParseJson accepts.
inline constexpr int kMaxJsonDepth = 64;

// Parses UTF-8 `text`; `context` (a path) begins every error message.
// Errors (kInvalidArgument): not JSON (with the byte offset), nested deeper
// than kMaxJsonDepth, a key that occurs twice in one object, or anything but
// white space after the value. Numbers that overflow a double are errors.
absl::StatusOr<Json> ParseJson(absl::string_view text,
                               absl::string_view context);

// Reads and parses a file of at most `max_bytes`.
absl::StatusOr<Json> ReadJsonFile(const std::string& path, uint64_t max_bytes);

// Serializes with an indent of two spaces and a final newline. Invalid UTF-8
// in strings is replaced by U+FFFD.
std::string WriteJson(const Json& value);

// Typed reading of one object's members, for configuration files. A missing
// key and null are the same. Errors are kInvalidArgument and read
// "CONTEXT: KEY: expected ..., found ...". Borrows both arguments; does not
// own them.
class JsonObjectReader {
 public:
  // `object` must outlive the reader. Fails unless it is an object.
  static absl::StatusOr<JsonObjectReader> Create(const Json& object,
                                                 std::string context);

  const Json& object() const { return *object_; }
  const std::string& context() const { return context_; }
  bool Has(const std::string& key) const { return Find(key) != nullptr; }

  // An integer in [min, max].
  absl::StatusOr<int64_t> Int(const std::string& key, int64_t min,
                              int64_t max) const;
  absl::StatusOr<int64_t> IntOr(const std::string& key, int64_t fallback,
                                int64_t min, int64_t max) const;
  // A finite number, integers included.
  absl::StatusOr<double> Number(const std::string& key) const;
  absl::StatusOr<double> NumberOr(const std::string& key,
                                  double fallback) const;
  absl::StatusOr<bool> BoolOr(const std::string& key, bool fallback) const;
  absl::StatusOr<std::string> String(const std::string& key) const;
  absl::StatusOr<std::string> StringOr(const std::string& key,
                                       const std::string& fallback) const;

  // The member that is an object; nullopt when it is missing.
  absl::StatusOr<absl::optional<JsonObjectReader>> ObjectOr(
      const std::string& key) const;

  // The member, or null when it is missing.
  const Json* Find(const std::string& key) const;

  // "CONTEXT: KEY: expected EXPECTED, found VALUE".
  absl::Status Unexpected(const std::string& key,
                          absl::string_view expected) const;

 private:
  JsonObjectReader(const Json& object, std::string context)
      : object_(&object), context_(std::move(context)) {}

  const Json* object_;
  std::string context_;
};

// A short rendering of `value` for an error message, at most 60 bytes.
std::string JsonForMessage(const Json& value);

}  // namespace qeff

#endif  // QEFF_UTIL_JSON_H_
