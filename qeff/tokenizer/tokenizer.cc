// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/tokenizer.h"

#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "qeff/tokenizer/build_from_json.h"
#include "qeff/tokenizer/build_from_sentencepiece.h"
#include "qeff/util/json.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{256} << 20;
constexpr uint64_t kMaxConfigBytes = uint64_t{16} << 20;

// What tokenizer_config.json says; members that it lacks are not set.
struct TokenizerConfig {
  absl::optional<std::string> bos_token;
  absl::optional<std::string> eos_token;
  SentencePieceOptions options;
};

// A token: a string, or an object with "content".
absl::Status ReadToken(const JsonObjectReader& config, const std::string& key,
                       absl::optional<std::string>* token) {
  const Json* value = config.Find(key);
  if (value == nullptr) return absl::OkStatus();
  if (value->is_object() && value->contains("content")) {
    value = &(*value)["content"];
  }
  if (!value->is_string()) {
    return config.Unexpected(key, "a token or an object with its content");
  }
  *token = value->get<std::string>();
  return absl::OkStatus();
}

absl::StatusOr<TokenizerConfig> ReadConfig(const std::string& path) {
  TokenizerConfig result;
  const absl::StatusOr<std::string> text =
      ReadFileToString(path, kMaxConfigBytes);
  if (absl::IsNotFound(text.status())) return result;
  QEFF_RETURN_IF_ERROR(text.status());
  QEFF_ASSIGN_OR_RETURN(const Json json, ParseJson(*text, path));
  QEFF_ASSIGN_OR_RETURN(const JsonObjectReader config,
                        JsonObjectReader::Create(json, path));
  QEFF_RETURN_IF_ERROR(ReadToken(config, "bos_token", &result.bos_token));
  QEFF_RETURN_IF_ERROR(ReadToken(config, "eos_token", &result.eos_token));
  QEFF_ASSIGN_OR_RETURN(result.options.add_bos,
                        config.BoolOr("add_bos_token", true));
  QEFF_ASSIGN_OR_RETURN(result.options.add_eos,
                        config.BoolOr("add_eos_token", false));
  return result;
}

// The id of `token`, or -1: configs name tokens that a vocabulary lacks.
int32_t FindToken(const TokenizerTables& tables,
                  const absl::optional<std::string>& token) {
  for (size_t id = 0; token.has_value() && id < tables.tokens.size(); ++id) {
    if (tables.kinds[id] != TokenKind::kGap && tables.tokens[id] == *token) {
      return static_cast<int32_t>(id);
    }
  }
  return -1;
}

void SetEnds(const TokenizerConfig& config, TokenizerTables* tables) {
  const int32_t bos_id = FindToken(*tables, config.bos_token);
  const int32_t eos_id = FindToken(*tables, config.eos_token);
  if (bos_id >= 0) tables->bos_id = bos_id;
  if (eos_id >= 0) tables->eos_id = eos_id;
}

absl::StatusOr<TokenizerTables> ReadTokenizerJson(const std::string& path) {
  QEFF_ASSIGN_OR_RETURN(const std::string text,
                        ReadFileToString(path, kMaxFileBytes));
  return BuildFromTokenizerJson(text, path);
}

absl::StatusOr<TokenizerTables> ReadSentencePiece(
    const std::string& path, const SentencePieceOptions& options) {
  QEFF_ASSIGN_OR_RETURN(const std::string text,
                        ReadFileToString(path, kMaxFileBytes));
  return BuildFromSentencePiece(text, path, options);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromTables(
    TokenizerTables tables, const std::string& path) {
  QEFF_ASSIGN_OR_RETURN(std::shared_ptr<const Impl> impl,
                        CreateImpl(std::move(tables)), path);
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(impl)));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromFolder(
    const std::string& folder) {
  QEFF_ASSIGN_OR_RETURN(
      const TokenizerConfig config,
      ReadConfig(absl::StrCat(folder, "/tokenizer_config.json")));
  std::string path = absl::StrCat(folder, "/tokenizer.json");
  absl::StatusOr<TokenizerTables> tables = ReadTokenizerJson(path);
  if (absl::IsNotFound(tables.status())) {
    path = absl::StrCat(folder, "/tokenizer.model");
    tables = ReadSentencePiece(path, config.options);
    if (absl::IsNotFound(tables.status())) {
      return absl::NotFoundError(absl::StrCat(
          folder, ": neither tokenizer.json nor tokenizer.model is there"));
    }
  }
  QEFF_RETURN_IF_ERROR(tables.status());
  SetEnds(config, &*tables);
  return FromTables(*std::move(tables), path);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromTokenizerJson(
    const std::string& path) {
  QEFF_ASSIGN_OR_RETURN(TokenizerTables tables, ReadTokenizerJson(path));
  return FromTables(std::move(tables), path);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromSentencePiece(
    const std::string& path) {
  QEFF_ASSIGN_OR_RETURN(TokenizerTables tables,
                        ReadSentencePiece(path, SentencePieceOptions()));
  return FromTables(std::move(tables), path);
}

}  // namespace qeff
