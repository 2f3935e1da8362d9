// SPDX-License-Identifier: Apache-2.0

#include <climits>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "qeff/tokenizer/json_pipeline.h"
#include "qeff/tokenizer/json_stage.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr char kSupported[] =
    "TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel, "
    "Sequence";
constexpr size_t kMaxTemplateIds = 4096;

// What stands before and after the text.
struct Template {
  std::vector<int32_t> prefix;
  std::vector<int32_t> suffix;
};

// Appends the ids that special_tokens gives for `name`.
absl::Status AppendSpecial(const JsonObjectReader& special_tokens,
                           const std::string& name, std::vector<int32_t>* ids) {
  QEFF_ASSIGN_OR_RETURN(const absl::optional<JsonObjectReader> token,
                        special_tokens.ObjectOr(name));
  if (!token.has_value()) {
    return special_tokens.Unexpected(name, "a special token of the template");
  }
  const Json* list = token->Find("ids");
  if (list == nullptr || !list->is_array() || list->size() > kMaxTemplateIds) {
    return token->Unexpected("ids", "an array of token ids");
  }
  for (const Json& id : *list) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > INT_MAX) {
      return token->Unexpected("ids", "an array of token ids");
    }
    ids->push_back(static_cast<int32_t>(id.get<uint64_t>()));
  }
  return absl::OkStatus();
}

absl::StatusOr<Template> CompileTemplate(const JsonObjectReader& reader) {
  QEFF_ASSIGN_OR_RETURN(const absl::optional<JsonObjectReader> specials,
                        reader.ObjectOr("special_tokens"));
  Template result;
  int sequences = 0;
  QEFF_RETURN_IF_ERROR(ForEachStage(
      reader, "single",
      [&](const Json& item, const std::string& context) -> absl::Status {
        QEFF_ASSIGN_OR_RETURN(const JsonObjectReader piece,
                              JsonObjectReader::Create(item, context));
        if (piece.Has("Sequence")) {
          ++sequences;
          return absl::OkStatus();
        }
        QEFF_ASSIGN_OR_RETURN(const absl::optional<JsonObjectReader> special,
                              piece.ObjectOr("SpecialToken"));
        if (!special.has_value() || !specials.has_value()) {
          return piece.Unexpected("SpecialToken",
                                  "SpecialToken or Sequence, and what it "
                                  "stands for in special_tokens");
        }
        QEFF_ASSIGN_OR_RETURN(const std::string name, special->String("id"));
        return AppendSpecial(*specials, name,
                             sequences == 0 ? &result.prefix : &result.suffix);
      }));
  if (sequences != 1) {
    return absl::UnimplementedError(
        absl::StrCat(reader.context(),
                     ": single: expected one Sequence, found ", sequences));
  }
  return result;
}

// ["[CLS]", 101].
absl::StatusOr<int32_t> ReadTokenAndId(const JsonObjectReader& reader,
                                       const std::string& key) {
  const Json* pair = reader.Find(key);
  if (pair == nullptr || !pair->is_array() || pair->size() != 2 ||
      !(*pair)[1].is_number_unsigned() ||
      (*pair)[1].get<uint64_t>() > INT_MAX) {
    return reader.Unexpected(key, "[TOKEN, ID]");
  }
  return static_cast<int32_t>((*pair)[1].get<uint64_t>());
}

absl::StatusOr<Template> CompileType(const std::string& type,
                                     const JsonObjectReader& reader) {
  if (type == "ByteLevel") return Template();
  if (type == "TemplateProcessing") return CompileTemplate(reader);
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    QEFF_ASSIGN_OR_RETURN(const int32_t begin, ReadTokenAndId(reader, "cls"));
    QEFF_ASSIGN_OR_RETURN(const int32_t end, ReadTokenAndId(reader, "sep"));
    return Template{{begin}, {end}};
  }
  return UnsupportedType(reader, type, kSupported);
}

}  // namespace

absl::Status CompilePostProcessor(const Json& post_processor,
                                  const std::string& context,
                                  TokenizerTables* tables) {
  if (post_processor.is_null()) return absl::OkStatus();
  QEFF_ASSIGN_OR_RETURN(const JsonObjectReader reader,
                        JsonObjectReader::Create(post_processor, context));
  QEFF_ASSIGN_OR_RETURN(const std::string type, reader.String("type"));
  if (type == "Sequence") {
    return ForEachStage(reader, "processors",
                        [&](const Json& item, const std::string& item_context) {
                          return CompilePostProcessor(item, item_context,
                                                      tables);
                        });
  }
  QEFF_ASSIGN_OR_RETURN(const Template added, CompileType(type, reader));
  // A later processor goes around what the earlier ones made.
  tables->prefix.insert(tables->prefix.begin(), added.prefix.begin(),
                        added.prefix.end());
  tables->suffix.insert(tables->suffix.end(), added.suffix.begin(),
                        added.suffix.end());
  if (tables->prefix.size() + tables->suffix.size() > kMaxTemplateIds) {
    return InvalidInputError(context, ": more than ", kMaxTemplateIds,
                             " special tokens");
  }
  return absl::OkStatus();
}

}  // namespace qeff
