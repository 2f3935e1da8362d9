// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/portable_tokenizer.h"

#include <cstddef>
#include <utility>

#include "qeff/tokenizer/added_tokens.h"
#include "qeff/tokenizer/bpe_model.h"
#include "qeff/tokenizer/byte_alphabet.h"
#include "qeff/tokenizer/pre_tokenizer.h"
#include "qeff/tokenizer/sentencepiece_models.h"
#include "qeff/tokenizer/text_normalizer.h"
#include "qeff/tokenizer/token_decoder.h"
#include "qeff/tokenizer/utf8.h"
#include "qeff/tokenizer/validate_tables.h"
#include "qeff/tokenizer/vocabulary.h"
#include "qeff/tokenizer/word_model.h"
#include "qeff/tokenizer/word_piece_model.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 30;

// Tokens as the model sees them and as they are decoded: bytes for a byte-level
// model, but for added tokens, which are what they are spelled.
StringPool MakePieces(const TokenizerTables& tables) {
  std::vector<bool> is_added(tables.tokens.size(), false);
  for (const AddedToken& token : tables.added) is_added[token.id] = true;
  StringPool pieces;
  for (size_t id = 0; id < tables.tokens.size(); ++id) {
    const absl::string_view token = tables.tokens[id];
    std::string bytes;
    const bool translated = tables.byte_level && !is_added[id] &&
                            AppendAlphabetBytes(token, &bytes);
    pieces.push_back(translated ? absl::string_view(bytes) : token);
  }
  return pieces;
}

std::unique_ptr<const WordModel> MakeModel(const TokenizerTables* tables,
                                           const StringPool* pieces,
                                           const Vocabulary* vocabulary) {
  switch (tables->model) {
    case ModelKind::kBpe:
      return MakeBpeModel(tables, pieces, vocabulary);
    case ModelKind::kSentencePieceBpe:
      return MakeSentencePieceBpeModel(tables, vocabulary);
    case ModelKind::kUnigram:
      return MakeUnigramModel(tables);
    case ModelKind::kWordPiece:
      break;
  }
  return MakeWordPieceModel(tables);
}

}  // namespace

class PortableTokenizer::Impl {
 public:
  explicit Impl(TokenizerTables tables)
      : tables_(std::move(tables)),
        pieces_(MakePieces(tables_)),
        vocabulary_(&pieces_),
        normalizer_(&tables_),
        pre_tokenizer_(&tables_),
        before_normalizer_(&tables_.unicode),
        after_normalizer_(&tables_.unicode),
        decoder_(&tables_, &pieces_) {}

  absl::Status Initialize();

  absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view text,
                                              bool add_special_tokens) const;

  absl::Status CheckId(int32_t id) const;
  absl::optional<int32_t> TokenToId(absl::string_view token) const;
  bool is_special(int32_t id) const {
    return id >= 0 && static_cast<size_t>(id) < is_special_.size() &&
           is_special_[id];
  }

  const TokenizerTables& tables() const { return tables_; }
  const TokenDecoder& decoder() const { return decoder_; }

 private:
  void IndexTokens();
  absl::Status EncodeSection(absl::string_view text, bool at_begin,
                             WordScratch* scratch,
                             std::vector<int32_t>* ids) const;

  const TokenizerTables tables_;
  const StringPool pieces_;
  Vocabulary vocabulary_;  // of the model
  HashMap<absl::string_view, int32_t> id_of_token_;
  std::vector<bool> is_special_;
  const TextNormalizer normalizer_;
  const PreTokenizer pre_tokenizer_;
  AddedTokenMatcher before_normalizer_;
  AddedTokenMatcher after_normalizer_;
  const TokenDecoder decoder_;
  std::unique_ptr<const WordModel> model_;
};

