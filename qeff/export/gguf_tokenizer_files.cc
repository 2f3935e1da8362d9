// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/gguf_tokenizer_files.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "qeff/tokenizer/sentencepiece_model.pb.h"
#include "qeff/util/json.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// llama.cpp's types of tokens, which are SentencePiece's.
enum TokenType : int32_t {
  kNormalType = 1,
  kUnknownType = 2,
  kControlType = 3,
  kUserDefinedType = 4,
  kUnusedType = 5,
  kByteType = 6,
};

constexpr char kGpt2Pattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr char kLlama3Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kQwen2Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::string Key(absl::string_view name) {
  return absl::StrCat("tokenizer.ggml.", name);
}

// The text as a string of JSON. Precondition: it is UTF-8.
std::string Quote(absl::string_view text) {
  return Json(std::string(text)).dump();
}

// Whether `text` is UTF-8: what is not is replaced when it is written.
bool IsUtf8(absl::string_view text) {
  const Json value = std::string(text);
  const std::string written =
      value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return Json::parse(written).get<std::string>() == text;
}

// Values of tokenizer.ggml.pre.
struct PreTokenizer {
  absl::string_view name;
  absl::string_view pattern;
  absl::string_view normalizer;  // JSON
  bool ignore_merges;
};

constexpr PreTokenizer kPreTokenizers[] = {
    {"gpt-2", kGpt2Pattern, "null", false},
    {"mpt", kGpt2Pattern, R"({"type":"NFC"})", false},
    {"llama-bpe", kLlama3Pattern, "null", true},
    {"qwen2", kQwen2Pattern, R"({"type":"NFC"})", false},
};

class TokenizerFiles {
 public:
  TokenizerFiles(const GgufMetadata& metadata, absl::string_view path)
      : metadata_(metadata), path_(path) {}

  absl::StatusOr<std::vector<std::pair<std::string, std::string>>> Make();

 private:
  absl::Status Wrong(absl::string_view name, absl::string_view expected) const {
    return InvalidInputError(path_, ": key '", Key(name), "': expected ",
                             expected);
  }
  absl::StatusOr<std::string> String(absl::string_view name) const {
    const auto* text = FindGgufValue<std::string>(metadata_, Key(name));
    if (text == nullptr) return Wrong(name, "a string");
    return *text;
  }
  bool BoolOr(absl::string_view name, bool other) const {
    const auto* value = FindGgufValue<bool>(metadata_, Key(name));
    return value == nullptr ? other : *value;
  }
  // The id under NAME_token_id, `other` when there is none.
  absl::StatusOr<int64_t> IdOr(absl::string_view name, int64_t other) const;

  absl::Status ReadTokens();
  absl::Status ReadIds(bool sentencepiece);
  absl::StatusOr<std::string> SentencePieceModel() const;
  void AddNormalizer(sentencepiece_wire::NormalizerSpec* to) const;
  absl::StatusOr<std::string> TokenizerJson() const;
  absl::StatusOr<const PreTokenizer*> FindPreTokenizer() const;
  absl::StatusOr<std::string> Merges() const;
  std::string Vocabulary() const;
  std::string AddedTokens() const;
  std::string PostProcessor() const;
  std::string Config() const;

  const GgufMetadata& metadata_;
  const absl::string_view path_;
  const GgufStrings* tokens_ = nullptr;
  std::vector<int32_t> types_;
  size_t count_ = 0;  // of tokens that are kept
  int64_t bos_id_ = -1;
  int64_t eos_id_ = -1;
  bool add_bos_ = false;
  bool add_eos_ = false;
};

absl::StatusOr<int64_t> TokenizerFiles::IdOr(absl::string_view name,
                                             int64_t other) const {
  const std::string key = absl::StrCat(name, "_token_id");
  const auto* id = FindGgufValue<uint32_t>(metadata_, Key(key));
  const int64_t value = id == nullptr ? other : static_cast<int64_t>(*id);
  if (value < 0 || value < static_cast<int64_t>(tokens_->size())) return value;
  if (id == nullptr) return -1;
  return Wrong(
      key, absl::StrCat("an id below ", tokens_->size(), ", found ", value));
}

