// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/build_from_json.h"

#include <algorithm>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "qeff/tokenizer/json_pipeline.h"
#include "qeff/tokenizer/tokenizer_json_document.h"
#include "qeff/tokenizer/unicode_tables_icu.h"
#include "qeff/tokenizer/vocabulary.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/json.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr size_t kMaxAddedTokenBytes = 1024;
constexpr size_t kMaxGaps = 1024;
constexpr int64_t kMaxId = (int64_t{1} << 26) - 1;

// An error message's rendering of a token.
std::string Quoted(absl::string_view token) {
  return JsonForMessage(Json(std::string(token)));
}

// Builds the tables of one document. `context` is the path of the file.
class Builder {
 public:
  Builder(const TokenizerJsonDocument& document, std::string context)
      : document_(document), context_(std::move(context)) {}

  absl::StatusOr<TokenizerTables> Build();

 private:
  absl::Status ReadAddedTokens(const JsonObjectReader& root);
  absl::Status ReadAddedToken(const Json& json, const std::string& context);
  absl::Status BuildVocabulary();
  absl::StatusOr<size_t> CountIds() const;
  absl::Status PlaceVocab(std::vector<int32_t>* places);
  absl::Status PlaceAdded(std::vector<int32_t>* places) const;
  absl::Status ReadModel(const JsonObjectReader& model);
  absl::Status ReadBpe(const JsonObjectReader& model);
  absl::Status ReadMerges(const JsonObjectReader& model);
  absl::Status ReadWordPiece(const JsonObjectReader& model);
  absl::Status ReadUnknown(const JsonObjectReader& model, bool required);
  absl::StatusOr<std::string> ModelType(const JsonObjectReader& model) const;
  const Json& Member(const std::string& key) const;
  std::string At(const std::string& key) const {
    return absl::StrCat(context_, ": ", key);
  }

  static constexpr int32_t kNowhere = -1;

  const TokenizerJsonDocument& document_;
  const std::string context_;
  TokenizerTables tables_;
  Vocabulary vocabulary_;  // of model.vocab, by place in the document
};

const Json& Builder::Member(const std::string& key) const {
  static const Json* const kNull = new Json(nullptr);
  const auto it = document_.root.find(key);
  return it == document_.root.end() ? *kNull : *it;
}

absl::StatusOr<TokenizerTables> Builder::Build() {
  QEFF_ASSIGN_OR_RETURN(const JsonObjectReader root,
                        JsonObjectReader::Create(document_.root, context_));
  QEFF_ASSIGN_OR_RETURN(const absl::optional<JsonObjectReader> model,
                        root.ObjectOr("model"));
  if (!model.has_value()) return root.Unexpected("model", "an object");
  QEFF_ASSIGN_OR_RETURN(const std::string type, ModelType(*model));
  if (type != "BPE" && type != "WordPiece") {
    return absl::UnimplementedError(
        absl::StrCat(model->context(), ": type: ", Quoted(type),
                     " is not supported; supported are BPE and WordPiece"));
  }
  tables_.model = type == "BPE" ? ModelKind::kBpe : ModelKind::kWordPiece;
  const Json* vocab = model->Find("vocab");
  if (vocab == nullptr || !vocab->is_object()) {
    return model->Unexpected("vocab", "an object from token to id");
  }
  QEFF_RETURN_IF_ERROR(ReadAddedTokens(root));
  QEFF_RETURN_IF_ERROR(BuildVocabulary());
  QEFF_RETURN_IF_ERROR(
      CompileNormalizer(Member("normalizer"), At("normalizer"), &tables_));
  QEFF_RETURN_IF_ERROR(CompilePreTokenizer(Member("pre_tokenizer"),
                                           At("pre_tokenizer"), &tables_));
  QEFF_RETURN_IF_ERROR(ReadModel(*model));
  QEFF_RETURN_IF_ERROR(CompilePostProcessor(Member("post_processor"),
                                            At("post_processor"), &tables_));
  QEFF_RETURN_IF_ERROR(
      CompileDecoder(Member("decoder"), At("decoder"), &tables_));
  QEFF_ASSIGN_OR_RETURN(tables_.unicode, BuildUnicodeTables());
  return std::move(tables_);
}

absl::StatusOr<std::string> Builder::ModelType(
    const JsonObjectReader& model) const {
  if (model.Has("type")) return model.String("type");
  if (model.Has("merges")) return std::string("BPE");
  if (model.Has("continuing_subword_prefix")) return std::string("WordPiece");
  return model.Unexpected("type", "BPE or WordPiece");
}

absl::Status Builder::ReadAddedTokens(const JsonObjectReader& root) {
  const Json* list = root.Find("added_tokens");
  if (list == nullptr) return absl::OkStatus();
  if (!list->is_array()) return root.Unexpected("added_tokens", "an array");
  for (size_t i = 0; i < list->size(); ++i) {
    QEFF_RETURN_IF_ERROR(ReadAddedToken(
        (*list)[i], absl::StrCat(context_, ": added_tokens[", i, "]")));
  }
  return absl::OkStatus();
}

