// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/build_from_sentencepiece.h"

#include <climits>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "qeff/tokenizer/byte_tokens.h"
#include "qeff/tokenizer/darts.h"
#include "qeff/tokenizer/sentencepiece_model.pb.h"
#include "qeff/tokenizer/unicode_tables_icu.h"
#include "qeff/tokenizer/utf8.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

namespace wire = ::qeff::sentencepiece_wire;

constexpr size_t kMaxPieceBytes = 1024;
// nmt_nfkc_cf, the largest table that SentencePiece comes with, has 0.2 MiB.
constexpr size_t kMaxTrieBytes = size_t{4} << 20;
// U+FDFA, the longest of NFKC, becomes 33 bytes.
constexpr size_t kMaxReplacementBytes = 64;
constexpr char kMetaspace[] = "\xE2\x96\x81";  // U+2581

// SentencePiece.Type.
enum WireType { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };
// TrainerSpec.ModelType.
enum WireModel { kUnigram = 1, kBpe, kWord, kChar };

absl::StatusOr<TokenKind> KindOf(const wire::Piece& piece, bool bpe) {
  switch (piece.type()) {
    case kNormal:
      return TokenKind::kNormal;
    case kUnknown:
      return TokenKind::kUnknown;
    case kControl:
      return TokenKind::kControl;
    case kUserDefined:
      return TokenKind::kUserDefined;
    case kByte:
      if (ByteOfToken(piece.piece()) >= 0) return TokenKind::kByte;
      return InvalidInputError("a byte piece must be spelled <0xHH>");
    case kUnused:
      if (!bpe) return TokenKind::kControl;
      return absl::UnimplementedError(
          "type: unused pieces of a BPE model are not supported");
    default:
      return InvalidInputError("type: expected 1 to 6, found ", piece.type());
  }
}

absl::Status AddPiece(const wire::Piece& piece, bool bpe,
                      HashSet<absl::string_view>* known,
                      TokenizerTables* tables) {
  const std::string& text = piece.piece();
  if (text.empty() || text.size() > kMaxPieceBytes) {
    return InvalidInputError("piece: expected 1 to ", kMaxPieceBytes,
                             " bytes, found ", text.size());
  }
  if (!known->insert(text).second) {
    return InvalidInputError("piece: duplicate \"", absl::CHexEscape(text),
                             "\"");
  }
  if (!std::isfinite(piece.score())) {
    return InvalidInputError("score: not finite");
  }
  QEFF_ASSIGN_OR_RETURN(const TokenKind kind, KindOf(piece, bpe));
  const int32_t id = static_cast<int32_t>(tables->tokens.size());
  tables->tokens.push_back(text);
  tables->kinds.push_back(kind);
  tables->scores.push_back(piece.score());
  if (kind == TokenKind::kUnknown) {
    if (tables->unk_id >= 0) return InvalidInputError("second unknown piece");
    tables->unk_id = id;
  }
  const bool special = kind == TokenKind::kUnknown || piece.type() == kControl;
  if (special) {
    AddedToken token;
    token.content = text;
    token.id = id;
    token.special = true;
    tables->added.push_back(std::move(token));
  }
  return absl::OkStatus();
}

absl::Status AddVocabulary(const wire::Model& model, TokenizerTables* tables) {
  const bool bpe = tables->model == ModelKind::kSentencePieceBpe;
  HashSet<absl::string_view> known;
  for (int i = 0; i < model.pieces_size(); ++i) {
    QEFF_RETURN_IF_ERROR(AddPiece(model.pieces(i), bpe, &known, tables),
                         absl::StrCat("pieces[", i, "]"));
  }
  if (tables->unk_id < 0) {
    return InvalidInputError("pieces: none is the unknown piece");
  }
  tables->fuse_unk = true;
  tables->byte_fallback = model.trainer_spec().byte_fallback();
  if (tables->byte_fallback) {
    const ByteTokens bytes(*tables);
    for (int byte = 0; byte < 256; ++byte) {
      if (bytes.Find(static_cast<char>(byte)) >= 0) continue;
      return InvalidInputError(
          "pieces: byte_fallback without a piece for byte ", byte);
    }
  }
  return absl::OkStatus();
}

// Values of the trie are where a replacement begins.
bool ValidReplacement(uint32_t begin, const void* context) {
  const auto& text = *static_cast<const std::string*>(context);
  if (begin >= text.size() || (begin > 0 && text[begin - 1] != '\0')) {
    return false;
  }
  return text.find('\0', begin) - begin <= kMaxReplacementBytes;
}

bool ValidUtf8(absl::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = DecodeUtf8(text, i);
    if (c.value == kInvalidCodePoint) return false;
    i += c.length;
  }
  return true;
}

uint32_t LittleEndian32(absl::string_view bytes) {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) {
    value |= static_cast<uint32_t>(static_cast<uint8_t>(bytes[i])) << (8 * i);
  }
  return value;
}

