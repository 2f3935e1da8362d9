// SPDX-License-Identifier: Apache-2.0

#include <climits>
#include <cstdint>
#include <string>
#include <utility>

#include "qeff/tokenizer/json_pipeline.h"
#include "qeff/tokenizer/json_stage.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

using TokenOp = DecoderTables::TokenOp;

constexpr char kSupported[] =
    "ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace, WordPiece, "
    "Sequence";

// Compiles a list of decoders to the fixed order of DecoderTables.
class Compiler {
 public:
  explicit Compiler(DecoderTables* decoder) : decoder_(decoder) {}

  absl::Status Add(const Json& json, const std::string& context);

 private:
  // How far the order has been gone through.
  enum class Stage { kTokens, kBytes, kFused };

  absl::Status AddType(const std::string& type, const JsonObjectReader& reader);
  absl::Status AddReplace(const JsonObjectReader& reader);
  absl::Status AddMetaspace(const JsonObjectReader& reader);
  absl::Status AddWordPiece(const JsonObjectReader& reader);
  absl::Status AddStrip(const JsonObjectReader& reader);
  absl::Status AddBytes(DecoderTables::Bytes bytes,
                        const JsonObjectReader& reader);
  absl::Status AddTokenOp(TokenOp op, const JsonObjectReader& reader);

  static absl::Status WrongOrder(const JsonObjectReader& reader) {
    return absl::UnimplementedError(absl::StrCat(
        reader.context(),
        ": unsupported order of decoders; supported are any of Replace, "
        "Strip, Metaspace, WordPiece, then ByteFallback or ByteLevel, then "
        "Fuse, then one Strip at the start"));
  }

  DecoderTables* decoder_;
  Stage stage_ = Stage::kTokens;
};

absl::Status Compiler::Add(const Json& json, const std::string& context) {
  QEFF_ASSIGN_OR_RETURN(const JsonObjectReader reader,
                        JsonObjectReader::Create(json, context));
  QEFF_ASSIGN_OR_RETURN(const std::string type, reader.String("type"));
  if (type == "Sequence") {
    return ForEachStage(reader, "decoders",
                        [&](const Json& item, const std::string& item_context) {
                          return Add(item, item_context);
                        });
  }
  QEFF_RETURN_IF_ERROR(AddType(type, reader));
  if (decoder_->per_token.size() > kMaxStageOps) {
    return InvalidInputError(context, ": more than ", kMaxStageOps,
                             " decoders");
  }
  return absl::OkStatus();
}

absl::Status Compiler::AddType(const std::string& type,
                               const JsonObjectReader& reader) {
  if (type == "Replace") return AddReplace(reader);
  if (type == "Metaspace") return AddMetaspace(reader);
  if (type == "WordPiece") return AddWordPiece(reader);
  if (type == "Strip") return AddStrip(reader);
  if (type == "ByteLevel") {
    return AddBytes(DecoderTables::Bytes::kByteLevel, reader);
  }
  if (type == "ByteFallback") {
    return AddBytes(DecoderTables::Bytes::kFallback, reader);
  }
  if (type == "Fuse") {
    stage_ = Stage::kFused;
    return absl::OkStatus();
  }
  return UnsupportedType(reader, type, kSupported);
}

absl::Status Compiler::AddTokenOp(TokenOp op, const JsonObjectReader& reader) {
  if (stage_ != Stage::kTokens) return WrongOrder(reader);
  decoder_->per_token.push_back(std::move(op));
  return absl::OkStatus();
}

absl::Status Compiler::AddBytes(DecoderTables::Bytes bytes,
                                const JsonObjectReader& reader) {
  const bool after_token_ops = !decoder_->per_token.empty();
  if (stage_ != Stage::kTokens ||
      (bytes == DecoderTables::Bytes::kByteLevel && after_token_ops)) {
    return WrongOrder(reader);
  }
  decoder_->bytes = bytes;
  stage_ = Stage::kBytes;
  return absl::OkStatus();
}