absl::Status Builder::ReadAddedToken(const Json& json,
                                     const std::string& context) {
  QEFF_ASSIGN_OR_RETURN(const JsonObjectReader reader,
                        JsonObjectReader::Create(json, context));
  AddedToken token;
  QEFF_ASSIGN_OR_RETURN(const int64_t id, reader.Int("id", 0, kMaxId));
  token.id = static_cast<int32_t>(id);
  QEFF_ASSIGN_OR_RETURN(token.content, reader.String("content"));
  if (token.content.empty() || token.content.size() > kMaxAddedTokenBytes ||
      token.content.find('\0') != std::string::npos) {
    return reader.Unexpected(
        "content",
        absl::StrCat("1 to ", kMaxAddedTokenBytes, " bytes without NUL"));
  }
  QEFF_ASSIGN_OR_RETURN(token.special, reader.BoolOr("special", false));
  QEFF_ASSIGN_OR_RETURN(token.single_word, reader.BoolOr("single_word", false));
  QEFF_ASSIGN_OR_RETURN(token.lstrip, reader.BoolOr("lstrip", false));
  QEFF_ASSIGN_OR_RETURN(token.rstrip, reader.BoolOr("rstrip", false));
  QEFF_ASSIGN_OR_RETURN(token.normalized,
                        reader.BoolOr("normalized", !token.special));
  tables_.added.push_back(std::move(token));
  return absl::OkStatus();
}

absl::StatusOr<size_t> Builder::CountIds() const {
  int32_t largest = -1;
  for (const int32_t id : document_.vocab_ids) largest = std::max(largest, id);
  for (const AddedToken& token : tables_.added) {
    largest = std::max(largest, token.id);
  }
  const size_t vocab_size = document_.vocab_tokens.size();
  if (largest < 0) return InvalidInputError(At("model: vocab"), ": empty");
  const size_t ids = static_cast<size_t>(largest) + 1;
  if (ids > vocab_size + tables_.added.size() + kMaxGaps) {
    return InvalidInputError(At("model: vocab"), ": ", vocab_size,
                             " tokens and ", tables_.added.size(),
                             " added tokens leave gaps below id ", largest);
  }
  return ids;
}

absl::Status Builder::PlaceVocab(std::vector<int32_t>* places) {
  const StringPool& tokens = document_.vocab_tokens;
  const std::string where = At("model: vocab");
  vocabulary_ = Vocabulary(&tokens);
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (!vocabulary_.Insert(static_cast<int32_t>(i))) {
      return InvalidInputError(where, ": duplicate token ", Quoted(tokens[i]));
    }
    const int32_t id = document_.vocab_ids[i];
    int32_t& place = (*places)[id];
    if (place != kNowhere) {
      return InvalidInputError(where, ": ", Quoted(tokens[i]), ": id ", id,
                               " is also that of ", Quoted(tokens[place]));
    }
    place = static_cast<int32_t>(i);
  }
  return absl::OkStatus();
}

absl::Status Builder::PlaceAdded(std::vector<int32_t>* places) const {
  const size_t vocab_size = document_.vocab_tokens.size();
  HashSet<absl::string_view> known;
  for (size_t i = 0; i < tables_.added.size(); ++i) {
    const AddedToken& token = tables_.added[i];
    const std::string where = At(absl::StrCat("added_tokens[", i, "]"));
    if (!known.insert(token.content).second) {
      return InvalidInputError(where, ": content: duplicate ",
                               Quoted(token.content));
    }
    const int32_t in_vocab = vocabulary_.Find(token.content);
    if (in_vocab >= 0 && document_.vocab_ids[in_vocab] == token.id) continue;
    int32_t& place = (*places)[token.id];
    if (in_vocab >= 0 || place != kNowhere) {
      return InvalidInputError(
          where, ": id: ", token.id, " for ", Quoted(token.content),
          in_vocab >= 0 ? ", which has another id in model: vocab"
                        : " is the id of another token");
    }
    place = static_cast<int32_t>(vocab_size + i);
  }
  return absl::OkStatus();
}

