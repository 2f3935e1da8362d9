// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/tokenizer_testutil.h"

#include <cstdint>
#include <cstdio>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "qeff/tokenizer/build_from_json.h"
#include "qeff/tokenizer/byte_alphabet.h"
#include "qeff/tokenizer/utf8.h"
#include "qeff/util/check.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr const char* kWords[] = {
    "the",   "of",     "and",   "a",      "to",        "in",
    "is",    "you",    "that",  "it",     "he",        "was",
    "for",   "on",     "are",   "as",     "with",      "his",
    "they",  "I",      "at",    "be",     "this",      "have",
    "from",  "or",     "one",   "had",    "by",        "word",
    "but",   "not",    "what",  "all",    "were",      "we",
    "when",  "your",   "can",   "said",   "there",     "use",
    "an",    "each",   "which", "she",    "do",        "how",
    "their", "if",     "will",  "up",     "other",     "about",
    "out",   "many",   "then",  "them",   "these",     "so",
    "some",  "her",    "would", "make",   "like",      "him",
    "into",  "time",   "has",   "look",   "two",       "more",
    "write", "go",     "see",   "number", "no",        "way",
    "could", "people", "my",    "than",   "first",     "water",
    "been",  "called", "who",   "oil",    "its",       "now",
    "find",  "long",   "down",  "day",    "did",       "get",
    "come",  "made",   "may",   "part",   "telephone", "understanding"};

Json SpecialToken(int id, const std::string& content) {
  return {{"id", id},        {"content", content}, {"single_word", false},
          {"lstrip", false}, {"rstrip", false},    {"normalized", false},
          {"special", true}};
}

std::string Joined(const std::string& merge) {
  std::string token = merge;
  token.erase(token.find(' '), 1);
  return token;
}

}  // namespace

Json ByteLevelJson(const std::vector<std::string>& merges) {
  Json vocab = Json::object();
  for (int byte = 0; byte < 256; ++byte) {
    std::string token;
    AppendUtf8(ByteToAlphabet(static_cast<uint8_t>(byte)), &token);
    vocab[token] = byte;
  }
  for (const std::string& merge : merges) {
    vocab[Joined(merge)] = vocab.size();
  }
  const int end = static_cast<int>(vocab.size());
  const Json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  return {{"version", "1.0"},
          {"added_tokens", Json::array({SpecialToken(end, "<|end|>")})},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", byte_level},
          {"decoder", byte_level},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
}

Json ByteFallbackJson(const std::vector<std::string>& pieces,
                      const std::vector<std::string>& merges) {
  Json vocab = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  for (int byte = 0; byte < 256; ++byte) {
    vocab[absl::StrFormat("<0x%02X>", byte)] = vocab.size();
  }
  for (const std::string& piece : pieces) vocab[piece] = vocab.size();
  const Json space_to_mark = {{"type", "Replace"},
                              {"pattern", {{"String", " "}}},
                              {"content", "\u2581"}};
  const Json mark_to_space = {{"type", "Replace"},
                              {"pattern", {{"String", "\u2581"}}},
                              {"content", " "}};
  const Json prepend = {{"type", "Prepend"}, {"prepend", "\u2581"}};
  const Json strip = {
      {"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}};
  const Json bos = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
  const Json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  return {
      {"added_tokens",
       Json::array({SpecialToken(0, "<unk>"), SpecialToken(1, "<s>"),
                    SpecialToken(2, "</s>")})},
      {"normalizer",
       {{"type", "Sequence"},
        {"normalizers", Json::array({prepend, space_to_mark})}}},
      {"pre_tokenizer", nullptr},
      {"post_processor",
       {{"type", "TemplateProcessing"},
        {"single", Json::array({bos, text})},
        {"special_tokens",
         {{"<s>",
           {{"id", "<s>"}, {"ids", Json::array({1})}, {"tokens", {"<s>"}}}}}}}},
      {"decoder",
       {{"type", "Sequence"},
        {"decoders", Json::array({mark_to_space, Json{{"type", "ByteFallback"}},
                                  Json{{"type", "Fuse"}}, strip})}}},
      {"model",
       {{"type", "BPE"},
        {"unk_token", "<unk>"},
        {"fuse_unk", true},
        {"byte_fallback", true},
        {"vocab", vocab},
        {"merges", merges}}}};
}

Json WordPieceJson(const std::vector<std::string>& pieces) {
  Json vocab = {{"[PAD]", 0}, {"[UNK]", 1}, {"[CLS]", 2}, {"[SEP]", 3}};
  for (const std::string& piece : pieces) vocab[piece] = vocab.size();
  return {{"added_tokens",
           Json::array({SpecialToken(0, "[PAD]"), SpecialToken(1, "[UNK]"),
                        SpecialToken(2, "[CLS]"), SpecialToken(3, "[SEP]")})},
          {"normalizer",
           {{"type", "BertNormalizer"},
            {"clean_text", true},
            {"handle_chinese_chars", true},
            {"strip_accents", nullptr},
            {"lowercase", true}}},
          {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
          {"post_processor",
           {{"type", "BertProcessing"},
            {"sep", Json::array({"[SEP]", 3})},
            {"cls", Json::array({"[CLS]", 2})}}},
          {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}}},
          {"model",
           {{"unk_token", "[UNK]"},
            {"continuing_subword_prefix", "##"},
            {"max_input_chars_per_word", 100},
            {"vocab", vocab}}}};
}

TokenizerTables MakeEnglishBpe() {
  std::vector<std::string> merges;
  std::set<std::string> known;
  for (const std::string space : {"", "\u0120"}) {  // the alphabet's ' '
    for (const char* word : kWords) {
      std::string left = space;
      for (const char* letter = word; *letter != '\0'; ++letter) {
        if (!left.empty() && known.insert(left + *letter).second) {
          merges.push_back(absl::StrCat(left, " ", std::string(1, *letter)));
        }
        left += *letter;
      }
    }
  }
  auto tables = BuildFromTokenizerJson(ByteLevelJson(merges).dump(), "english");
  QEFF_CHECK(tables.ok());
  return *std::move(tables);
}

std::string MakeEnglishText(size_t bytes) {
  Random random(1);
  std::string text;
  while (text.size() < bytes) {
    // Frequent words first, as in Zipf's law.
    const size_t most = 1 + random.NextBelow(std::size(kWords));
    absl::StrAppend(&text, kWords[random.NextBelow(most)]);
    const uint64_t end = random.NextBelow(12);
    absl::StrAppend(&text, end == 0 ? ". " : end == 1 ? ", " : " ");
  }
  return text;
}

}  // namespace qeff