absl::Status Compiler::AddReplace(const JsonObjectReader& reader) {
  TokenOp op;
  op.kind = TokenOp::Kind::kReplace;
  QEFF_ASSIGN_OR_RETURN(op.pattern, ReadStringPattern(reader));
  QEFF_ASSIGN_OR_RETURN(op.content, reader.String("content"));
  return AddTokenOp(std::move(op), reader);
}

absl::Status Compiler::AddMetaspace(const JsonObjectReader& reader) {
  TokenOp op;
  op.kind = TokenOp::Kind::kMetaspace;
  QEFF_ASSIGN_OR_RETURN(op.pattern,
                        reader.StringOr("replacement", "\xE2\x96\x81"));
  if (op.pattern.empty()) {
    return reader.Unexpected("replacement", "one character");
  }
  QEFF_ASSIGN_OR_RETURN(const MetaspacePrepend prepend,
                        ReadMetaspacePrepend(reader));
  op.start = prepend == MetaspacePrepend::kNever ? 0 : 1;
  return AddTokenOp(std::move(op), reader);
}

absl::Status Compiler::AddWordPiece(const JsonObjectReader& reader) {
  TokenOp op;
  op.kind = TokenOp::Kind::kWordPiece;
  QEFF_ASSIGN_OR_RETURN(op.content, reader.StringOr("prefix", "##"));
  QEFF_ASSIGN_OR_RETURN(const bool cleanup, reader.BoolOr("cleanup", true));
  QEFF_RETURN_IF_ERROR(AddTokenOp(std::move(op), reader));
  if (!cleanup) return absl::OkStatus();
  TokenOp cleanup_op;
  cleanup_op.kind = TokenOp::Kind::kCleanup;
  return AddTokenOp(std::move(cleanup_op), reader);
}

absl::Status Compiler::AddStrip(const JsonObjectReader& reader) {
  TokenOp op;
  op.kind = TokenOp::Kind::kStrip;
  QEFF_ASSIGN_OR_RETURN(op.content, reader.String("content"));
  if (op.content.empty()) {
    return reader.Unexpected("content", "one character");
  }
  QEFF_ASSIGN_OR_RETURN(const int64_t start,
                        reader.IntOr("start", 0, 0, INT_MAX));
  QEFF_ASSIGN_OR_RETURN(const int64_t stop,
                        reader.IntOr("stop", 0, 0, INT_MAX));
  if (stage_ != Stage::kFused) {
    op.start = static_cast<uint32_t>(start);
    op.stop = static_cast<uint32_t>(stop);
    return AddTokenOp(std::move(op), reader);
  }
  if (stop != 0 || decoder_->strip_count != 0) return WrongOrder(reader);
  decoder_->strip_text = std::move(op.content);
  decoder_->strip_count = static_cast<uint32_t>(start);
  return absl::OkStatus();
}

}  // namespace

absl::Status CompileDecoder(const Json& decoder, const std::string& context,
                            TokenizerTables* tables) {
  if (!decoder.is_null()) {
    QEFF_RETURN_IF_ERROR(Compiler(&tables->decoder).Add(decoder, context));
  } else if (tables->byte_level) {
    tables->decoder.bytes = DecoderTables::Bytes::kByteLevel;
  } else {
    TokenOp op;
    op.kind = TokenOp::Kind::kSpaceBefore;
    tables->decoder.per_token.push_back(std::move(op));
  }
  const bool decodes_bytes =
      tables->decoder.bytes == DecoderTables::Bytes::kByteLevel;
  if (decodes_bytes != tables->byte_level) {
    return absl::UnimplementedError(
        absl::StrCat(context,
                     ": pre-tokenizer and decoder must both be ByteLevel, or "
                     "neither"));
  }
  return absl::OkStatus();
}

}  // namespace qeff