absl::Status Builder::BuildVocabulary() {
  const StringPool& tokens = document_.vocab_tokens;
  QEFF_ASSIGN_OR_RETURN(const size_t ids, CountIds());
  // Where the token of each id is: in vocab, or after those in added_tokens.
  std::vector<int32_t> places(ids, kNowhere);
  QEFF_RETURN_IF_ERROR(PlaceVocab(&places));
  QEFF_RETURN_IF_ERROR(PlaceAdded(&places));
  size_t vocab_ids_end = 0;
  for (const int32_t id : document_.vocab_ids) {
    vocab_ids_end = std::max<size_t>(vocab_ids_end, id + size_t{1});
  }
  for (size_t id = 0; id < ids; ++id) {
    const size_t place = static_cast<size_t>(places[id]);
    if (places[id] == kNowhere) {
      if (id < vocab_ids_end) {
        return InvalidInputError(At("model: vocab"), ": no token has id ", id,
                                 ", though some have larger ones");
      }
      tables_.tokens.push_back("");
      tables_.kinds.push_back(TokenKind::kGap);
    } else if (place < tokens.size()) {
      tables_.tokens.push_back(tokens[place]);
      tables_.kinds.push_back(TokenKind::kNormal);
    } else {
      tables_.tokens.push_back(tables_.added[place - tokens.size()].content);
      tables_.kinds.push_back(TokenKind::kAdded);
    }
  }
  return absl::OkStatus();
}

absl::Status Builder::ReadUnknown(const JsonObjectReader& model,
                                  bool required) {
  if (!required && !model.Has("unk_token")) return absl::OkStatus();
  QEFF_ASSIGN_OR_RETURN(const std::string token, model.String("unk_token"));
  const int32_t place = vocabulary_.Find(token);
  if (place < 0) return model.Unexpected("unk_token", "a token of vocab");
  tables_.unk_id = document_.vocab_ids[place];
  return absl::OkStatus();
}

absl::Status Builder::ReadModel(const JsonObjectReader& model) {
  return tables_.model == ModelKind::kBpe ? ReadBpe(model)
                                          : ReadWordPiece(model);
}

absl::Status Builder::ReadBpe(const JsonObjectReader& model) {
  QEFF_ASSIGN_OR_RETURN(const double dropout, model.NumberOr("dropout", 0.0));
  if (dropout != 0.0) {
    return absl::UnimplementedError(absl::StrCat(
        model.context(), ": dropout: ", dropout, " is not supported; 0 is"));
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    QEFF_ASSIGN_OR_RETURN(const std::string affix, model.StringOr(key, ""));
    if (!affix.empty()) {
      return absl::UnimplementedError(
          absl::StrCat(model.context(), ": ", key, ": ", Quoted(affix),
                       " is not supported for BPE; an empty one is"));
    }
  }
  QEFF_RETURN_IF_ERROR(ReadUnknown(model, /*required=*/false));
  QEFF_ASSIGN_OR_RETURN(tables_.fuse_unk, model.BoolOr("fuse_unk", false));
  QEFF_ASSIGN_OR_RETURN(tables_.byte_fallback,
                        model.BoolOr("byte_fallback", false));
  QEFF_ASSIGN_OR_RETURN(tables_.ignore_merges,
                        model.BoolOr("ignore_merges", false));
  return ReadMerges(model);
}

absl::Status Builder::ReadMerges(const JsonObjectReader& model) {
  const Json* merges = model.Find("merges");
  if (merges == nullptr || !merges->is_array()) {
    return model.Unexpected("merges", "an array");
  }
  const StringPool& parts = document_.merge_parts;
  tables_.merges.reserve(parts.size() / 2);
  std::string whole;
  for (size_t i = 0; i + 1 < parts.size(); i += 2) {
    whole.assign(parts[i].data(), parts[i].size());
    whole.append(parts[i + 1].data(), parts[i + 1].size());
    int32_t ids[3];
    const absl::string_view texts[3] = {parts[i], parts[i + 1], whole};
    for (int k = 0; k < 3; ++k) {
      const int32_t place = vocabulary_.Find(texts[k]);
      if (place < 0) {
        return InvalidInputError(model.context(), ": merges[", i / 2,
                                 "]: ", Quoted(texts[k]), " is not in vocab");
      }
      ids[k] = document_.vocab_ids[place];
    }
    tables_.merges.push_back({ids[0], ids[1], ids[2]});
  }
  return absl::OkStatus();
}

absl::Status Builder::ReadWordPiece(const JsonObjectReader& model) {
  if (tables_.byte_level) {
    return absl::UnimplementedError(absl::StrCat(
        model.context(), ": WordPiece after ByteLevel is not supported"));
  }
  QEFF_RETURN_IF_ERROR(ReadUnknown(model, /*required=*/true));
  QEFF_ASSIGN_OR_RETURN(tables_.continuing_prefix,
                        model.StringOr("continuing_subword_prefix", "##"));
  QEFF_ASSIGN_OR_RETURN(
      const int64_t max_chars,
      model.IntOr("max_input_chars_per_word", 100, 0, INT_MAX));
  tables_.max_chars_per_word = static_cast<uint32_t>(max_chars);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerTables> BuildFromTokenizerJson(
    absl::string_view text, absl::string_view context) {
  QEFF_ASSIGN_OR_RETURN(const TokenizerJsonDocument document,
                        ParseTokenizerJson(text, context));
  return Builder(document, std::string(context)).Build();
}

}  // namespace qeff
