// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/gguf_tokenizer.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "qeff/tokenizer/byte_tokens.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// llama.cpp's types of tokens.
enum TokenType : int32_t {
  kNormalType = 1,
  kUnknownType = 2,
  kControlType = 3,
  kUserDefinedType = 4,
  kUnusedType = 5,
  kByteType = 6,
};

// Below the score of every merge: a token that no merge makes.
constexpr float kNoMergeScore = -1e9f;

absl::Status Unsupported(absl::string_view what) {
  return absl::UnimplementedError(
      absl::StrCat("tokenizer: ", what, " has no counterpart in GGUF"));
}

bool Contains(const std::vector<int32_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

TokenType TypeOfKind(TokenKind kind) {
  switch (kind) {
    case TokenKind::kControl:
      return kControlType;
    case TokenKind::kUnknown:
      return kUnknownType;
    case TokenKind::kByte:
      return kByteType;
    case TokenKind::kAdded:
    case TokenKind::kUserDefined:
      return kUserDefinedType;
    case TokenKind::kGap:
      return kUnusedType;
    case TokenKind::kNormal:
      break;
  }
  return kNormalType;
}

// Types by id, of all `rows` ids.
std::vector<int32_t> TokenTypes(const TokenizerTables& tables, size_t rows) {
  std::vector<int32_t> types(rows, kUnusedType);
  for (size_t id = 0; id < tables.kinds.size(); ++id) {
    types[id] = TypeOfKind(tables.kinds[id]);
    if (tables.byte_fallback && types[id] == kNormalType &&
        ByteOfToken(tables.tokens[id]) >= 0) {
      types[id] = kByteType;
    }
  }
  for (const AddedToken& token : tables.added) {
    types[static_cast<size_t>(token.id)] =
        token.special ? kControlType : kUserDefinedType;
  }
  if (tables.unk_id >= 0 && !tables.byte_level) {
    types[static_cast<size_t>(tables.unk_id)] = kUnknownType;
  }
  return types;
}

GgufStrings TokenTexts(const TokenizerTables& tables, size_t rows) {
  GgufStrings texts;
  for (size_t id = 0; id < rows; ++id) {
    if (id < tables.tokens.size() && tables.kinds[id] != TokenKind::kGap) {
      texts.push_back(tables.tokens[id]);
    } else {
      texts.push_back(absl::StrCat("[PAD", id, "]"));
    }
  }
  return texts;
}

// Scores by which merging the best pair of neighbours does what the ranks of
// the merges say.
absl::StatusOr<std::vector<float>> ScoresOfMerges(const TokenizerTables& tables,
                                                  size_t rows) {
  std::vector<float> scores(rows, kNoMergeScore);
  std::vector<bool> has_merge(rows, false);
  int32_t previous = -1;
  for (size_t rank = 0; rank < tables.merges.size(); ++rank) {
    const int32_t result = tables.merges[rank].result;
    if (result == previous) continue;
    previous = result;
    const size_t id = static_cast<size_t>(result);
    if (has_merge[id]) {
      return Unsupported(absl::StrCat("the order of merges, in which those of ",
                                      "token ", id, " are not neighbours,"));
    }
    has_merge[id] = true;
    scores[id] = -static_cast<float>(rank);
  }
  return scores;
}

absl::StatusOr<std::vector<float>> Scores(const TokenizerTables& tables,
                                          size_t rows) {
  if (tables.model == ModelKind::kBpe) return ScoresOfMerges(tables, rows);
  std::vector<float> scores = tables.scores;
  scores.resize(rows, kNoMergeScore);
  return scores;
}

// Whether a space is put before a text.
bool AddsSpacePrefix(const TokenizerTables& tables) {
  if (tables.model == ModelKind::kSentencePieceBpe) {
    return tables.sentencepiece.add_dummy_prefix;
  }
  for (const NormalizerOp& op : tables.normalizer) {
    if (op.kind == NormalizerOp::Kind::kPrepend) return true;
  }
  for (const PreTokenizerOp& op : tables.pre_tokenizer) {
    if (op.kind == PreTokenizerOp::Kind::kMetaspace &&
        op.prepend != PreTokenizerOp::Prepend::kNever) {
      return true;
    }
  }
  return false;
}

// The normalizer's table as SentencePiece stores it: size of the trie in bytes,
// the trie, replacements. All little-endian, as this machine.
std::vector<uint8_t> Charsmap(const SentencePieceNormalizer& normalizer) {
  std::vector<uint32_t> words = {
      static_cast<uint32_t>(normalizer.trie.size() * sizeof(uint32_t))};
  words.insert(words.end(), normalizer.trie.begin(), normalizer.trie.end());
  std::vector<uint8_t> bytes(words.size() * sizeof(uint32_t));
  std::memcpy(bytes.data(), words.data(), bytes.size());
  bytes.insert(bytes.end(), normalizer.replacements.begin(),
               normalizer.replacements.end());
  return bytes;
}

// What llama.cpp leaves alone for this model, but other readers need.
void AddNormalizer(const SentencePieceNormalizer& normalizer,
                   GgufMetadata* metadata) {
  if (normalizer.remove_extra_whitespaces) {
    metadata->emplace_back("tokenizer.ggml.remove_extra_whitespaces", true);
  }
  if (!normalizer.trie.empty()) {
    metadata->emplace_back("tokenizer.ggml.precompiled_charsmap",
                           GgufArray(Charsmap(normalizer)));
  }
}

absl::Status AddSentencePiece(const TokenizerTables& tables, size_t rows,
                              GgufMetadata* metadata) {
  QEFF_ASSIGN_OR_RETURN(std::vector<float> scores, Scores(tables, rows));
  metadata->emplace_back("tokenizer.ggml.scores", GgufArray(std::move(scores)));
  metadata->emplace_back("tokenizer.ggml.add_space_prefix",
                         AddsSpacePrefix(tables));
  if (tables.model == ModelKind::kSentencePieceBpe) {
    AddNormalizer(tables.sentencepiece, metadata);
  }
  return absl::OkStatus();
}

// llama.cpp's name for how a byte-level tokenizer splits words.
absl::StatusOr<std::string> PreTokenizerName(const TokenizerTables& tables) {
  for (const NormalizerOp& op : tables.normalizer) {
    // The conversion scripts of llama.cpp leave it out as well.
    if (op.kind != NormalizerOp::Kind::kNfc) {
      return Unsupported("a normalizer other than NFC");
    }
  }
  if (tables.pre_tokenizer.size() != 1 ||
      tables.pre_tokenizer[0].kind != PreTokenizerOp::Kind::kPattern) {
    return Unsupported("a pre-tokenizer other than one regular expression");
  }
  switch (tables.pre_tokenizer[0].pattern) {
    case SplitPattern::kGpt2:
      return std::string("gpt-2");
    case SplitPattern::kLlama3:
      return std::string("llama-bpe");
    case SplitPattern::kQwen2:
      return std::string("qwen2");
  }
  return Unsupported("the regular expression");
}

absl::Status AddByteLevel(const TokenizerTables& tables,
                          GgufMetadata* metadata) {
  QEFF_ASSIGN_OR_RETURN(std::string pre, PreTokenizerName(tables));
  metadata->emplace_back("tokenizer.ggml.pre", std::move(pre));
  GgufStrings merges;
  for (const BpeMerge& merge : tables.merges) {
    merges.push_back(
        absl::StrCat(tables.tokens[static_cast<size_t>(merge.left)], " ",
                     tables.tokens[static_cast<size_t>(merge.right)]));
  }
  metadata->emplace_back("tokenizer.ggml.merges", GgufArray(std::move(merges)));
  return absl::OkStatus();
}

void AddSpecialTokens(const TokenizerTables& tables, GgufMetadata* metadata) {
  const auto add_id = [&](const char* name, int32_t id) {
    if (id < 0) return;
    metadata->emplace_back(absl::StrCat("tokenizer.ggml.", name, "_token_id"),
                           static_cast<uint32_t>(id));
  };
  add_id("bos", tables.bos_id);
  add_id("eos", tables.eos_id);
  add_id("unknown", tables.unk_id);
  metadata->emplace_back(
      "tokenizer.ggml.add_bos_token",
      tables.bos_id >= 0 && Contains(tables.prefix, tables.bos_id));
  metadata->emplace_back(
      "tokenizer.ggml.add_eos_token",
      tables.eos_id >= 0 && Contains(tables.suffix, tables.eos_id));
}

}  // namespace

