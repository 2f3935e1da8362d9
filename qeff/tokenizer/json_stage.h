// SPDX-License-Identifier: Apache-2.0
//
// What the stages of a tokenizer.json have in common: objects with a "type",
// lists of such objects, and String or Regex patterns.

#ifndef QEFF_TOKENIZER_JSON_STAGE_H_
#define QEFF_TOKENIZER_JSON_STAGE_H_

#include <cstddef>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/util/json.h"

namespace qeff {

inline constexpr size_t kMaxStageOps = 64;

// Calls `compile(item, context of the item)` for each element of the array
// `key`. Errors: kInvalidArgument when it is no array of at most 64 elements.
absl::Status ForEachStage(
    const JsonObjectReader& reader, const std::string& key,
    const std::function<absl::Status(const Json&, const std::string&)>&
        compile);

// kUnimplemented: "CONTEXT: type "X" is not supported; supported are LIST".
absl::Status UnsupportedType(const JsonObjectReader& reader,
                             absl::string_view type,
                             absl::string_view supported);

// A pattern {"String": ...} or {"Regex": ...}.
struct JsonPattern {
  bool is_regex;
  std::string text;  // not empty
};
absl::StatusOr<JsonPattern> ReadPattern(const JsonObjectReader& reader);

// {"String": ...} only. Errors: kUnimplemented for a regular expression.
absl::StatusOr<std::string> ReadStringPattern(const JsonObjectReader& reader);

// Whether Metaspace puts its character before the text.
enum class MetaspacePrepend { kAlways, kFirst, kNever };
absl::StatusOr<MetaspacePrepend> ReadMetaspacePrepend(
    const JsonObjectReader& reader);

}  // namespace qeff

#endif  // QEFF_TOKENIZER_JSON_STAGE_H_