absl::Status PortableTokenizer::Impl::Initialize() {
  IndexTokens();
  if (tables_.byte_level) {
    for (int byte = 0; byte < 256; ++byte) {
      const char text = static_cast<char>(byte);
      if (vocabulary_.Find(absl::string_view(&text, 1)) >= 0) continue;
      std::string spelling;
      AppendUtf8(ByteToAlphabet(static_cast<uint8_t>(byte)), &spelling);
      return InvalidInputError("vocabulary: byte ", byte, " has no token (\"",
                               spelling, "\")");
    }
  }
  for (const AddedToken& token : tables_.added) {
    if (!token.normalized) {
      before_normalizer_.Add(token.content, token);
      continue;
    }
    const std::string spelling = normalizer_.empty()
                                     ? token.content
                                     : normalizer_.Normalize(token.content);
    if (!spelling.empty()) after_normalizer_.Add(spelling, token);
  }
  model_ = MakeModel(&tables_, &pieces_, &vocabulary_);
  return absl::OkStatus();
}

void PortableTokenizer::Impl::IndexTokens() {
  is_special_.assign(tables_.tokens.size(), false);
  id_of_token_.reserve(tables_.tokens.size());
  for (size_t i = 0; i < tables_.tokens.size(); ++i) {
    const int32_t id = static_cast<int32_t>(i);
    const TokenKind kind = tables_.kinds[i];
    if (kind == TokenKind::kGap) continue;
    if (kind == TokenKind::kControl) is_special_[i] = true;
    id_of_token_.emplace(tables_.tokens[i], id);
    if (kind == TokenKind::kNormal || kind == TokenKind::kUserDefined) {
      vocabulary_.Insert(id);
    }
  }
  for (const AddedToken& token : tables_.added) {
    if (token.special) is_special_[token.id] = true;
  }
}

absl::Status PortableTokenizer::Impl::CheckId(int32_t id) const {
  const size_t count = tables_.tokens.size();
  if (id < 0 || static_cast<size_t>(id) >= count ||
      tables_.kinds[id] == TokenKind::kGap) {
    return InvalidInputError("token id ", id, " is not in the vocabulary of ",
                             count, " tokens");
  }
  return absl::OkStatus();
}

absl::optional<int32_t> PortableTokenizer::Impl::TokenToId(
    absl::string_view token) const {
  const auto it = id_of_token_.find(token);
  if (it == id_of_token_.end()) return absl::nullopt;
  return it->second;
}