absl::StatusOr<GgufMetadata> GgufTokenizerMetadata(
    const TokenizerTables& tables, int64_t vocab_size) {
  if (vocab_size < static_cast<int64_t>(tables.tokens.size())) {
    return InvalidInputError("tokenizer: expected at most ", vocab_size,
                             " tokens, the rows of the embedding, found ",
                             tables.tokens.size());
  }
  const size_t rows = static_cast<size_t>(vocab_size);
  const bool sentencepiece =
      tables.model == ModelKind::kSentencePieceBpe ||
      (tables.model == ModelKind::kBpe && tables.byte_fallback);
  if (!sentencepiece && !tables.byte_level) {
    return Unsupported(
        "a model other than byte-level BPE and BPE with byte "
        "fallback");
  }
  GgufMetadata metadata;
  metadata.emplace_back("tokenizer.ggml.model",
                        std::string(sentencepiece ? "llama" : "gpt2"));
  metadata.emplace_back("tokenizer.ggml.tokens",
                        GgufArray(TokenTexts(tables, rows)));
  metadata.emplace_back("tokenizer.ggml.token_type",
                        GgufArray(TokenTypes(tables, rows)));
  QEFF_RETURN_IF_ERROR(sentencepiece ? AddSentencePiece(tables, rows, &metadata)
                                     : AddByteLevel(tables, &metadata));
  AddSpecialTokens(tables, &metadata);
  return metadata;
}

}  // namespace qeff
