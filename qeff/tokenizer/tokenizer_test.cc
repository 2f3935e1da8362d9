// SPDX-License-Identifier: Apache-2.0
//
// Whole tokenizers, made by hand.

#include "qeff/tokenizer/tokenizer.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/tokenizer/build_from_json.h"
#include "qeff/tokenizer/tokenizer_testutil.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

using Ids = std::vector<int32_t>;

std::unique_ptr<PortableTokenizer> Make(const Json& json) {
  auto tables = BuildFromTokenizerJson(json.dump(), "test");
  EXPECT_TRUE(tables.ok()) << tables.status();
  if (!tables.ok()) return nullptr;
  auto tokenizer = PortableTokenizer::Create(*std::move(tables));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

Ids Encode(const PortableTokenizer& tokenizer, absl::string_view text,
           bool special = false) {
  auto ids = tokenizer.Encode(text, special);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.ok() ? *std::move(ids) : Ids();
}

std::string Decode(const PortableTokenizer& tokenizer, const Ids& ids,
                   bool skip = false) {
  auto text = tokenizer.Decode(ids, skip);
  EXPECT_TRUE(text.ok()) << text.status();
  return text.ok() ? *std::move(text) : "";
}

// The tokens of `text`, spelled as in the file.
std::vector<std::string> Tokens(const PortableTokenizer& tokenizer,
                                absl::string_view text) {
  std::vector<std::string> tokens;
  for (const int32_t id : Encode(tokenizer, text)) {
    tokens.push_back(tokenizer.IdToToken(id).value());
  }
  return tokens;
}

const std::vector<std::string> kMerges = {"t h",  "th e",  "Ġ the", "i n",
                                          "in g", "Ġ a",   "a a",   "aa aa",
                                          "Ġ Ġ",  "ÃĹ ÃĹ", "! !"};

std::unique_ptr<PortableTokenizer> ByteLevel() {
  std::vector<std::string> merges = kMerges;
  merges.erase(merges.end() - 2);  // needs a merge of bytes before
  return Make(ByteLevelJson(merges));
}

TEST(ByteLevelTest, MergesByRank) {
  const auto tokenizer = ByteLevel();
  EXPECT_EQ(Tokens(*tokenizer, "the thing"),
            (std::vector<std::string>{"the", "Ġ", "th", "ing"}));
  EXPECT_EQ(Tokens(*tokenizer, "in the"),
            (std::vector<std::string>{"in", "Ġthe"}));
  EXPECT_EQ(Tokens(*tokenizer, "aaaaa"),
            (std::vector<std::string>{"aaaa", "a"}));
  EXPECT_TRUE(Encode(*tokenizer, "").empty());
}

TEST(ByteLevelTest, ArbitraryBytesRoundTrip) {
  const auto tokenizer = ByteLevel();
  Random random(3);
  const std::string alphabet =
      "ainthe !\xE2\x82\xAC\xF0\x9F\x98\x80<|end|>'s\n";
  for (int i = 0; i < 5000; ++i) {
    std::string text;
    for (uint64_t j = random.NextBelow(60); j > 0; --j) {
      text += random.NextBelow(3) == 0
                  ? static_cast<char>(random.NextBelow(256))
                  : alphabet[random.NextBelow(alphabet.size())];
    }
    const Ids ids = Encode(*tokenizer, text);
    ASSERT_EQ(Decode(*tokenizer, ids), text);
    StreamDecoder stream(tokenizer.get(), false);
    std::string streamed;
    for (const int32_t id : ids) streamed += stream.Append(id).value();
    streamed += stream.Flush();
    ASSERT_EQ(streamed, text);
  }
}

TEST(ByteLevelTest, StreamsWholeCharacters) {
  const auto tokenizer = ByteLevel();
  StreamDecoder stream(tokenizer.get(), true);
  EXPECT_EQ(stream.Append(0xE2).value(), "");
  EXPECT_EQ(stream.Append(0x82).value(), "");
  EXPECT_EQ(stream.Append(0xAC).value(), "\xE2\x82\xAC");
  EXPECT_EQ(stream.Append(0xF0).value(), "");
  EXPECT_EQ(stream.Append('x').value(), "\xF0x");
  EXPECT_EQ(stream.Append(0xC3).value(), "");
  EXPECT_FALSE(stream.Append(-1).ok());
  EXPECT_EQ(stream.Flush(), "\xC3");
  EXPECT_EQ(stream.Flush(), "");
}

TEST(ByteLevelTest, SpecialTokens) {
  const auto tokenizer = ByteLevel();
  const int32_t end = tokenizer->TokenToId("<|end|>").value();
  EXPECT_EQ(end, tokenizer->vocab_size() - 1);
  EXPECT_TRUE(tokenizer->is_special(end));
  EXPECT_FALSE(tokenizer->is_special(0));
  EXPECT_FALSE(tokenizer->is_special(-1));
  EXPECT_FALSE(tokenizer->is_special(end + 1));
  const Ids ids = Encode(*tokenizer, "a<|end|>!<|end");
  EXPECT_EQ(std::count(ids.begin(), ids.end(), end), 1);
  EXPECT_EQ(Decode(*tokenizer, ids, true), "a!<|end");
  EXPECT_EQ(Decode(*tokenizer, ids, false), "a<|end|>!<|end");
  EXPECT_EQ(tokenizer->TokenToId("Ġthe"), absl::optional<int32_t>(258));
  EXPECT_EQ(tokenizer->TokenToId(" the"), absl::nullopt);
}

TEST(ByteLevelTest, IdsOutsideTheVocabularyAreErrors) {
  const auto tokenizer = ByteLevel();
  for (const int32_t id : {-1, tokenizer->vocab_size(), INT32_MAX, INT32_MIN}) {
    const auto text = tokenizer->Decode({0, id}, false);
    EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(text.status().message().find("ids[1]"), std::string::npos);
    EXPECT_FALSE(tokenizer->IdToToken(id).ok());
  }
}

TEST(ByteLevelTest, AddPrefixSpaceAndIgnoreMerges) {
  Json json = ByteLevelJson({"t h", "th e", "Ġ the"});
  json["pre_tokenizer"]["add_prefix_space"] = true;
  EXPECT_EQ(Tokens(*Make(json), "the"), std::vector<std::string>{"Ġthe"});
  EXPECT_EQ(Tokens(*Make(json), " the"), std::vector<std::string>{"Ġthe"});
  json = ByteLevelJson({});
  json["model"]["vocab"]["xyz"] = 256;
  json["added_tokens"] = Json::array();
  EXPECT_EQ(Tokens(*Make(json), "xyz").size(), 3u);
  json["model"]["ignore_merges"] = true;
  EXPECT_EQ(Tokens(*Make(json), "xyz").size(), 1u);
}

// A token that merging its own bytes would not give must not be found whole.
TEST(ByteLevelTest, UnreachableTokensAreNotUsed) {
  const auto tokenizer = Make(ByteLevelJson({"b c", "a b", "ab c"}));
  EXPECT_EQ(Tokens(*tokenizer, "abc"), (std::vector<std::string>{"a", "bc"}));
}

TEST(ByteLevelTest, NormalizerAndGapsBetweenAddedTokens) {
  Json json = ByteLevelJson({"Ã ©"});
  json["normalizer"] = {{"type", "NFC"}};
  json["added_tokens"][0]["id"] = 300;
  const auto tokenizer = Make(json);
  EXPECT_EQ(Tokens(*tokenizer, "e\xCC\x81"), std::vector<std::string>{"Ã©"});
  EXPECT_EQ(tokenizer->vocab_size(), 301);
  EXPECT_FALSE(tokenizer->IdToToken(299).ok());
  EXPECT_FALSE(tokenizer->Decode({299}, false).ok());
}

TEST(ByteLevelTest, LongRunsAreFast) {
  const auto tokenizer = PortableTokenizer::Create(MakeEnglishBpe()).value();
  for (const std::string unit : {"a", "^", " ", "\xCC\x81", "\n", "1"}) {
    std::string text;
    while (text.size() < 1 << 20) text += unit;
    const auto start = std::chrono::steady_clock::now();
    const Ids ids = Encode(*tokenizer, text);
    EXPECT_LT(std::chrono::steady_clock::now() - start,
              std::chrono::seconds(10));  // 1 s, with room for sanitizers
    EXPECT_EQ(Decode(*tokenizer, ids), text);
  }
}

TEST(ByteLevelTest, ThreadsAgree) {
  const auto tokenizer = PortableTokenizer::Create(MakeEnglishBpe()).value();
  const std::string text = MakeEnglishText(20000);
  const Ids expected = Encode(*tokenizer, text);
  std::vector<Ids> found(4);
  std::vector<std::thread> threads;
  for (Ids& ids : found) {
    threads.emplace_back([&] { ids = tokenizer->Encode(text, false).value(); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Ids& ids : found) EXPECT_EQ(ids, expected);
}

TEST(AddedTokenTest, StripAndSingleWord) {
  Json json = ByteLevelJson({});
  Json token = json["added_tokens"][0];
  token["id"] = 257;
  token["content"] = "<m>";
  token["lstrip"] = true;
  token["rstrip"] = true;
  json["added_tokens"].push_back(token);
  token["id"] = 258;
  token["content"] = "cat";
  token["single_word"] = true;
  token["lstrip"] = false;
  token["rstrip"] = false;
  json["added_tokens"].push_back(token);
  const auto tokenizer = Make(json);
  EXPECT_EQ(Encode(*tokenizer, "a \t<m>\n <m> b"), (Ids{'a', 257, 257, 'b'}));
  EXPECT_EQ(Encode(*tokenizer, "cat"), Ids{258});
  EXPECT_EQ(Encode(*tokenizer, "a cat."), (Ids{'a', 0x20, 258, '.'}));
  EXPECT_EQ(Encode(*tokenizer, "cats").size(), 4u);
  EXPECT_EQ(Encode(*tokenizer,
                   "\xC3\xA9"
                   "cat")
                .size(),
            5u);
}

TEST(ByteFallbackTest, EncodesAndDecodes) {
  const auto tokenizer = Make(ByteFallbackJson(
      {"\u2581", "h", "i", "hi", "\u2581hi"}, {"h i", "\u2581 hi"}));
  const int32_t base = 3 + 256;
  EXPECT_EQ(Encode(*tokenizer, "hi hi", true), (Ids{1, base + 4, base + 4}));
  // U+20AC and an invalid byte have no piece.
  const Ids ids = Encode(*tokenizer, "\xE2\x82\xAC\xFF");
  EXPECT_EQ(ids, (Ids{base, 3 + 0xE2, 3 + 0x82, 3 + 0xAC, 3 + 0xFF}));
  EXPECT_EQ(Decode(*tokenizer, ids), "\xE2\x82\xAC\xEF\xBF\xBD");
  EXPECT_EQ(Decode(*tokenizer, {1, base + 4, base + 4}, true), "hi hi");
  EXPECT_EQ(Decode(*tokenizer, {base, base + 4}), " hi");
  StreamDecoder stream(tokenizer.get(), true);
  EXPECT_EQ(stream.Append(1).value(), "");
  EXPECT_EQ(stream.Append(base + 4).value(), "hi");
  EXPECT_EQ(stream.Append(3 + 0xE2).value(), "");
  EXPECT_EQ(stream.Append(3 + 0x82).value(), "");
  EXPECT_EQ(stream.Append(3 + 0xAC).value(), "\xE2\x82\xAC");
  EXPECT_EQ(stream.Append(3 + 0xE2).value(), "");
  EXPECT_EQ(stream.Append(base + 4).value(), "\xEF\xBF\xBD hi");
  EXPECT_EQ(stream.Flush(), "");
  EXPECT_EQ(stream.Append(base + 4).value(), "hi");  // a new text
}

TEST(ByteFallbackTest, UnknownTextWithoutBytes) {
  Json json = ByteFallbackJson({"\u2581", "h"}, {});
  json["model"]["byte_fallback"] = false;
  EXPECT_EQ(Encode(*Make(json), "xyh"), (Ids{259, 0, 260}));
  json["model"]["fuse_unk"] = false;
  EXPECT_EQ(Encode(*Make(json), "xyh"), (Ids{259, 0, 0, 260}));
  json["model"].erase("unk_token");
  EXPECT_EQ(Encode(*Make(json), "xyh"), (Ids{259, 260}));
}

TEST(ByteFallbackTest, MetaspacePreTokenizer) {
  Json json = ByteFallbackJson({"\u2581", "a", "\u2581a"}, {"\u2581 a"});
  json["normalizer"] = nullptr;
  json["pre_tokenizer"] = {{"type", "Metaspace"},
                           {"replacement", "\u2581"},
                           {"prepend_scheme", "first"},
                           {"split", true}};
  json["decoder"] = {{"type", "Metaspace"},
                     {"replacement", "\u2581"},
                     {"prepend_scheme", "first"}};
  const auto tokenizer = Make(json);
  const int32_t word = 3 + 256 + 2;
  EXPECT_EQ(Encode(*tokenizer, "a a"), (Ids{word, word}));
  EXPECT_EQ(Encode(*tokenizer, "</s>a"), (Ids{2, word - 1}));
  EXPECT_EQ(Decode(*tokenizer, {word, word}), "a a");
}

TEST(WordPieceTest, EncodesAndDecodes) {
  const auto tokenizer = Make(WordPieceJson(
      {"un", "##aff", "##able", "hello", ",", "##s", "\u4E2D", "!"}));
  EXPECT_EQ(Tokens(*tokenizer, "Unaffable, h\xC3\xA9llos!"),
            (std::vector<std::string>{"un", "##aff", "##able", ",", "hello",
                                      "##s", "!"}));
  EXPECT_EQ(Tokens(*tokenizer, "hello\u4E2Dunx"),
            (std::vector<std::string>{"hello", "\u4E2D", "[UNK]"}));
  EXPECT_EQ(Encode(*tokenizer, "[SEP] un", true), (Ids{2, 3, 4, 3}));
  EXPECT_EQ(
      Decode(*tokenizer, Encode(*tokenizer, "Unaffable, hellos!", true), true),
      "unaffable, hellos!");
  EXPECT_EQ(Tokens(*tokenizer, std::string(101, 'u')),
            std::vector<std::string>{"[UNK]"});
  EXPECT_TRUE(Encode(*tokenizer, std::string("\0\xFF\x01", 3)).empty());
}

TEST(PreTokenizerTest, Variants) {
  Json json =
      WordPieceJson({"a", "b", "1", "2", "12", ".", "..", "a.", ".b", "a1"});
  json["normalizer"] = nullptr;
  const auto tokens = [&json](const Json& pre_tokenizer,
                              absl::string_view text) {
    json["pre_tokenizer"] = pre_tokenizer;
    return Tokens(*Make(json), text);
  };
  using Strings = std::vector<std::string>;
  EXPECT_EQ(tokens({{"type", "Whitespace"}}, " a.. 12\n"),
            (Strings{"a", "..", "12"}));
  EXPECT_EQ(tokens({{"type", "WhitespaceSplit"}}, " a. 12\n"),
            (Strings{"a.", "12"}));
  EXPECT_EQ(tokens({{"type", "Digits"}, {"individual_digits", true}}, "a12"),
            (Strings{"a", "1", "2"}));
  EXPECT_EQ(tokens({{"type", "Digits"}}, "a12"), (Strings{"a", "12"}));
  const auto punctuation = [&](const char* behavior, absl::string_view text) {
    return tokens({{"type", "Punctuation"}, {"behavior", behavior}}, text);
  };
  EXPECT_EQ(punctuation("Isolated", "a..b"), (Strings{"a", ".", ".", "b"}));
  EXPECT_EQ(punctuation("Removed", "a..b"), (Strings{"a", "b"}));
  EXPECT_EQ(punctuation("Contiguous", "a..b"), (Strings{"a", "..", "b"}));
  EXPECT_EQ(punctuation("MergedWithPrevious", "a..b"),
            (Strings{"a.", ".", "b"}));
  EXPECT_EQ(punctuation("MergedWithNext", "a..b"), (Strings{"a", ".", ".b"}));
  EXPECT_EQ(tokens({{"type", "Split"},
                    {"pattern", {{"String", "."}}},
                    {"behavior", "Removed"},
                    {"invert", false}},
                   "a.b"),
            (Strings{"a", "b"}));
}

TEST(NormalizerTest, Variants) {
  Json json = ByteLevelJson({});
  const auto decoded = [&json](const Json& normalizer, absl::string_view text) {
    json["normalizer"] = normalizer;
    const auto tokenizer = Make(json);
    return Decode(*tokenizer, Encode(*tokenizer, text));
  };
  EXPECT_EQ(decoded({{"type", "Lowercase"}}, "AÀİ\xFF"), "aài\xCC\x87\xFF");
  EXPECT_EQ(decoded({{"type", "NFKC"}}, "ﬁ①"), "fi1");
  EXPECT_EQ(decoded({{"type", "NFD"}}, "é"), "e\xCC\x81");
  EXPECT_EQ(decoded({{"type", "NFKD"}}, "é①"),
            "e\xCC\x81"
            "1");
  EXPECT_EQ(decoded({{"type", "StripAccents"}}, "e\xCC\x81"), "e");
  EXPECT_EQ(
      decoded({{"type", "Strip"}, {"strip_left", true}, {"strip_right", false}},
              " \u3000a "),
      "a ");
  EXPECT_EQ(decoded({{"type", "Prepend"}, {"prepend", "_"}}, "a"), "_a");
  EXPECT_EQ(decoded({{"type", "Replace"},
                     {"pattern", {{"String", "ab"}}},
                     {"content", "c"}},
                    "abab"),
            "cc");
}

TEST(TokenizerTest, FromFolder) {
  const std::string folder = testing::TempDir() + "/tokenizer_folder";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  EXPECT_EQ(Tokenizer::FromFolder(folder).status().code(),
            absl::StatusCode::kNotFound);
  std::ofstream(folder + "/tokenizer.json") << ByteLevelJson({"t h"}).dump();
  std::ofstream(folder + "/tokenizer_config.json")
      << R"({"bos_token": {"content": "<|end|>"}, "eos_token": "<|end|>"})";
  const auto tokenizer = Tokenizer::FromFolder(folder);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->bos_id(), absl::optional<int32_t>(257));
  EXPECT_EQ((*tokenizer)->eos_id(), absl::optional<int32_t>(257));
  const auto json = Tokenizer::FromTokenizerJson(folder + "/tokenizer.json");
  ASSERT_TRUE(json.ok());
  EXPECT_EQ((*json)->bos_id(), absl::nullopt);
  // What only the finished tables show is still an error of the file.
  Json gap = ByteLevelJson({});
  gap["model"]["vocab"].erase("a");
  gap["model"]["vocab"]["aa"] = 64;
  std::ofstream(folder + "/tokenizer.json") << gap.dump();
  const std::string message(Tokenizer::FromFolder(folder).status().message());
  EXPECT_EQ(message.find(folder + "/tokenizer.json: "), 0u) << message;
  // The tables are all that a tokenizer needs.
  const auto copy = PortableTokenizer::Create((*json)->tables());
  ASSERT_TRUE(copy.ok());
  EXPECT_EQ(Encode(**copy, "the"), Encode(**json, "the"));
}

}  // namespace
}  // namespace qeff
