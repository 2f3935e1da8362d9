// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/validate_tables.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr size_t kMaxTokens = size_t{1} << 26;
constexpr double kMaxGrowth = 16.0;

bool ValidPool(const StringPool& pool) {
  return std::is_sorted(pool.ends.begin(), pool.ends.end()) &&
         (pool.ends.empty() || pool.ends.back() <= pool.bytes.size());
}

bool IsToken(const TokenizerTables& tables, int32_t id) {
  return id >= 0 && static_cast<size_t>(id) < tables.tokens.size() &&
         tables.kinds[id] != TokenKind::kGap;
}

bool IsTokenOrNone(const TokenizerTables& tables, int32_t id) {
  return id == -1 || IsToken(tables, id);
}

absl::Status ValidateModel(const TokenizerTables& tables) {
  for (size_t i = 0; i < tables.merges.size(); ++i) {
    const BpeMerge& merge = tables.merges[i];
    if (!IsToken(tables, merge.left) || !IsToken(tables, merge.right) ||
        !IsToken(tables, merge.result)) {
      return InvalidInputError("merges[", i, "]: no such token");
    }
  }
  if (tables.model == ModelKind::kSentencePieceBpe ||
      tables.model == ModelKind::kUnigram) {
    if (tables.scores.size() != tables.tokens.size()) {
      return InvalidInputError("scores: expected ", tables.tokens.size(),
                               ", found ", tables.scores.size());
    }
    for (const float score : tables.scores) {
      if (!std::isfinite(score)) {
        return InvalidInputError("scores: a score is not finite");
      }
    }
  }
  return absl::OkStatus();
}

absl::Status ValidateIds(const TokenizerTables& tables) {
  const auto check = [&](int32_t id, absl::string_view what) {
    return IsTokenOrNone(tables, id)
               ? absl::OkStatus()
               : InvalidInputError(what, ": no token has id ", id);
  };
  QEFF_RETURN_IF_ERROR(check(tables.unk_id, "unk_id"));
  QEFF_RETURN_IF_ERROR(check(tables.bos_id, "bos_id"));
  QEFF_RETURN_IF_ERROR(check(tables.eos_id, "eos_id"));
  for (const auto* ids : {&tables.prefix, &tables.suffix}) {
    for (const int32_t id : *ids) {
      if (id < 0) return InvalidInputError("template: negative token id");
      QEFF_RETURN_IF_ERROR(check(id, "template"));
    }
  }
  for (const AddedToken& token : tables.added) {
    if (!IsToken(tables, token.id) || token.content.empty()) {
      return InvalidInputError("added token \"", token.content,
                               "\": empty, or no token has id ", token.id);
    }
  }
  return absl::OkStatus();
}

// By how much one replacement may lengthen a text.
double Growth(absl::string_view from, absl::string_view to) {
  return std::max(
      1.0, static_cast<double>(to.size()) / static_cast<double>(from.size()));
}

absl::Status ValidateOps(const TokenizerTables& tables) {
  double growth = 1.0;
  for (const NormalizerOp& op : tables.normalizer) {
    if (op.kind != NormalizerOp::Kind::kReplace) continue;
    if (op.pattern.empty()) return InvalidInputError("Replace: empty pattern");
    growth *= Growth(op.pattern, op.content);
  }
  for (const PreTokenizerOp& op : tables.pre_tokenizer) {
    const bool searches = op.kind == PreTokenizerOp::Kind::kString ||
                          op.kind == PreTokenizerOp::Kind::kMetaspace;
    if (searches && op.content.empty()) {
      return InvalidInputError("pre-tokenizer: empty pattern");
    }
    if (op.kind == PreTokenizerOp::Kind::kMetaspace) {
      growth *= Growth(" ", op.content);
    }
  }
  if (growth > kMaxGrowth) {
    return InvalidInputError("normalizer and pre-tokenizer may make a text ",
                             growth, " times longer, at most ", kMaxGrowth,
                             " is supported");
  }
  for (const DecoderTables::TokenOp& op : tables.decoder.per_token) {
    using Kind = DecoderTables::TokenOp::Kind;
    const bool replaces =
        op.kind == Kind::kReplace || op.kind == Kind::kMetaspace;
    if (replaces && op.pattern.empty()) {
      return InvalidInputError("decoder: empty pattern");
    }
    if (op.kind == Kind::kStrip && op.content.empty()) {
      return InvalidInputError("decoder: Strip of an empty string");
    }
  }
  if (tables.decoder.strip_count > 0 && tables.decoder.strip_text.empty()) {
    return InvalidInputError("decoder: Strip of an empty string");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateTables(const TokenizerTables& tables) {
  if (!tables.unicode.Valid()) {
    return InvalidInputError("Unicode tables are inconsistent");
  }
  if (!ValidPool(tables.tokens) || tables.tokens.size() > kMaxTokens ||
      tables.kinds.size() != tables.tokens.size()) {
    return InvalidInputError("vocabulary: inconsistent sizes");
  }
  if (tables.tokens.size() == 0) return InvalidInputError("vocabulary: empty");
  QEFF_RETURN_IF_ERROR(ValidateModel(tables));
  QEFF_RETURN_IF_ERROR(ValidateIds(tables));
  return ValidateOps(tables);
}

}  // namespace qeff
