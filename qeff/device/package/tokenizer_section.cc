// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/package/tokenizer_section.h"

#include <cstddef>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "qeff/device/package/tokenizer_tables.pb.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Rules of the largest known tokenizer take less than 1 kB.
constexpr size_t kMaxRulesBytes = 1 << 20;
constexpr size_t kMaxSectionBytes = size_t{1} << 30;

// The last enumerators: what files hold are the numbers up to these.
constexpr auto kLastToken = TokenKind::kGap;
constexpr auto kLastModel = ModelKind::kWordPiece;
constexpr auto kLastNormalizer = NormalizerOp::Kind::kSentencePiece;
constexpr auto kLastPattern = SplitPattern::kQwen2;
constexpr auto kLastBehavior = SplitBehavior::kContiguous;
constexpr auto kLastPreTokenizer = PreTokenizerOp::Kind::kAddPrefixSpace;
constexpr auto kLastPrepend = PreTokenizerOp::Prepend::kNever;
constexpr auto kLastDecoder = DecoderTables::TokenOp::Kind::kSpaceBefore;
constexpr auto kLastBytes = DecoderTables::Bytes::kFallback;

enum AddedFlag : uint8_t {
  kSpecial = 1,
  kSingleWord = 2,
  kLstrip = 4,
  kRstrip = 8,
  kNormalized = 16,
  kAllFlags = 31,
};

template <class T>
void Put(const std::vector<T>& array, std::string* bytes) {
  static_assert(std::is_trivially_copyable_v<T>);
  bytes->assign(reinterpret_cast<const char*>(array.data()),
                array.size() * sizeof(T));
}

void Put(const StringPool& pool, proto::StringPool* m) {
  m->set_text(pool.bytes);
  Put(pool.ends, m->mutable_ends());
}

void Put(const UnicodeMapping& mapping, proto::UnicodeMapping* m) {
  const auto& [keys, ends, values] = mapping;
  Put(keys, m->mutable_keys());
  Put(ends, m->mutable_ends());
  Put(values, m->mutable_values());
}

void Put(const UnicodeTables& unicode, proto::UnicodeTables* m) {
  const auto& [block_of, properties, combining, classes, canonical,
               compatibility, lowercase, pairs, composed] = unicode;
  Put(block_of, m->mutable_block_of());
  Put(properties, m->mutable_properties());
  Put(combining, m->mutable_combining());
  Put(classes, m->mutable_combining_classes());
  Put(canonical, m->mutable_canonical());
  Put(compatibility, m->mutable_compatibility());
  Put(lowercase, m->mutable_lowercase());
  Put(pairs, m->mutable_pairs());
  Put(composed, m->mutable_composed());
}

void Put(const std::vector<AddedToken>& added, proto::TokenizerTables* m) {
  StringPool contents;
  std::vector<int32_t> ids;
  std::vector<uint8_t> flags;
  for (const auto& [content, id, special, single_word, lstrip, rstrip,
                    normalized] : added) {
    contents.push_back(content);
    ids.push_back(id);
    flags.push_back(static_cast<uint8_t>(
        (special ? kSpecial : 0) | (single_word ? kSingleWord : 0) |
        (lstrip ? kLstrip : 0) | (rstrip ? kRstrip : 0) |
        (normalized ? kNormalized : 0)));
  }
  Put(contents, m->mutable_added_contents());
  Put(ids, m->mutable_added_ids());
  Put(flags, m->mutable_added_flags());
}

template <class E>
uint32_t Number(E value) {
  return static_cast<uint32_t>(value);
}

void PutOps(const TokenizerTables& tables, proto::TokenizerRules* m) {
  for (const auto& [kind, pattern, content] : tables.normalizer) {
    auto* op = m->add_normalizer();
    op->set_kind(Number(kind));
    op->set_pattern(pattern);
    op->set_content(content);
  }
  for (const auto& [kind, pattern, behavior, content, prepend, invert, split,
                    individual] : tables.pre_tokenizer) {
    auto* op = m->add_pre_tokenizer();
    op->set_kind(Number(kind));
    op->set_pattern(Number(pattern));
    op->set_behavior(Number(behavior));
    op->set_content(content);
    op->set_prepend(Number(prepend));
    op->set_invert(invert);
    op->set_split(split);
    op->set_individual(individual);
  }
  const auto& [per_token, bytes, strip_text, strip_count] = tables.decoder;
  for (const auto& [kind, pattern, content, start, stop] : per_token) {
    auto* op = m->add_decoder();
    op->set_kind(Number(kind));
    op->set_pattern(pattern);
    op->set_content(content);
    op->set_start(start);
    op->set_stop(stop);
  }
  m->set_decoder_bytes(Number(bytes));
  m->set_decoder_strip_text(strip_text);
  m->set_decoder_strip_count(strip_count);
}

