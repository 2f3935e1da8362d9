// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/json_stage.h"

#include "qeff/util/status.h"

namespace qeff {

absl::Status ForEachStage(
    const JsonObjectReader& reader, const std::string& key,
    const std::function<absl::Status(const Json&, const std::string&)>&
        compile) {
  const Json* list = reader.Find(key);
  if (list == nullptr || !list->is_array() || list->size() > kMaxStageOps) {
    return reader.Unexpected(
        key, absl::StrCat("an array of at most ", kMaxStageOps, " elements"));
  }
  for (size_t i = 0; i < list->size(); ++i) {
    QEFF_RETURN_IF_ERROR(compile(
        (*list)[i], absl::StrCat(reader.context(), ": ", key, "[", i, "]")));
  }
  return absl::OkStatus();
}

absl::Status UnsupportedType(const JsonObjectReader& reader,
                             absl::string_view type,
                             absl::string_view supported) {
  return absl::UnimplementedError(absl::StrCat(
      reader.context(), ": type: ", JsonForMessage(std::string(type)),
      " is not supported; supported are ", supported));
}

absl::StatusOr<JsonPattern> ReadPattern(const JsonObjectReader& reader) {
  QEFF_ASSIGN_OR_RETURN(const absl::optional<JsonObjectReader> pattern,
                        reader.ObjectOr("pattern"));
  const std::string expected = "{\"String\": ...} or {\"Regex\": ...}";
  if (!pattern.has_value()) return reader.Unexpected("pattern", expected);
  const bool is_regex = pattern->Has("Regex");
  QEFF_ASSIGN_OR_RETURN(std::string text,
                        pattern->String(is_regex ? "Regex" : "String"));
  if (text.empty())
    return reader.Unexpected("pattern", "one that is not empty");
  return JsonPattern{is_regex, std::move(text)};
}

absl::StatusOr<std::string> ReadStringPattern(const JsonObjectReader& reader) {
  QEFF_ASSIGN_OR_RETURN(JsonPattern pattern, ReadPattern(reader));
  if (pattern.is_regex) {
    return absl::UnimplementedError(absl::StrCat(
        reader.context(), ": pattern: Regex: ", JsonForMessage(pattern.text),
        " is not supported; a String is"));
  }
  return std::move(pattern.text);
}

absl::StatusOr<MetaspacePrepend> ReadMetaspacePrepend(
    const JsonObjectReader& reader) {
  QEFF_ASSIGN_OR_RETURN(const bool add_prefix_space,
                        reader.BoolOr("add_prefix_space", true));
  QEFF_ASSIGN_OR_RETURN(
      const std::string scheme,
      reader.StringOr("prepend_scheme", add_prefix_space ? "always" : "never"));
  if (scheme == "always") return MetaspacePrepend::kAlways;
  if (scheme == "first") return MetaspacePrepend::kFirst;
  if (scheme == "never") return MetaspacePrepend::kNever;
  return reader.Unexpected("prepend_scheme",
                           "\"always\", \"first\" or \"never\"");
}

}  // namespace qeff
