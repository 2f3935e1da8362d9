// SPDX-License-Identifier: Apache-2.0

#include "qeff/fuzz/seed_files.h"

#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "qeff/tokenizer/sentencepiece_model.pb.h"
#include "qeff/tokenizer/tokenizer_testutil.h"

namespace qeff {
namespace {

namespace wire = ::qeff::sentencepiece_wire;

constexpr char kLlama3Regex[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

Json Sequence(const char* list, const std::vector<Json>& stages) {
  return {{"type", "Sequence"}, {list, stages}};
}

Json Typed(const char* type) { return {{"type", type}}; }

// A BPE of characters: small, and with any pipeline around it.
Json CharacterJson() {
  Json json = WordPieceJson({"a", "b", "ab", "\u2581", "\u2581a", "t", "h"});
  json["model"] = {{"type", "BPE"},
                   {"unk_token", "[UNK]"},
                   {"fuse_unk", true},
                   {"vocab", json["model"]["vocab"]},
                   {"merges", {"a b", "\u2581 a"}}};
  json["normalizer"] = nullptr;
  json["pre_tokenizer"] = nullptr;
  json["post_processor"] = nullptr;
  json["decoder"] = nullptr;
  return json;
}

Json WithNormalizers() {
  Json json = CharacterJson();
  json["normalizer"] = Sequence(
      "normalizers",
      {Typed("NFC"),
       Typed("NFD"),
       Typed("NFKC"),
       Typed("NFKD"),
       Typed("Lowercase"),
       Typed("StripAccents"),
       {{"type", "Prepend"}, {"prepend", "\u2581"}},
       {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "b"}},
       {{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}}});
  return json;
}

Json WithPreTokenizers() {
  Json json = CharacterJson();
  const auto split = [](const char* behavior, const Json& pattern) {
    return Json{{"type", "Split"},
                {"pattern", pattern},
                {"behavior", behavior},
                {"invert", false}};
  };
  json["pre_tokenizer"] = Sequence(
      "pretokenizers",
      {split("Removed", {{"Regex", kLlama3Regex}}),
       split("MergedWithPrevious", {{"String", "a"}}),
       split("MergedWithNext", {{"String", "b"}}),
       split("Contiguous", {{"String", " "}}),
       Typed("Whitespace"),
       Typed("WhitespaceSplit"),
       Typed("BertPreTokenizer"),
       {{"type", "Digits"}, {"individual_digits", true}},
       {{"type", "Punctuation"}, {"behavior", "Isolated"}},
       {{"type", "CharDelimiterSplit"}, {"delimiter", "x"}},
       {{"type", "Metaspace"}, {"prepend_scheme", "first"}, {"split", true}}});
  json["decoder"] = Sequence(
      "decoders",
      {{{"type", "Metaspace"}, {"prepend_scheme", "first"}}, Typed("Fuse")});
  return json;
}

// With what tokenizers have that wrap a text in special tokens.
Json WithTemplate() {
  Json json = CharacterJson();
  const auto special = [](const char* id) {
    return Json{{"SpecialToken", {{"id", id}, {"type_id", 0}}}};
  };
  json["post_processor"] = Sequence(
      "processors",
      {{{"type", "TemplateProcessing"},
        {"single", Json::array({special("[CLS]"),
                                {{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
                                special("[SEP]")})},
        {"special_tokens",
         {{"[CLS]", {{"id", "[CLS]"}, {"ids", Json::array({2})}}},
          {"[SEP]", {{"id", "[SEP]"}, {"ids", Json::array({3})}}}}}},
       {{"type", "RobertaProcessing"},
        {"cls", Json::array({"[CLS]", 2})},
        {"sep", Json::array({"[SEP]", 3})}},
       Typed("ByteLevel")});
  for (const char* flag : {"lstrip", "rstrip", "single_word", "normalized"}) {
    json["added_tokens"][2][flag] = true;
  }
  json["decoder"] = Sequence(
      "decoders",
      {{{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "c"}},
       {{"type", "Strip"}, {"content", "b"}, {"start", 1}, {"stop", 1}},
       {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}});
  return json;
}

wire::Model SentencePiece(int model_type, bool byte_fallback) {
  wire::Model model;
  const auto add = [&](absl::string_view text, float score, int type) {
    wire::Piece* piece = model.add_pieces();
    piece->set_piece(std::string(text));
    piece->set_score(score);
    piece->set_type(type);
  };
  add("<unk>", 0, 2);
  add("<s>", 0, 3);
  add("</s>", 0, 3);
  if (byte_fallback) {
    for (int i = 0; i < 256; ++i) add(absl::StrFormat("<0x%02X>", i), 0, 6);
  }
  add("\u2581", -3, 1);
  add("a", -2, 1);
  add("b", -2.5, 1);
  add("ab", -1, 1);
  add("<u>", 0, 4);
  model.mutable_trainer_spec()->set_model_type(model_type);
  model.mutable_trainer_spec()->set_byte_fallback(byte_fallback);
  return model;
}

// Darts units of one block, that make "a" of 'A': the root's children are in
// the second 256 units, that of 'A' has a leaf for "a".
std::string CharactersMap() {
  std::vector<uint32_t> units(512, 0);
  units[0] = 256u << 10;
  units[256 ^ 'A'] = 'A' | 1u << 8 | ('A' << 10);
  units[256] = 0x80000000u;
  std::string map("\0\x08\0\0", 4);  // 2048 bytes of units
  for (const uint32_t unit : units) {
    for (int i = 0; i < 4; ++i) {
      map.push_back(static_cast<char>(unit >> 8 * i));
    }
  }
  return map + std::string("a\0", 2);
}

}  // namespace

std::vector<SeedFile> TokenizerJsonSeeds() {
  Json ignoring = CharacterJson();
  ignoring["model"]["ignore_merges"] = true;
  ignoring["model"]["merges"] = Json::array({Json::array({"a", "b"})});
  Json bytes = ByteLevelJson({"t h", "th e"});
  bytes["decoder"] = nullptr;
  return {
      {"byte-level", ByteLevelJson({"t h", "th e"}).dump()},
      {"byte-fallback",
       ByteFallbackJson({"\u2581", "a", "\u2581a"}, {"\u2581 a"}).dump()},
      {"word-piece", WordPieceJson({"the", "##the", "t", "##h"}).dump()},
      {"character", CharacterJson().dump()},
      {"merge-pairs", ignoring.dump()},
      {"normalizers", WithNormalizers().dump()},
      {"pre-tokenizers", WithPreTokenizers().dump()},
      {"template", WithTemplate().dump()},
  };
}

std::vector<SeedFile> TokenizerModelSeeds() {
  wire::Model mapped = SentencePiece(1, false);
  mapped.mutable_normalizer_spec()->set_precompiled_charsmap(CharactersMap());
  wire::Model suffix = SentencePiece(2, false);
  suffix.mutable_trainer_spec()->set_treat_whitespace_as_suffix(true);
  suffix.mutable_normalizer_spec()->set_remove_extra_whitespaces(false);
  return {
      {"unigram", SentencePiece(1, false).SerializeAsString()},
      {"bpe", SentencePiece(2, false).SerializeAsString()},
      {"unigram-bytes", SentencePiece(1, true).SerializeAsString()},
      {"bpe-bytes", SentencePiece(2, true).SerializeAsString()},
      {"map", mapped.SerializeAsString()},
      {"suffix", suffix.SerializeAsString()},
  };
}

Json TrainStateDescription() { return {{"kind", "fuzz"}, {"seed", 1}}; }

}  // namespace qeff