absl::Status TokenizerFiles::ReadTokens() {
  tokens_ = FindGgufArray<GgufStrings>(metadata_, Key("tokens"));
  if (tokens_ == nullptr || tokens_->size() == 0 ||
      tokens_->size() > INT32_MAX) {
    return Wrong("tokens", "an array of strings that is not empty");
  }
  const auto* types =
      FindGgufArray<std::vector<int32_t>>(metadata_, Key("token_type"));
  types_.assign(tokens_->size(), kNormalType);
  if (types != nullptr) types_ = *types;
  if (types_.size() != tokens_->size()) {
    return Wrong("token_type",
                 absl::StrCat("as many numbers as tokens, ", tokens_->size(),
                              ", found ", types_.size()));
  }
  count_ = tokens_->size();
  while (count_ > 1 && types_[count_ - 1] == kUnusedType) --count_;
  for (size_t i = 0; i < count_; ++i) {
    if (types_[i] < kNormalType || types_[i] > kByteType) {
      return Wrong("token_type",
                   absl::StrCat("1 to 6, found ", types_[i], " for token ", i));
    }
    if ((*tokens_)[i].empty() || !IsUtf8((*tokens_)[i])) {
      return Wrong("tokens", absl::StrCat("UTF-8 that is not empty, found ",
                                          "something else for token ", i));
    }
  }
  return absl::OkStatus();
}

// llama.cpp's defaults.
absl::Status TokenizerFiles::ReadIds(bool sentencepiece) {
  QEFF_ASSIGN_OR_RETURN(bos_id_, IdOr("bos", sentencepiece ? 1 : -1));
  QEFF_ASSIGN_OR_RETURN(eos_id_, IdOr("eos", sentencepiece ? 2 : -1));
  bool add_bos = sentencepiece;
  if (!sentencepiece) {
    QEFF_ASSIGN_OR_RETURN(const std::string pre, String("pre"));
    add_bos = pre == "llama-bpe";
  }
  add_bos_ = BoolOr("add_bos_token", add_bos) && bos_id_ >= 0;
  add_eos_ = BoolOr("add_eos_token", false) && eos_id_ >= 0;
  return absl::OkStatus();
}

void TokenizerFiles::AddNormalizer(
    sentencepiece_wire::NormalizerSpec* to) const {
  sentencepiece_wire::NormalizerSpec& spec = *to;
  spec.set_add_dummy_prefix(BoolOr("add_space_prefix", true));
  spec.set_remove_extra_whitespaces(BoolOr("remove_extra_whitespaces", false));
  spec.set_escape_whitespaces(true);
  const auto* map = FindGgufArray<std::vector<uint8_t>>(
      metadata_, Key("precompiled_charsmap"));
  if (map != nullptr) {
    spec.set_precompiled_charsmap(std::string(map->begin(), map->end()));
  }
}

absl::StatusOr<std::string> TokenizerFiles::SentencePieceModel() const {
  const auto* scores =
      FindGgufArray<std::vector<float>>(metadata_, Key("scores"));
  if (scores == nullptr || scores->size() != tokens_->size()) {
    return Wrong("scores", absl::StrCat("an array of ", tokens_->size(),
                                        " floats, one a token"));
  }
  sentencepiece_wire::Model model;
  bool has_bytes = false;
  for (size_t i = 0; i < count_; ++i) {
    if (!std::isfinite((*scores)[i])) {
      return Wrong("scores", absl::StrCat("finite ones, found ", (*scores)[i],
                                          " for token ", i));
    }
    sentencepiece_wire::Piece& piece = *model.add_pieces();
    piece.set_piece(std::string((*tokens_)[i]));
    piece.set_score((*scores)[i]);
    piece.set_type(types_[i]);
    has_bytes = has_bytes || types_[i] == kByteType;
  }
  sentencepiece_wire::TrainerSpec& trainer = *model.mutable_trainer_spec();
  trainer.set_model_type(2);
  trainer.set_byte_fallback(has_bytes);
  if (bos_id_ >= 0) {
    trainer.set_bos_piece(
        std::string((*tokens_)[static_cast<size_t>(bos_id_)]));
  }
  if (eos_id_ >= 0) {
    trainer.set_eos_piece(
        std::string((*tokens_)[static_cast<size_t>(eos_id_)]));
  }
  AddNormalizer(model.mutable_normalizer_spec());
  return model.SerializeAsString();
}

absl::StatusOr<const PreTokenizer*> TokenizerFiles::FindPreTokenizer() const {
  QEFF_ASSIGN_OR_RETURN(const std::string name, String("pre"));
  for (const PreTokenizer& known : kPreTokenizers) {
    if (name == known.name) return &known;
  }
  return absl::UnimplementedError(absl::StrCat(
      path_, ": key '", Key("pre"), "': ", JsonForMessage(name),
      " is not supported; supported are gpt-2, mpt, llama-bpe and qwen2"));
}

// Lists are written as text: a vocabulary is too long for an object of Json,
// which looks for each key among all before.

absl::StatusOr<std::string> TokenizerFiles::Merges() const {
  const auto* merges = FindGgufArray<GgufStrings>(metadata_, Key("merges"));
  if (merges == nullptr) return Wrong("merges", "an array of strings");
  std::string list;
  for (size_t i = 0; i < merges->size(); ++i) {
    if (!IsUtf8((*merges)[i])) {
      return Wrong("merges",
                   absl::StrCat("UTF-8, found something else in merge ", i));
    }
    absl::StrAppend(&list, list.empty() ? "" : ",", Quote((*merges)[i]));
  }
  return list;
}