// Takes arrays and enumerators and remembers the first that is wrong.
class Taker {
 public:
  template <class T>
  void Array(absl::string_view field, const std::string& bytes,
             std::vector<T>* array) {
    if (bytes.size() % sizeof(T) != 0) {
      return Fail(field, ": its bytes are no number of elements");
    }
    array->resize(bytes.size() / sizeof(T));
    if (!bytes.empty()) std::memcpy(array->data(), bytes.data(), bytes.size());
  }

  void Pool(absl::string_view field, proto::StringPool* m, StringPool* pool) {
    pool->bytes = std::move(*m->mutable_text());
    Array(field, m->ends(), &pool->ends);
    uint32_t begin = 0;
    for (const uint32_t end : pool->ends) {
      if (end < begin || end > pool->bytes.size()) {
        return Fail(field, ": a string lies outside of the pool");
      }
      begin = end;
    }
  }

  void Mapping(absl::string_view field, const proto::UnicodeMapping& m,
               UnicodeMapping* mapping) {
    Array(field, m.keys(), &mapping->keys);
    Array(field, m.ends(), &mapping->ends);
    Array(field, m.values(), &mapping->values);
  }

  template <class E>
  void Enum(absl::string_view field, uint32_t number, E last, E* value) {
    if (number > Number(last)) {
      return Fail(field, ": a value that this version does not know");
    }
    *value = static_cast<E>(number);
  }

  void Fail(absl::string_view field, absl::string_view why) {
    if (status_.ok()) status_ = InvalidInputError(field, why);
  }
  const absl::Status& status() const { return status_; }

 private:
  absl::Status status_;
};

void TakeUnicode(const proto::UnicodeTables& m, Taker* take,
                 UnicodeTables* unicode) {
  take->Array("unicode block_of", m.block_of(), &unicode->block_of);
  take->Array("unicode properties", m.properties(), &unicode->properties);
  take->Array("unicode combining", m.combining(), &unicode->combining);
  take->Array("unicode combining_classes", m.combining_classes(),
              &unicode->combining_classes);
  take->Mapping("unicode canonical", m.canonical(), &unicode->canonical);
  take->Mapping("unicode compatibility", m.compatibility(),
                &unicode->compatibility);
  take->Mapping("unicode lowercase", m.lowercase(), &unicode->lowercase);
  take->Array("unicode pairs", m.pairs(), &unicode->pairs);
  take->Array("unicode composed", m.composed(), &unicode->composed);
}

void TakeAdded(proto::TokenizerTables* m, Taker* take,
               std::vector<AddedToken>* added) {
  StringPool contents;
  std::vector<int32_t> ids;
  std::vector<uint8_t> flags;
  take->Pool("added tokens", m->mutable_added_contents(), &contents);
  take->Array("added tokens", m->added_ids(), &ids);
  take->Array("added tokens", m->added_flags(), &flags);
  if (ids.size() != contents.size() || flags.size() != contents.size()) {
    take->Fail("added tokens", ": sizes differ");
  }
  if (!take->status().ok()) return;
  for (size_t i = 0; i < ids.size(); ++i) {
    const uint8_t f = flags[i];
    if (f > kAllFlags) return take->Fail("added tokens", ": unknown flags");
    added->push_back({std::string(contents[i].data(), contents[i].size()),
                      ids[i], (f & kSpecial) != 0, (f & kSingleWord) != 0,
                      (f & kLstrip) != 0, (f & kRstrip) != 0,
                      (f & kNormalized) != 0});
  }
}

void TakeOps(const proto::TokenizerRules& m, Taker* take,
             TokenizerTables* tables) {
  for (const auto& from : m.normalizer()) {
    NormalizerOp op = {{}, from.pattern(), from.content()};
    take->Enum("normalizer", from.kind(), kLastNormalizer, &op.kind);
    tables->normalizer.push_back(std::move(op));
  }
  for (const auto& from : m.pre_tokenizer()) {
    PreTokenizerOp op = {};
    take->Enum("pre_tokenizer", from.kind(), kLastPreTokenizer, &op.kind);
    take->Enum("pattern", from.pattern(), kLastPattern, &op.pattern);
    take->Enum("behavior", from.behavior(), kLastBehavior, &op.behavior);
    op.content = from.content();
    take->Enum("prepend", from.prepend(), kLastPrepend, &op.prepend);
    op.invert = from.invert();
    op.split = from.split();
    op.individual = from.individual();
    tables->pre_tokenizer.push_back(std::move(op));
  }
  for (const auto& from : m.decoder()) {
    DecoderTables::TokenOp op = {
        {}, from.pattern(), from.content(), from.start(), from.stop()};
    take->Enum("decoder", from.kind(), kLastDecoder, &op.kind);
    tables->decoder.per_token.push_back(std::move(op));
  }
  take->Enum("decoder bytes", m.decoder_bytes(), kLastBytes,
             &tables->decoder.bytes);
  tables->decoder.strip_text = m.decoder_strip_text();
  tables->decoder.strip_count = m.decoder_strip_count();
}

