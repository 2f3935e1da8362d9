// SPDX-License-Identifier: Apache-2.0
//
// Files that are not what they claim to be: each is an error that names the
// field, never a crash, a hang or a wrong tokenizer.

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/tokenizer/build_from_json.h"
#include "qeff/tokenizer/build_from_sentencepiece.h"
#include "qeff/tokenizer/portable_tokenizer.h"
#include "qeff/tokenizer/sentencepiece_model.pb.h"
#include "qeff/tokenizer/tokenizer_testutil.h"

namespace qeff {
namespace {

namespace wire = ::qeff::sentencepiece_wire;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
constexpr absl::StatusCode kUnimplemented = absl::StatusCode::kUnimplemented;

absl::Status LoadJson(const std::string& text) {
  auto tables = BuildFromTokenizerJson(text, "dir/tokenizer.json");
  if (!tables.ok()) return tables.status();
  return PortableTokenizer::Create(*std::move(tables)).status();
}

void ExpectError(const absl::Status& status, absl::StatusCode code,
                 const std::string& part) {
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_NE(status.message().find(part), std::string::npos)
      << "\"" << part << "\" is not in \"" << status.message() << "\"";
}

struct JsonCase {
  const char* what;
  std::function<void(Json*)> edit;
  absl::StatusCode code;
  const char* message_part;
};

std::vector<JsonCase> JsonCases() {
  const auto set = [](const std::string& pointer, Json value) {
    return [pointer, value](Json* json) {
      (*json)[Json::json_pointer(pointer)] = value;
    };
  };
  const Json regex = {{"type", "Split"},
                      {"pattern", {{"Regex", "(a+)+$"}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  const Json after_bytes = {
      {"type", "Sequence"},
      {"pretokenizers",
       Json::array({Json{{"type", "ByteLevel"}}, Json{{"type", "Digits"}}})}};
  const std::string long_token(1 << 20, 'x');
  return {
      {"no model", set("/model", nullptr), kInvalid, "model"},
      {"model type", set("/model/type", "Unigram"), kUnimplemented,
       "model: type: \"Unigram\""},
      {"model type is a number", set("/model/type", 1), kInvalid,
       "model: type"},
      {"vocab missing", set("/model/vocab", nullptr), kInvalid, "vocab"},
      {"vocab is a list", set("/model/vocab", Json::array({1})), kInvalid,
       "vocab"},
      {"merge of one part", set("/model/merges/0", "th"), kInvalid,
       "merges[0]"},
      {"merge of three parts", set("/model/merges/0", "t h e"), kInvalid,
       "merges[0]"},
      {"merge list of three", set("/model/merges/0", {"t", "h", "e"}), kInvalid,
       "merges[0]"},
      {"merge list of one", set("/model/merges/1", Json::array({"t"})),
       kInvalid, "merges[1]"},
      {"merge is a number", set("/model/merges/0", 7), kInvalid, "merges[0]"},
      {"merge of no token", set("/model/merges/0", "q zz"), kInvalid,
       "\"zz\" is not in vocab"},
      {"merge to no token", set("/model/merges/0", "q z"), kInvalid,
       "\"qz\" is not in vocab"},
      {"merges missing", set("/model/merges", nullptr), kInvalid, "merges"},
      {"id negative", set("/model/vocab/th", -1), kInvalid, "\"th\""},
      {"id not an integer", set("/model/vocab/th", 256.5), kInvalid, "\"th\""},
      {"id is a string", set("/model/vocab/th", "256"), kInvalid, "\"th\""},
      {"id is a list", set("/model/vocab/th", Json::array({256})), kInvalid,
       "\"th\""},
      {"id 2^31", set("/model/vocab/th", int64_t{1} << 31), kInvalid, "\"th\""},
      {"id 2^63", set("/model/vocab/th", uint64_t{1} << 63), kInvalid,
       "\"th\""},
      {"id far away", set("/model/vocab/th", 1 << 20), kInvalid, "gaps"},
      {"id gap", set("/model/vocab/th", 400), kInvalid, "no token has id"},
      {"id twice", set("/model/vocab/th", 5), kInvalid, "id 5"},
      {"byte missing",
       [](Json* json) {
         (*json)["model"]["vocab"].erase("A");
         (*json)["model"]["vocab"]["zzz"] = 65;
       },
       kInvalid, "byte 65"},
      {"unknown token unknown", set("/model/unk_token", "<nope>"), kInvalid,
       "unk_token"},
      {"dropout", set("/model/dropout", 0.1), kUnimplemented, "dropout"},
      {"suffix", set("/model/end_of_word_suffix", "</w>"), kUnimplemented,
       "end_of_word_suffix"},
      {"added token empty", set("/added_tokens/0/content", ""), kInvalid,
       "added_tokens[0]: content"},
      {"added token NUL",
       set("/added_tokens/0/content", std::string("a\0b", 3)), kInvalid,
       "added_tokens[0]: content"},
      {"added token long", set("/added_tokens/0/content", long_token), kInvalid,
       "added_tokens[0]: content"},
      {"added token id negative", set("/added_tokens/0/id", -2), kInvalid,
       "added_tokens[0]: id"},
      {"added token id huge", set("/added_tokens/0/id", 1 << 20), kInvalid,
       "gaps"},
      {"added token id taken", set("/added_tokens/0/id", 3), kInvalid,
       "added_tokens[0]: id"},
      {"added token with another id", set("/added_tokens/0/content", "th"),
       kInvalid, "added_tokens[0]: id"},
      {"added token twice",
       [](Json* json) {
         Json token = (*json)["added_tokens"][0];
         token["id"] = 258;
         (*json)["added_tokens"].push_back(token);
       },
       kInvalid, "added_tokens[1]: content"},
      {"added tokens no list", set("/added_tokens", "x"), kInvalid,
       "added_tokens"},
      {"regex", set("/pre_tokenizer", regex), kUnimplemented, "(a+)+$"},
      {"pre-tokenizer type", set("/pre_tokenizer/type", "Magic"),
       kUnimplemented, "pre_tokenizer: type: \"Magic\""},
      {"pre-tokenizer order", set("/pre_tokenizer", after_bytes),
       kUnimplemented, "pretokenizers[1]"},
      {"pre-tokenizer of strings", set("/pre_tokenizer", "ByteLevel"), kInvalid,
       "pre_tokenizer"},
      {"normalizer type", set("/normalizer", {{"type", "Precompiled"}}),
       kUnimplemented, "normalizer: type: \"Precompiled\""},
      {"normalizer grows",
       set("/normalizer", {{"type", "Replace"},
                           {"pattern", {{"String", "a"}}},
                           {"content", long_token}}),
       kInvalid, "times longer"},
      {"normalizer empty pattern",
       set("/normalizer", {{"type", "Replace"},
                           {"pattern", {{"String", ""}}},
                           {"content", "x"}}),
       kInvalid, "pattern"},
      {"template of no token",
       set("/post_processor", {{"type", "BertProcessing"},
                               {"sep", {"x", 99999}},
                               {"cls", {"x", 0}}}),
       kInvalid, "99999"},
      {"template without text",
       set("/post_processor", {{"type", "TemplateProcessing"},
                               {"single", Json::array()},
                               {"special_tokens", Json::object()}}),
       kUnimplemented, "single"},
      {"decoder type", set("/decoder", {{"type", "CTC"}}), kUnimplemented,
       "decoder: type: \"CTC\""},
      {"decoder mismatch", set("/decoder", {{"type", "Fuse"}}), kUnimplemented,
       "decoder"},
  };
}

TEST(BadTokenizerJsonTest, NamesTheField) {
  ASSERT_TRUE(LoadJson(ByteLevelJson({"t h"}).dump()).ok());
  for (const JsonCase& c : JsonCases()) {
    SCOPED_TRACE(c.what);
    Json json = ByteLevelJson({"t h"});
    // Two merges, so that both places can be wrong.
    json["model"]["merges"].push_back("t h");
    c.edit(&json);
    const absl::Status status = LoadJson(json.dump());
    ExpectError(status, c.code, c.message_part);
  }
}

TEST(BadTokenizerJsonTest, FileNameComesFirst) {
  EXPECT_EQ(LoadJson("{").message().find("dir/tokenizer.json: "), 0u);
}

TEST(BadTokenizerJsonTest, NotTheRightJson) {
  for (const std::string text :
       {"", "{", "[]", "null", "3", "\"x\"", "{}", "{\"model\": {}}", "{} {}",
        "\xFF", "{\"a\": 1, \"a\": 2}", "{\"model\": {\"vocab\": {\"a\""}) {
    EXPECT_EQ(LoadJson(text).code(), kInvalid) << text;
  }
  const std::string vocab = R"({"model": {"type": "BPE", "merges": [],
      "vocab": {"a": 0, "a": 1}}})";
  ExpectError(LoadJson(vocab), kInvalid, "duplicate token \"a\"");
}

TEST(BadTokenizerJsonTest, DeepNesting) {
  for (const std::string prefix :
       {"", "{\"model\": ", "{\"model\": {\"vocab\": ",
        "{\"model\": {\"merges\": "}) {
    for (const std::string open : {"[", "{\"a\":"}) {
      std::string text = prefix;
      for (int i = 0; i < 10000; ++i) text += open;
      EXPECT_EQ(LoadJson(text).code(), kInvalid);
    }
  }
  std::string stages = "{\"model\": {\"type\":\"BPE\"}, \"normalizer\": ";
  for (int i = 0; i < 10000; ++i) {
    stages += "{\"type\":\"Sequence\",\"normalizers\":[";
  }
  EXPECT_EQ(LoadJson(stages).code(), kInvalid);
}

TEST(BadTokenizerJsonTest, ManyKeysAreNotQuadratic) {
  std::string text = "{\"x\": {";
  for (int i = 0; i < 200000; ++i) text += "\"" + std::to_string(i) + "\":1,";
  text += "\"z\":1}}";
  ExpectError(LoadJson(text), kInvalid, "keys in one object");
}

TEST(BadTokenizerJsonTest, EveryTruncationAndManyBitFlips) {
  const std::string text =
      ByteFallbackJson({"\u2581", "a", "\u2581a"}, {"\u2581 a"}).dump();
  for (size_t size = 0; size < text.size(); size += 1 + size / 200) {
    EXPECT_FALSE(LoadJson(text.substr(0, size)).ok());
  }
  // From the pipeline on, where the vocabulary's bytes are behind.
  for (size_t i = 0; i < text.size(); i += 1 + text.size() / 300) {
    for (int bit = 0; bit < 8; bit += 3) {
      std::string flipped = text;
      flipped[i] = static_cast<char>(flipped[i] ^ (1 << bit));
      LoadJson(flipped).IgnoreError();  // any status, no signal
    }
  }
}

// A model with the pieces <unk>, <s>, </s>, U+2581, a, b, ab and a normalizer
// table that maps 'A' to "a".
wire::Model SmallModel(int model_type) {
  wire::Model model;
  const auto add = [&](const char* text, float score, int type) {
    wire::Piece* piece = model.add_pieces();
    piece->set_piece(text);
    piece->set_score(score);
    piece->set_type(type);
  };
  add("<unk>", 0, 2);
  add("<s>", 0, 3);
  add("</s>", 0, 3);
  add("\xE2\x96\x81", -3, 1);
  add("a", -2, 1);
  add("b", -2.5, 1);
  add("ab", -1, 1);
  model.mutable_trainer_spec()->set_model_type(model_type);
  // One block of units: the root's children begin at 0 ^ offset 0 ... The
  // node of 'A' is unit 'A' with a leaf at its offset.
  std::vector<uint32_t> units(512, 0);
  units[0] = 256u << 10;  // children in the second block
  units[256 ^ 'A'] = 'A' | 1u << 8 | ('A' << 10);  // leaf at unit 256
  units[256] = 0x80000000u | 0;                    // value: replacement at 0
  std::string map("\0\x08\0\0", 4);                // 2048 bytes of units
  for (const uint32_t unit : units) {
    for (int i = 0; i < 4; ++i) map.push_back(static_cast<char>(unit >> 8 * i));
  }
  map += std::string("a\0", 2);
  model.mutable_normalizer_spec()->set_precompiled_charsmap(map);
  return model;
}

absl::StatusOr<std::vector<int32_t>> EncodeWith(const std::string& bytes,
                                                absl::string_view text) {
  auto tables =
      BuildFromSentencePiece(bytes, "dir/tokenizer.model", {true, false});
  if (!tables.ok()) return tables.status();
  auto tokenizer = PortableTokenizer::Create(*std::move(tables));
  if (!tokenizer.ok()) return tokenizer.status();
  return (*tokenizer)->Encode(text, true);
}

TEST(SentencePieceModelTest, SmallModelWorks) {
  for (const int type : {1, 2}) {
    const auto ids =
        EncodeWith(SmallModel(type).SerializeAsString(), "Ab  zzb ");
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, (std::vector<int32_t>{1, 3, 6, 3, 0, 5}));
  }
}

TEST(SentencePieceModelTest, EveryBitFlipAndTruncationIsSurvived) {
  for (const int type : {1, 2}) {
    wire::Model model = SmallModel(type);
    const std::string bytes = model.SerializeAsString();
    for (size_t i = 0; i < bytes.size(); ++i) {
      // Half of the table is zeros: every eighth is enough there.
      if (bytes[i] == 0 && i % 8 != 0) continue;
      std::string flipped = bytes;
      flipped[i] = static_cast<char>(flipped[i] ^ (1 << (i % 8)));
      EncodeWith(flipped, "Ab <s>zzb\xFF AAAA").status().IgnoreError();
    }
    for (size_t size = 0; size < bytes.size(); size += 1 + size / 100) {
      EncodeWith(bytes.substr(0, size), "Ab").status().IgnoreError();
    }
  }
}

TEST(SentencePieceModelTest, CorruptedTableIsAnError) {
  const wire::Model good = SmallModel(2);
  const std::string map = good.normalizer_spec().precompiled_charsmap();
  const auto expect_bad = [&](std::string bad) {
    wire::Model model = good;
    model.mutable_normalizer_spec()->set_precompiled_charsmap(bad);
    ExpectError(EncodeWith(model.SerializeAsString(), "Ab").status(), kInvalid,
                "dir/tokenizer.model: normalizer_spec: precompiled_charsmap");
  };
  const auto with_byte = [&](size_t at, char value) {
    std::string bad = map;
    bad[at] = value;
    return bad;
  };
  expect_bad(map.substr(0, 3));
  expect_bad(map.substr(0, 1000));
  expect_bad(map.substr(0, map.size() - 1));      // no NUL at the end
  expect_bad(with_byte(3, '\x7F'));               // a trie of 2 GiB
  expect_bad(with_byte(0, '\x04'));               // not whole blocks
  expect_bad(with_byte(4 + 3, '\x7F'));           // the root's children outside
  expect_bad(with_byte(4 + 4 * 256, '\x05'));     // value beyond replacements
  expect_bad(with_byte(map.size() - 2, '\xFF'));  // not UTF-8
  std::string deflated;
  for (int i = 0; i < 3000; ++i) deflated.push_back(static_cast<char>(i * 37));
  expect_bad(deflated);
}

TEST(SentencePieceModelTest, Fields) {
  const auto expect = [](const std::function<void(wire::Model*)>& edit,
                         absl::StatusCode code, const char* part) {
    wire::Model model = SmallModel(2);
    edit(&model);
    ExpectError(EncodeWith(model.SerializeAsString(), "ab").status(), code,
                part);
  };
  expect([](wire::Model* m) { m->clear_pieces(); }, kInvalid, "pieces: none");
  expect([](wire::Model* m) { m->mutable_pieces(4)->set_piece(""); }, kInvalid,
         "pieces[4]: piece");
  expect([](wire::Model* m) { m->mutable_pieces(4)->set_piece("b"); }, kInvalid,
         "pieces[5]: piece: duplicate");
  expect(
      [](wire::Model* m) {
        m->mutable_pieces(4)->set_piece(std::string(1 << 20, 'x'));
      },
      kInvalid, "pieces[4]: piece");
  expect([](wire::Model* m) { m->mutable_pieces(4)->set_score(0.0f / 0.0f); },
         kInvalid, "pieces[4]: score");
  expect([](wire::Model* m) { m->mutable_pieces(4)->set_type(9); }, kInvalid,
         "pieces[4]: type");
  expect([](wire::Model* m) { m->mutable_pieces(4)->set_type(6); }, kInvalid,
         "pieces[4]");
  expect([](wire::Model* m) { m->mutable_pieces(4)->set_type(2); }, kInvalid,
         "second unknown");
  expect([](wire::Model* m) { m->mutable_pieces(0)->set_type(1); }, kInvalid,
         "unknown piece");
  expect([](wire::Model* m) { m->mutable_pieces(4)->set_type(5); },
         kUnimplemented, "pieces[4]: type");
  expect([](wire::Model* m) { m->mutable_trainer_spec()->set_model_type(3); },
         kUnimplemented, "model_type");
  expect([](wire::Model* m) { m->mutable_trainer_spec()->set_model_type(8); },
         kInvalid, "model_type");
  expect(
      [](wire::Model* m) {
        m->mutable_trainer_spec()->set_byte_fallback(true);
      },
      kInvalid, "byte 0");
  ExpectError(EncodeWith("\x0A\xFF\xFF\xFF\xFF\x07", "x").status(), kInvalid,
              "not a SentencePiece model");
}

TEST(TokenizerTablesTest, InconsistentTablesAreErrors) {
  const TokenizerTables good = MakeEnglishBpe();
  const auto expect_bad =
      [&](const std::function<void(TokenizerTables*)>& edit) {
        TokenizerTables tables = good;
        edit(&tables);
        EXPECT_EQ(PortableTokenizer::Create(std::move(tables)).status().code(),
                  kInvalid);
      };
  expect_bad([](TokenizerTables* t) { *t = TokenizerTables(); });
  expect_bad([](TokenizerTables* t) { t->kinds.pop_back(); });
  expect_bad([](TokenizerTables* t) { t->tokens.ends.back() += 1; });
  expect_bad([](TokenizerTables* t) { t->merges[0].result = 1 << 30; });
  expect_bad([](TokenizerTables* t) { t->merges[0].left = -1; });
  expect_bad([](TokenizerTables* t) { t->prefix = {1 << 30}; });
  expect_bad([](TokenizerTables* t) { t->unk_id = 1 << 30; });
  expect_bad([](TokenizerTables* t) { t->added[0].id = -5; });
  expect_bad([](TokenizerTables* t) { t->added[0].content.clear(); });
  expect_bad([](TokenizerTables* t) { t->unicode.block_of[3] = 0xFFFF; });
  expect_bad([](TokenizerTables* t) { t->unicode.properties.clear(); });
  expect_bad([](TokenizerTables* t) { t->model = ModelKind::kUnigram; });
}

}  // namespace
}  // namespace qeff