std::string TokenizerFiles::Vocabulary() const {
  std::string list;
  for (size_t i = 0; i < count_; ++i) {
    if (types_[i] != kNormalType) continue;
    absl::StrAppend(&list, list.empty() ? "" : ",", Quote((*tokens_)[i]), ":",
                    i);
  }
  return list;
}

std::string TokenizerFiles::AddedTokens() const {
  std::string list;
  for (size_t i = 0; i < count_; ++i) {
    if (types_[i] == kNormalType) continue;
    absl::StrAppend(&list, list.empty() ? "" : ",", R"({"id":)", i,
                    R"(,"content":)", Quote((*tokens_)[i]),
                    R"(,"single_word":false,"lstrip":false,"rstrip":false,)",
                    R"("normalized":false,"special":)",
                    types_[i] == kUserDefinedType ? "false" : "true", "}");
  }
  return list;
}

std::string TokenizerFiles::PostProcessor() const {
  Json single = Json::array();
  Json special_tokens = Json::object();
  const auto add = [&](int64_t id) {
    const std::string text((*tokens_)[static_cast<size_t>(id)]);
    single.push_back({{"SpecialToken", {{"id", text}, {"type_id", 0}}}});
    special_tokens[text] = {{"id", text},
                            {"ids", Json::array({id})},
                            {"tokens", Json::array({text})}};
  };
  if (add_bos_) add(bos_id_);
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  if (add_eos_) add(eos_id_);
  return Json{{"type", "TemplateProcessing"},
              {"single", single},
              {"pair", Json::array()},
              {"special_tokens", special_tokens}}
      .dump();
}

absl::StatusOr<std::string> TokenizerFiles::TokenizerJson() const {
  QEFF_ASSIGN_OR_RETURN(const PreTokenizer* pre, FindPreTokenizer());
  QEFF_ASSIGN_OR_RETURN(const std::string merges, Merges());
  return absl::StrCat(
      R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[)",
      AddedTokens(), R"(],"normalizer":)", pre->normalizer,
      R"(,"pre_tokenizer":{"type":"Sequence","pretokenizers":[)",
      R"({"type":"Split","pattern":{"Regex":)", Quote(pre->pattern),
      R"(},"behavior":"Isolated","invert":false},)",
      R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,)",
      R"("use_regex":false}]},"post_processor":)", PostProcessor(),
      R"(,"decoder":{"type":"ByteLevel","add_prefix_space":true,)",
      R"("trim_offsets":true,"use_regex":true},"model":{"type":"BPE",)",
      R"("dropout":null,"unk_token":null,"continuing_subword_prefix":null,)",
      R"("end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,)",
      R"("ignore_merges":)", pre->ignore_merges ? "true" : "false",
      R"(,"vocab":{)", Vocabulary(), R"(},"merges":[)", merges, "]}}\n");
}

std::string TokenizerFiles::Config() const {
  Json config;
  config["add_bos_token"] = add_bos_;
  config["add_eos_token"] = add_eos_;
  if (bos_id_ >= 0) {
    config["bos_token"] = std::string((*tokens_)[static_cast<size_t>(bos_id_)]);
  }
  if (eos_id_ >= 0) {
    config["eos_token"] = std::string((*tokens_)[static_cast<size_t>(eos_id_)]);
  }
  return WriteJson(config);
}

absl::StatusOr<std::vector<std::pair<std::string, std::string>>>
TokenizerFiles::Make() {
  QEFF_ASSIGN_OR_RETURN(const std::string model, String("model"));
  if (model != "llama" && model != "gpt2") {
    return absl::UnimplementedError(absl::StrCat(
        path_, ": key '", Key("model"), "': ", JsonForMessage(model),
        " is not supported; supported are llama and gpt2"));
  }
  QEFF_RETURN_IF_ERROR(ReadTokens());
  QEFF_RETURN_IF_ERROR(ReadIds(model == "llama"));
  std::string name = "tokenizer.model";
  std::string content;
  if (model == "llama") {
    QEFF_ASSIGN_OR_RETURN(content, SentencePieceModel());
  } else {
    name = "tokenizer.json";
    QEFF_ASSIGN_OR_RETURN(content, TokenizerJson());
  }
  std::vector<std::pair<std::string, std::string>> files;
  files.emplace_back(std::move(name), std::move(content));
  files.emplace_back("tokenizer_config.json", Config());
  return files;
}

}  // namespace

absl::StatusOr<std::vector<std::pair<std::string, std::string>>>
GgufTokenizerFiles(const GgufMetadata& metadata, absl::string_view path) {
  return TokenizerFiles(metadata, path).Make();
}

}  // namespace qeff
