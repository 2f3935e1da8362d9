// SPDX-License-Identifier: Apache-2.0

#include <string>

#include "qeff/tokenizer/json_pipeline.h"
#include "qeff/tokenizer/json_stage.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

using Kind = NormalizerOp::Kind;

constexpr char kSupported[] =
    "NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, Strip, StripAccents, "
    "BertNormalizer, Sequence";

void Add(Kind kind, TokenizerTables* tables) {
  tables->normalizer.push_back({kind, std::string(), std::string()});
}

absl::Status CompileBert(const JsonObjectReader& reader,
                         TokenizerTables* tables) {
  QEFF_ASSIGN_OR_RETURN(const bool clean, reader.BoolOr("clean_text", true));
  QEFF_ASSIGN_OR_RETURN(const bool cjk,
                        reader.BoolOr("handle_chinese_chars", true));
  QEFF_ASSIGN_OR_RETURN(const bool lowercase, reader.BoolOr("lowercase", true));
  QEFF_ASSIGN_OR_RETURN(const bool strip_accents,
                        reader.BoolOr("strip_accents", lowercase));
  if (clean) Add(Kind::kCleanText, tables);
  if (cjk) Add(Kind::kSpaceCjk, tables);
  if (strip_accents) {
    Add(Kind::kNfd, tables);
    Add(Kind::kRemoveNonspacingMarks, tables);
  }
  if (lowercase) Add(Kind::kLowercase, tables);
  return absl::OkStatus();
}

absl::Status CompileReplace(const JsonObjectReader& reader,
                            TokenizerTables* tables) {
  QEFF_ASSIGN_OR_RETURN(std::string pattern, ReadStringPattern(reader));
  QEFF_ASSIGN_OR_RETURN(std::string content, reader.String("content"));
  tables->normalizer.push_back(
      {Kind::kReplace, std::move(pattern), std::move(content)});
  return absl::OkStatus();
}

absl::Status CompileStrip(const JsonObjectReader& reader,
                          TokenizerTables* tables) {
  QEFF_ASSIGN_OR_RETURN(const bool left, reader.BoolOr("strip_left", false));
  QEFF_ASSIGN_OR_RETURN(const bool right, reader.BoolOr("strip_right", false));
  if (left) Add(Kind::kStripLeft, tables);
  if (right) Add(Kind::kStripRight, tables);
  return absl::OkStatus();
}

absl::Status CompileType(const std::string& type,
                         const JsonObjectReader& reader,
                         TokenizerTables* tables) {
  const std::pair<absl::string_view, Kind> kSimple[] = {
      {"NFC", Kind::kNfc},
      {"NFD", Kind::kNfd},
      {"NFKC", Kind::kNfkc},
      {"NFKD", Kind::kNfkd},
      {"Lowercase", Kind::kLowercase},
      {"StripAccents", Kind::kRemoveMarks},
  };
  for (const auto& [name, kind] : kSimple) {
    if (type == name) {
      Add(kind, tables);
      return absl::OkStatus();
    }
  }
  if (type == "BertNormalizer") return CompileBert(reader, tables);
  if (type == "Replace") return CompileReplace(reader, tables);
  if (type == "Strip") return CompileStrip(reader, tables);
  if (type == "Prepend") {
    QEFF_ASSIGN_OR_RETURN(std::string prepend, reader.String("prepend"));
    tables->normalizer.push_back(
        {Kind::kPrepend, std::string(), std::move(prepend)});
    return absl::OkStatus();
  }
  return UnsupportedType(reader, type, kSupported);
}

}  // namespace

absl::Status CompileNormalizer(const Json& normalizer,
                               const std::string& context,
                               TokenizerTables* tables) {
  if (normalizer.is_null()) return absl::OkStatus();
  QEFF_ASSIGN_OR_RETURN(const JsonObjectReader reader,
                        JsonObjectReader::Create(normalizer, context));
  QEFF_ASSIGN_OR_RETURN(const std::string type, reader.String("type"));
  if (type == "Sequence") {
    return ForEachStage(reader, "normalizers",
                        [&](const Json& item, const std::string& item_context) {
                          return CompileNormalizer(item, item_context, tables);
                        });
  }
  QEFF_RETURN_IF_ERROR(CompileType(type, reader, tables));
  if (tables->normalizer.size() > kMaxStageOps) {
    return InvalidInputError(context, ": more than ", kMaxStageOps,
                             " normalizers");
  }
  return absl::OkStatus();
}

}  // namespace qeff