absl::Status PortableTokenizer::Impl::EncodeSection(
    absl::string_view text, bool at_begin, WordScratch* scratch,
    std::vector<int32_t>* ids) const {
  std::string normalized;
  if (!normalizer_.empty()) {
    normalized = normalizer_.Normalize(text);
    text = normalized;
    if (text.size() > kMaxTextBytes) {
      return InvalidInputError("normalized text of ", text.size(),
                               " bytes, at most ", kMaxTextBytes,
                               " are supported");
    }
  }
  for (const auto& section : after_normalizer_.Split(text)) {
    if (section.id >= 0) {
      ids->push_back(section.id);
      continue;
    }
    pre_tokenizer_.ForEachWord(
        text.substr(section.begin, section.end - section.begin),
        at_begin && section.begin == 0,
        [&](absl::string_view word) { model_->Encode(word, scratch, ids); });
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> PortableTokenizer::Impl::Encode(
    absl::string_view text, bool add_special_tokens) const {
  if (text.size() > kMaxTextBytes) {
    return InvalidInputError("text of ", text.size(), " bytes, at most ",
                             kMaxTextBytes, " are supported");
  }
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 4 + 4);
  if (add_special_tokens) ids = tables_.prefix;
  WordScratch scratch;
  for (const auto& section : before_normalizer_.Split(text)) {
    if (section.id >= 0) {
      ids.push_back(section.id);
      continue;
    }
    QEFF_RETURN_IF_ERROR(
        EncodeSection(text.substr(section.begin, section.end - section.begin),
                      section.begin == 0, &scratch, &ids));
  }
  if (add_special_tokens) {
    ids.insert(ids.end(), tables_.suffix.begin(), tables_.suffix.end());
  }
  return ids;
}

PortableTokenizer::PortableTokenizer(std::shared_ptr<const Impl> impl)
    : impl_(std::move(impl)) {}

PortableTokenizer::~PortableTokenizer() = default;

absl::StatusOr<std::shared_ptr<const PortableTokenizer::Impl>>
PortableTokenizer::CreateImpl(TokenizerTables tables) {
  QEFF_RETURN_IF_ERROR(ValidateTables(tables));
  auto impl = std::make_shared<Impl>(std::move(tables));
  QEFF_RETURN_IF_ERROR(impl->Initialize());
  return std::shared_ptr<const Impl>(std::move(impl));
}

absl::StatusOr<std::unique_ptr<PortableTokenizer>> PortableTokenizer::Create(
    TokenizerTables tables) {
  QEFF_ASSIGN_OR_RETURN(std::shared_ptr<const Impl> impl,
                        CreateImpl(std::move(tables)));
  return std::unique_ptr<PortableTokenizer>(
      new PortableTokenizer(std::move(impl)));
}

absl::StatusOr<std::vector<int32_t>> PortableTokenizer::Encode(
    absl::string_view text, bool add_special_tokens) const {
  return impl_->Encode(text, add_special_tokens);
}

absl::StatusOr<std::string> PortableTokenizer::Decode(
    absl::Span<const int32_t> ids, bool skip_special_tokens) const {
  std::string text;
  TokenDecoderState state = impl_->decoder().Begin();
  for (size_t i = 0; i < ids.size(); ++i) {
    QEFF_RETURN_IF_ERROR(impl_->CheckId(ids[i]), absl::StrCat("ids[", i, "]"));
    if (skip_special_tokens && impl_->is_special(ids[i])) continue;
    impl_->decoder().Append(ids[i], &state, &text);
  }
  impl_->decoder().Finish(&state, &text);
  return text;
}

int32_t PortableTokenizer::vocab_size() const {
  return static_cast<int32_t>(tables().tokens.size());
}

absl::optional<int32_t> PortableTokenizer::bos_id() const {
  if (tables().bos_id < 0) return absl::nullopt;
  return tables().bos_id;
}

absl::optional<int32_t> PortableTokenizer::eos_id() const {
  if (tables().eos_id < 0) return absl::nullopt;
  return tables().eos_id;
}

absl::optional<int32_t> PortableTokenizer::TokenToId(
    absl::string_view token) const {
  return impl_->TokenToId(token);
}

absl::StatusOr<std::string> PortableTokenizer::IdToToken(int32_t id) const {
  QEFF_RETURN_IF_ERROR(impl_->CheckId(id));
  return std::string(tables().tokens[id]);
}

bool PortableTokenizer::is_special(int32_t id) const {
  return impl_->is_special(id);
}

const TokenizerTables& PortableTokenizer::tables() const {
  return impl_->tables();
}

struct StreamDecoder::State {
  const PortableTokenizer::Impl* tokenizer;
  bool skip_special_tokens;
  TokenDecoderState decoder;
  std::string held_back;
};

StreamDecoder::StreamDecoder(const PortableTokenizer* tokenizer,
                             bool skip_special_tokens)
    : state_(std::make_unique<State>()) {
  state_->tokenizer = tokenizer->impl_.get();
  state_->skip_special_tokens = skip_special_tokens;
  state_->decoder = state_->tokenizer->decoder().Begin();
}

StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;
StreamDecoder::~StreamDecoder() = default;

absl::StatusOr<std::string> StreamDecoder::Append(int32_t id) {
  QEFF_RETURN_IF_ERROR(state_->tokenizer->CheckId(id));
  if (state_->skip_special_tokens && state_->tokenizer->is_special(id)) {
    return std::string();
  }
  std::string text = std::move(state_->held_back);
  state_->tokenizer->decoder().Append(id, &state_->decoder, &text);
  const size_t complete = text.size() - IncompleteUtf8Suffix(text);
  state_->held_back = text.substr(complete);
  text.resize(complete);
  return text;
}

std::string StreamDecoder::Flush() {
  std::string text = std::move(state_->held_back);
  state_->held_back.clear();
  state_->tokenizer->decoder().Finish(&state_->decoder, &text);
  state_->decoder = state_->tokenizer->decoder().Begin();
  return text;
}

}  // namespace qeff
