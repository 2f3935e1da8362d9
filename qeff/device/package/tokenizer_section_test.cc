// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/package/tokenizer_section.h"

#include <cstddef>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/device/package/package_testutil.h"
#include "qeff/device/package/tokenizer_tables.pb.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<TokenizerTables> Decode(const std::string& bytes) {
  return DecodeTokenizerTables(
      {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
}

// One change to each field.
std::vector<std::function<void(TokenizerTables*)>> Changes() {
  using T = TokenizerTables;
  return {
      [](T* t) { t->tokens.bytes[0] = 'x'; },
      [](T* t) { t->tokens.ends[0] = 1; },
      [](T* t) { t->kinds[0] = TokenKind::kNormal; },
      [](T* t) { t->model = ModelKind::kUnigram; },
      [](T* t) { t->byte_level = true; },
      [](T* t) { t->merges[0].left = 2; },
      [](T* t) { t->merges[0].right = 2; },
      [](T* t) { t->merges[0].result = 2; },
      [](T* t) { t->scores[3] = -7.0f; },
      [](T* t) { t->unk_id = -1; },
      [](T* t) { t->fuse_unk = true; },
      [](T* t) { t->byte_fallback = true; },
      [](T* t) { t->ignore_merges = true; },
      [](T* t) { t->continuing_prefix = "#"; },
      [](T* t) { t->max_chars_per_word = 99; },
      [](T* t) { t->added[0].content = "<z>"; },
      [](T* t) { t->added[0].id = 0; },
      [](T* t) { t->added[0].special = false; },
      [](T* t) { t->added[0].single_word = true; },
      [](T* t) { t->added[0].lstrip = false; },
      [](T* t) { t->added[0].rstrip = true; },
      [](T* t) { t->added[0].normalized = false; },
      [](T* t) { t->normalizer[0].kind = NormalizerOp::Kind::kNfc; },
      [](T* t) { t->normalizer[0].pattern = "z"; },
      [](T* t) { t->normalizer[0].content = "z"; },
      [](T* t) { t->sentencepiece.add_dummy_prefix = false; },
      [](T* t) { t->sentencepiece.remove_extra_whitespaces = true; },
      [](T* t) { t->sentencepiece.escape_whitespaces = true; },
      [](T* t) { t->sentencepiece.whitespace_as_suffix = true; },
      [](T* t) { t->sentencepiece.trie[1] = 4; },
      [](T* t) { t->sentencepiece.replacements[1] = 'c'; },
      [](T* t) { t->pre_tokenizer[0].kind = PreTokenizerOp::Kind::kBert; },
      [](T* t) { t->pre_tokenizer[0].pattern = SplitPattern::kQwen2; },
      [](T* t) { t->pre_tokenizer[0].behavior = SplitBehavior::kRemoved; },
      [](T* t) { t->pre_tokenizer[0].content = "z"; },
      [](T* t) {
        t->pre_tokenizer[0].prepend = PreTokenizerOp::Prepend::kFirst;
      },
      [](T* t) { t->pre_tokenizer[0].invert = true; },
      [](T* t) { t->pre_tokenizer[0].split = false; },
      [](T* t) { t->pre_tokenizer[0].individual = true; },
      [](T* t) {
        t->decoder.per_token[0].kind = DecoderTables::TokenOp::Kind::kStrip;
      },
      [](T* t) { t->decoder.per_token[0].pattern = "z"; },
      [](T* t) { t->decoder.per_token[0].content = "z"; },
      [](T* t) { t->decoder.per_token[0].start = 7; },
      [](T* t) { t->decoder.per_token[0].stop = 7; },
      [](T* t) { t->decoder.bytes = DecoderTables::Bytes::kByteLevel; },
      [](T* t) { t->decoder.strip_text = "z"; },
      [](T* t) { t->decoder.strip_count = 7; },
      [](T* t) { t->prefix[0] = 3; },
      [](T* t) { t->suffix[1] = 0; },
      [](T* t) { t->bos_id = 2; },
      [](T* t) { t->eos_id = 2; },
      [](T* t) { t->unicode.block_of[0] = 1; },
      [](T* t) { t->unicode.properties[0] = 9; },
      [](T* t) { t->unicode.combining[0] = 9; },
      [](T* t) { t->unicode.combining_classes[0] = 9; },
      [](T* t) { t->unicode.canonical.keys[0] = 9; },
      [](T* t) { t->unicode.canonical.ends[0] = 0; },
      [](T* t) { t->unicode.canonical.values[0] = 9; },
      [](T* t) { t->unicode.compatibility.keys[0] = 9; },
      [](T* t) { t->unicode.lowercase.values[0] = 9; },
      [](T* t) { t->unicode.pairs[0] = 9; },
      [](T* t) { t->unicode.composed[0] = 9; },
  };
}

TEST(TokenizerSectionTest, EveryFieldSurvives) {
  // Decoding wants the bytes that encoding gives, so what is left is that
  // every field changes the bytes.
  std::set<std::string> seen = {EncodeTokenizerTables(FullTables())};
  size_t i = 0;
  for (const auto& change : Changes()) {
    TokenizerTables tables = FullTables();
    change(&tables);
    const std::string bytes = EncodeTokenizerTables(tables);
    EXPECT_TRUE(seen.insert(bytes).second) << "change " << i;
    const auto again = Decode(bytes);
    ASSERT_TRUE(again.ok()) << again.status() << ", change " << i;
    EXPECT_EQ(EncodeTokenizerTables(*again), bytes) << "change " << i;
    ++i;
  }
  EXPECT_TRUE(Decode(EncodeTokenizerTables(TokenizerTables())).ok());
}

TEST(TokenizerSectionTest, EveryPrefixAndBitIsSurvived) {
  const std::string bytes = EncodeTokenizerTables(FullTables());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(Decode(bytes.substr(0, size)).ok()) << size;
  }
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ 1 << bit % 8);
    const auto tables = Decode(flipped);  // a value may have changed
    if (tables.ok()) {
      EXPECT_EQ(EncodeTokenizerTables(*tables), flipped);
    }
  }
  EXPECT_FALSE(Decode(bytes + bytes).ok());
}

