// SPDX-License-Identifier: Apache-2.0

#include <string>
#include <utility>

#include "absl/types/optional.h"
#include "qeff/tokenizer/json_pipeline.h"
#include "qeff/tokenizer/json_stage.h"
#include "qeff/tokenizer/pattern_scanner.h"
#include "qeff/tokenizer/utf8.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

using Kind = PreTokenizerOp::Kind;

constexpr char kSupported[] =
    "ByteLevel (last), Split, Metaspace, BertPreTokenizer, Whitespace, "
    "WhitespaceSplit, Digits, Punctuation, CharDelimiterSplit, Sequence";

PreTokenizerOp Op(Kind kind) {
  PreTokenizerOp op;
  op.kind = kind;
  return op;
}

absl::StatusOr<SplitBehavior> ReadBehavior(const JsonObjectReader& reader) {
  QEFF_ASSIGN_OR_RETURN(const std::string name,
                        reader.StringOr("behavior", "Isolated"));
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return reader.Unexpected("behavior",
                           "Removed, Isolated, MergedWithPrevious, "
                           "MergedWithNext or Contiguous");
}

absl::StatusOr<PreTokenizerOp> CompileSplit(const JsonObjectReader& reader) {
  QEFF_ASSIGN_OR_RETURN(JsonPattern pattern, ReadPattern(reader));
  PreTokenizerOp op = Op(Kind::kString);
  QEFF_ASSIGN_OR_RETURN(op.behavior, ReadBehavior(reader));
  QEFF_ASSIGN_OR_RETURN(op.invert, reader.BoolOr("invert", false));
  if (!pattern.is_regex) {
    op.content = std::move(pattern.text);
    return op;
  }
  const absl::optional<SplitPattern> known = FindSplitPattern(pattern.text);
  if (!known.has_value()) {
    return absl::UnimplementedError(absl::StrCat(
        reader.context(), ": pattern: Regex: ", JsonForMessage(pattern.text),
        " is not supported; supported are ", SupportedSplitPatterns()));
  }
  op.kind = Kind::kPattern;
  op.pattern = *known;
  return op;
}

absl::StatusOr<PreTokenizerOp> CompileMetaspace(
    const JsonObjectReader& reader) {
  PreTokenizerOp op = Op(Kind::kMetaspace);
  QEFF_ASSIGN_OR_RETURN(op.content,
                        reader.StringOr("replacement", "\xE2\x96\x81"));
  if (CountUtf8(op.content) != 1) {
    return reader.Unexpected("replacement", "one character");
  }
  QEFF_ASSIGN_OR_RETURN(const MetaspacePrepend prepend,
                        ReadMetaspacePrepend(reader));
  op.prepend =
      prepend == MetaspacePrepend::kAlways  ? PreTokenizerOp::Prepend::kAlways
      : prepend == MetaspacePrepend::kFirst ? PreTokenizerOp::Prepend::kFirst
                                            : PreTokenizerOp::Prepend::kNever;
  QEFF_ASSIGN_OR_RETURN(op.split, reader.BoolOr("split", true));
  return op;
}

absl::Status CompileByteLevel(const JsonObjectReader& reader,
                              TokenizerTables* tables) {
  QEFF_ASSIGN_OR_RETURN(const bool add_prefix_space,
                        reader.BoolOr("add_prefix_space", true));
  QEFF_ASSIGN_OR_RETURN(const bool use_regex, reader.BoolOr("use_regex", true));
  if (add_prefix_space) {
    tables->pre_tokenizer.push_back(Op(Kind::kAddPrefixSpace));
  }
  if (use_regex) {
    PreTokenizerOp op = Op(Kind::kPattern);
    op.pattern = SplitPattern::kGpt2;
    tables->pre_tokenizer.push_back(std::move(op));
  }
  tables->byte_level = true;
  return absl::OkStatus();
}

absl::StatusOr<PreTokenizerOp> CompileDelimiter(
    const JsonObjectReader& reader) {
  PreTokenizerOp op = Op(Kind::kString);
  op.behavior = SplitBehavior::kRemoved;
  QEFF_ASSIGN_OR_RETURN(op.content, reader.String("delimiter"));
  if (op.content.empty()) {
    return reader.Unexpected("delimiter", "one that is not empty");
  }
  return op;
}

absl::StatusOr<PreTokenizerOp> CompileType(const std::string& type,
                                           const JsonObjectReader& reader) {
  if (type == "Split") return CompileSplit(reader);
  if (type == "Metaspace") return CompileMetaspace(reader);
  if (type == "CharDelimiterSplit") return CompileDelimiter(reader);
  if (type == "BertPreTokenizer") return Op(Kind::kBert);
  if (type == "Whitespace") return Op(Kind::kWhitespace);
  if (type == "WhitespaceSplit") return Op(Kind::kWhitespaceSplit);
  if (type == "Digits") {
    PreTokenizerOp op = Op(Kind::kDigits);
    QEFF_ASSIGN_OR_RETURN(op.individual,
                          reader.BoolOr("individual_digits", false));
    return op;
  }
  if (type == "Punctuation") {
    PreTokenizerOp op = Op(Kind::kPunctuation);
    QEFF_ASSIGN_OR_RETURN(op.behavior, ReadBehavior(reader));
    return op;
  }
  return UnsupportedType(reader, type, kSupported);
}

}  // namespace

absl::Status CompilePreTokenizer(const Json& pre_tokenizer,
                                 const std::string& context,
                                 TokenizerTables* tables) {
  if (pre_tokenizer.is_null()) return absl::OkStatus();
  QEFF_ASSIGN_OR_RETURN(const JsonObjectReader reader,
                        JsonObjectReader::Create(pre_tokenizer, context));
  QEFF_ASSIGN_OR_RETURN(const std::string type, reader.String("type"));
  if (type == "Sequence") {
    return ForEachStage(reader, "pretokenizers",
                        [&](const Json& item, const std::string& item_context) {
                          return CompilePreTokenizer(item, item_context,
                                                     tables);
                        });
  }
  if (tables->byte_level) {
    // What follows would see GPT-2's alphabet instead of the text.
    return absl::UnimplementedError(absl::StrCat(
        context, ": type: ", JsonForMessage(type),
        " after ByteLevel is not supported; ByteLevel must be the last"));
  }
  if (type == "ByteLevel") {
    QEFF_RETURN_IF_ERROR(CompileByteLevel(reader, tables));
  } else {
    QEFF_ASSIGN_OR_RETURN(PreTokenizerOp op, CompileType(type, reader));
    tables->pre_tokenizer.push_back(std::move(op));
  }
  if (tables->pre_tokenizer.size() > kMaxStageOps) {
    return InvalidInputError(context, ": more than ", kMaxStageOps,
                             " pre-tokenizers");
  }
  return absl::OkStatus();
}

}  // namespace qeff