// precompiled_charsmap: size of the trie in bytes, the trie, replacements.
absl::Status AddCharsmap(absl::string_view map,
                         SentencePieceNormalizer* normalizer) {
  if (map.empty()) return absl::OkStatus();
  const size_t trie_bytes = map.size() >= 4 ? LittleEndian32(map) : 0;
  if (trie_bytes == 0 || trie_bytes % 1024 != 0 || trie_bytes > kMaxTrieBytes ||
      trie_bytes > map.size() - 4) {
    return InvalidInputError("a table of ", map.size(),
                             " bytes cannot have a trie of ", trie_bytes);
  }
  for (size_t i = 0; i < trie_bytes; i += 4) {
    normalizer->trie.push_back(LittleEndian32(map.substr(4 + i)));
  }
  normalizer->replacements = std::string(map.substr(4 + trie_bytes));
  const std::string& replacements = normalizer->replacements;
  if (replacements.empty() || replacements.back() != '\0' ||
      !ValidUtf8(replacements)) {
    return InvalidInputError("replacements are not NUL-terminated UTF-8");
  }
  if (!ValidDarts(normalizer->trie, ValidReplacement, &replacements)) {
    return InvalidInputError("the trie is corrupted");
  }
  return absl::OkStatus();
}

absl::Status AddNormalizer(const wire::Model& model, TokenizerTables* tables) {
  const wire::NormalizerSpec& spec = model.normalizer_spec();
  SentencePieceNormalizer& normalizer = tables->sentencepiece;
  normalizer.add_dummy_prefix = spec.add_dummy_prefix();
  normalizer.remove_extra_whitespaces = spec.remove_extra_whitespaces();
  normalizer.escape_whitespaces = spec.escape_whitespaces();
  normalizer.whitespace_as_suffix =
      model.trainer_spec().treat_whitespace_as_suffix();
  tables->normalizer.push_back(
      {NormalizerOp::Kind::kSentencePiece, std::string(), std::string()});
  return AddCharsmap(spec.precompiled_charsmap(), &normalizer);
}

void AddDecoder(TokenizerTables* tables) {
  DecoderTables& decoder = tables->decoder;
  DecoderTables::TokenOp replace;
  replace.kind = DecoderTables::TokenOp::Kind::kReplace;
  replace.pattern = kMetaspace;
  replace.content = " ";
  decoder.per_token.push_back(std::move(replace));
  if (tables->byte_fallback) decoder.bytes = DecoderTables::Bytes::kFallback;
  const SentencePieceNormalizer& normalizer = tables->sentencepiece;
  if (normalizer.add_dummy_prefix && !normalizer.whitespace_as_suffix) {
    decoder.strip_text = " ";
    decoder.strip_count = 1;
  }
}

int32_t FindControl(const TokenizerTables& tables, absl::string_view piece) {
  for (size_t id = 0; id < tables.tokens.size(); ++id) {
    if (tables.kinds[id] == TokenKind::kControl && tables.tokens[id] == piece) {
      return static_cast<int32_t>(id);
    }
  }
  return -1;
}

absl::Status Build(const wire::Model& model,
                   const SentencePieceOptions& options,
                   TokenizerTables* tables) {
  if (model.pieces_size() == 0) return InvalidInputError("pieces: none");
  const int type = model.trainer_spec().model_type();
  if (type == kWord || type == kChar) {
    return absl::UnimplementedError(
        "trainer_spec: model_type: word and char models are not supported; "
        "unigram and bpe are");
  }
  if (type != kUnigram && type != kBpe) {
    return InvalidInputError(
        "trainer_spec: model_type: expected 1 to 4, found ", type);
  }
  tables->model =
      type == kBpe ? ModelKind::kSentencePieceBpe : ModelKind::kUnigram;
  QEFF_RETURN_IF_ERROR(AddVocabulary(model, tables));
  QEFF_RETURN_IF_ERROR(AddNormalizer(model, tables),
                       "normalizer_spec: precompiled_charsmap");
  AddDecoder(tables);
  tables->bos_id = FindControl(*tables, model.trainer_spec().bos_piece());
  tables->eos_id = FindControl(*tables, model.trainer_spec().eos_piece());
  if (options.add_bos && tables->bos_id >= 0) {
    tables->prefix.push_back(tables->bos_id);
  }
  if (options.add_eos && tables->eos_id >= 0) {
    tables->suffix.push_back(tables->eos_id);
  }
  QEFF_ASSIGN_OR_RETURN(tables->unicode, BuildUnicodeTables());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerTables> BuildFromSentencePiece(
    absl::string_view model, absl::string_view context,
    const SentencePieceOptions& options) {
  wire::Model proto;
  if (model.size() > INT_MAX ||
      !proto.ParseFromArray(model.data(), static_cast<int>(model.size()))) {
    return InvalidInputError(context, ": not a SentencePiece model");
  }
  TokenizerTables tables;
  QEFF_RETURN_IF_ERROR(Build(proto, options, &tables), context);
  return tables;
}

}  // namespace qeff