TEST(TokenizerSectionTest, NamesWhatIsWrong) {
  const auto error = [](const std::function<void(proto::TokenizerTables*,
                                                 proto::TokenizerRules*)>& f) {
    proto::TokenizerTables message;
    proto::TokenizerRules rules;
    EXPECT_TRUE(message.ParseFromString(EncodeTokenizerTables(FullTables())));
    EXPECT_TRUE(rules.ParseFromString(message.rules()));
    f(&message, &rules);
    message.set_rules(rules.SerializeAsString());
    const absl::Status status = Decode(message.SerializeAsString()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  using M = proto::TokenizerTables*;
  using R = proto::TokenizerRules*;
  EXPECT_THAT(error([](M m, R) { m->set_scores("abc"); }), HasSubstr("scores"));
  EXPECT_THAT(error([](M m, R) { m->set_kinds("\x7F"); }), HasSubstr("kinds"));
  EXPECT_THAT(error([](M m, R) {
                m->mutable_tokens()->set_ends(std::string("\1\0\0\1", 4));
              }),
              HasSubstr("tokens"));
  EXPECT_THAT(error([](M m, R) { m->set_added_ids("1234"); }),
              HasSubstr("added tokens"));
  EXPECT_THAT(error([](M m, R) { m->set_added_flags("\x20\1"); }),
              HasSubstr("added tokens"));
  EXPECT_THAT(error([](M, R r) { r->set_model(4); }), HasSubstr("model"));
  EXPECT_THAT(error([](M, R r) { r->mutable_decoder(0)->set_kind(99); }),
              HasSubstr("decoder"));
  EXPECT_THAT(error([](M, R r) { r->clear_bos_id(); }),
              HasSubstr("not in the form"));
}

TEST(TokenizerSectionTest, SmallInputStaysSmall) {
  // A million empty operations in 2 MB.
  std::string rules;
  for (int i = 0; i < 1 << 20; ++i) rules += std::string("\x5A\0", 2);
  proto::TokenizerTables message;
  message.set_rules(rules);
  EXPECT_FALSE(Decode(message.SerializeAsString()).ok());
}

}  // namespace
}  // namespace qeff