void TakeRules(const proto::TokenizerRules& m, Taker* take,
               TokenizerTables* tables) {
  take->Enum("model", m.model(), kLastModel, &tables->model);
  tables->byte_level = m.byte_level();
  tables->unk_id = m.unk_id();
  tables->fuse_unk = m.fuse_unk();
  tables->byte_fallback = m.byte_fallback();
  tables->ignore_merges = m.ignore_merges();
  tables->continuing_prefix = m.continuing_prefix();
  tables->max_chars_per_word = m.max_chars_per_word();
  tables->bos_id = m.bos_id();
  tables->eos_id = m.eos_id();
  SentencePieceNormalizer& sentencepiece = tables->sentencepiece;
  sentencepiece.add_dummy_prefix = m.add_dummy_prefix();
  sentencepiece.remove_extra_whitespaces = m.remove_extra_whitespaces();
  sentencepiece.escape_whitespaces = m.escape_whitespaces();
  sentencepiece.whitespace_as_suffix = m.whitespace_as_suffix();
  TakeOps(m, take, tables);
}

void TakeArrays(proto::TokenizerTables* m, Taker* take,
                TokenizerTables* tables) {
  take->Pool("tokens", m->mutable_tokens(), &tables->tokens);
  take->Array("kinds", m->kinds(), &tables->kinds);
  for (const TokenKind kind : tables->kinds) {
    if (kind > kLastToken) take->Fail("kinds", ": not a kind of token");
  }
  take->Array("merges", m->merges(), &tables->merges);
  take->Array("scores", m->scores(), &tables->scores);
  TakeAdded(m, take, &tables->added);
  take->Array("prefix", m->prefix(), &tables->prefix);
  take->Array("suffix", m->suffix(), &tables->suffix);
  TakeUnicode(m->unicode(), take, &tables->unicode);
  take->Array("charsmap_trie", m->charsmap_trie(), &tables->sentencepiece.trie);
  tables->sentencepiece.replacements = m->charsmap_replacements();
}

}  // namespace

std::string EncodeTokenizerTables(const TokenizerTables& tables) {
  const auto& [tokens, kinds, model, byte_level, merges, scores, unk_id,
               fuse_unk, byte_fallback, ignore_merges, continuing_prefix,
               max_chars_per_word, added, normalizer, sentencepiece,
               pre_tokenizer, decoder, prefix, suffix, bos_id, eos_id,
               unicode] = tables;
  const auto& [dummy_prefix, remove_extra, escape, as_suffix, trie,
               replacements] = sentencepiece;
  proto::TokenizerRules rules;
  rules.set_model(Number(model));
  rules.set_byte_level(byte_level);
  rules.set_unk_id(unk_id);
  rules.set_fuse_unk(fuse_unk);
  rules.set_byte_fallback(byte_fallback);
  rules.set_ignore_merges(ignore_merges);
  rules.set_continuing_prefix(continuing_prefix);
  rules.set_max_chars_per_word(max_chars_per_word);
  rules.set_bos_id(bos_id);
  rules.set_eos_id(eos_id);
  rules.set_add_dummy_prefix(dummy_prefix);
  rules.set_remove_extra_whitespaces(remove_extra);
  rules.set_escape_whitespaces(escape);
  rules.set_whitespace_as_suffix(as_suffix);
  PutOps(tables, &rules);

  proto::TokenizerTables m;
  Put(tokens, m.mutable_tokens());
  Put(kinds, m.mutable_kinds());
  Put(merges, m.mutable_merges());
  Put(scores, m.mutable_scores());
  Put(added, &m);
  Put(prefix, m.mutable_prefix());
  Put(suffix, m.mutable_suffix());
  Put(unicode, m.mutable_unicode());
  Put(trie, m.mutable_charsmap_trie());
  m.set_charsmap_replacements(replacements);
  m.set_rules(rules.SerializeAsString());
  return m.SerializeAsString();
}

absl::StatusOr<TokenizerTables> DecodeTokenizerTables(
    absl::Span<const uint8_t> bytes) {
  if (bytes.size() > kMaxSectionBytes) {
    return InvalidInputError("expected at most ", kMaxSectionBytes,
                             " bytes, found ", bytes.size());
  }
  proto::TokenizerTables message;
  proto::TokenizerRules rules;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) ||
      message.rules().size() > kMaxRulesBytes ||
      !rules.ParseFromString(message.rules())) {
    return InvalidInputError("not a valid protocol buffer");
  }
  TokenizerTables tables;
  Taker taker;
  TakeRules(rules, &taker, &tables);
  TakeArrays(&message, &taker, &tables);
  QEFF_RETURN_IF_ERROR(taker.status());
  // Every field once, in order, and no other.
  if (EncodeTokenizerTables(tables) !=
      absl::string_view(reinterpret_cast<const char*>(bytes.data()),
                        bytes.size())) {
    return InvalidInputError("not in the form that writers give it");
  }
  return tables;
}

}  // namespace qeff
