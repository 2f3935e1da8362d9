// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/specializations.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/export/aic/param_json.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Symbols = std::map<std::string, int64_t>;

std::vector<Specialization> Make(const AicShapes& shapes) {
  const auto made = MakeSpecializations(shapes);
  EXPECT_TRUE(made.ok()) << made.status();
  return made.value_or(std::vector<Specialization>());
}

std::vector<std::string> Names(const std::vector<Specialization>& all) {
  std::vector<std::string> names;
  for (const Specialization& one : all) names.push_back(one.name);
  return names;
}

// The value of `symbol` in each, -1 where it is missing.
std::vector<int64_t> Values(const std::vector<Specialization>& all,
                            const std::string& symbol) {
  std::vector<int64_t> values;
  for (const Specialization& one : all) {
    const auto found = one.symbols.find(symbol);
    values.push_back(found == one.symbols.end() ? -1 : found->second);
  }
  return values;
}

// The file that QEfficient's MPT notebook writes, byte for byte.
TEST(SpecializationsJsonTest, NamedForm) {
  EXPECT_EQ(IndentedJson(SpecializationsJson(Make(AicShapes()),
                                             SpecializationForm::kNamed)),
            R"({
    "specializations":[
        {
            "name":"Prefill",
            "symbols":{
                "batch_size":"1",
                "ctx_len":"128",
                "seq_len":"32"
            }
        },
        {
            "name":"Decode",
            "symbols":{
                "batch_size":"1",
                "ctx_len":"128",
                "seq_len":"1"
            }
        }
    ]
})");
}

TEST(SpecializationsJsonTest, FlatForm) {
  EXPECT_EQ(IndentedJson(SpecializationsJson(Make(AicShapes()),
                                             SpecializationForm::kFlat)),
            R"({
    "specializations":[
        {
            "batch_size":"1",
            "ctx_len":"128",
            "seq_len":"32"
        },
        {
            "batch_size":"1",
            "ctx_len":"128",
            "seq_len":"1"
        }
    ]
})");
}

TEST(FormOfSdkTest, ChangesWith122) {
  EXPECT_EQ(*FormOfSdk("1.20.2.0"), SpecializationForm::kFlat);
  EXPECT_EQ(*FormOfSdk("1.21"), SpecializationForm::kFlat);
  EXPECT_EQ(*FormOfSdk("1.22.0"), SpecializationForm::kNamed);
  EXPECT_EQ(*FormOfSdk("2.0"), SpecializationForm::kNamed);
  EXPECT_EQ(*FormOfSdk(""), SpecializationForm::kNamed);
  EXPECT_FALSE(FormOfSdk("new").ok());
}

TEST(MakeSpecializationsTest, ContinuousBatching) {
  AicShapes shapes;
  shapes.full_batch_size = 4;
  const auto all = Make(shapes);
  ASSERT_THAT(Names(all), ElementsAre("Prefill", "Decode"));
  EXPECT_EQ(all[0].symbols, (Symbols{{"batch_size", 1},
                                     {"ctx_len", 128},
                                     {"seq_len", 32},
                                     {"full_batch_size", 4},
                                     {"full_batch_exec_size", 1}}));
  EXPECT_EQ(all[1].symbols, (Symbols{{"batch_size", 4},
                                     {"ctx_len", 128},
                                     {"seq_len", 1},
                                     {"full_batch_size", 4}}));
  EXPECT_THAT(InputsNeeded(shapes), ElementsAre("batch_index"));
}

TEST(MakeSpecializationsTest, PromptsOneByOneAreOneSpecialization) {
  AicShapes shapes;
  shapes.prefill_seq_len = 1;
  EXPECT_THAT(Values(Make(shapes), "seq_len"), ElementsAre(1));
  shapes.full_batch_size = 4;
  const auto all = Make(shapes);
  EXPECT_THAT(Values(all, "batch_size"), ElementsAre(4));
  EXPECT_THAT(Values(all, "full_batch_exec_size"), ElementsAre(4));
}

TEST(MakeSpecializationsTest, TargetOfSpeculativeDecoding) {
  AicShapes shapes;
  shapes.num_speculative_tokens = {3};
  EXPECT_THAT(Names(Make(shapes)), ElementsAre("Prefill", "Decode"));
  EXPECT_THAT(Values(Make(shapes), "seq_len"), ElementsAre(32, 4));
  EXPECT_THAT(Values(Make(shapes), "num_logits_to_keep"), ElementsAre(1, 4));
  shapes.num_speculative_tokens = {3, 0, 3};
  EXPECT_THAT(Names(Make(shapes)),
              ElementsAre("Prefill", "Decode_0", "Decode_1"));
  EXPECT_THAT(Values(Make(shapes), "num_logits_to_keep"), ElementsAre(1, 1, 4));
  // That Decode would be Prefill again.
  shapes.num_speculative_tokens = {31};
  EXPECT_THAT(Values(Make(shapes), "seq_len"), ElementsAre(32));
  EXPECT_THAT(InputsNeeded(shapes), ElementsAre("num_logits_to_keep"));
}

TEST(MakeSpecializationsTest, ComputedContexts) {
  AicShapes shapes;
  shapes.ctx_len = 8192;
  shapes.comp_ctx_lengths_prefill = {500, 4096};
  shapes.comp_ctx_lengths_decode = {9000, 4096};
  const auto all = Make(shapes);
  EXPECT_THAT(Names(all), ElementsAre("Prefill_0", "Prefill_1", "Prefill_2",
                                      "Decode_0", "Decode_1"));
  EXPECT_THAT(Values(all, "comp_ctx_lengths"),
              ElementsAre(1024, 4064, 8160, 4096, 8192));
  EXPECT_THAT(InputsNeeded(shapes), ElementsAre("comp_ctx_lengths"));
  shapes.prefill_seq_len = 1;
  EXPECT_THAT(Values(Make(shapes), "comp_ctx_lengths"),
              ElementsAre(1024, 4096, 8192));
  shapes.prefill_seq_len = 32;
  shapes.comp_ctx_lengths_prefill.clear();
  EXPECT_THAT(Values(Make(shapes), "comp_ctx_lengths"),
              ElementsAre(8160, 4096, 8192));
}

TEST(MakeSpecializationsTest, WithoutOptionsNeedsNoInputs) {
  EXPECT_THAT(InputsNeeded(AicShapes()), IsEmpty());
}

TEST(MakeSpecializationsTest, NamesWhatIsWrong) {
  const auto error = [](void (*change)(AicShapes*)) {
    AicShapes shapes;
    change(&shapes);
    const auto made = MakeSpecializations(shapes);
    EXPECT_FALSE(made.ok());
    return std::string(made.status().message());
  };
  EXPECT_THAT(error([](AicShapes* s) { s->ctx_len = 0; }),
              HasSubstr("ctx_len: expected 1 to"));
  EXPECT_THAT(error([](AicShapes* s) { s->prefill_seq_len = 129; }),
              HasSubstr("prefill_seq_len: expected 1 to 128, found 129"));
  EXPECT_THAT(error([](AicShapes* s) { s->batch_size = 0; }),
              HasSubstr("batch_size"));
  EXPECT_THAT(error([](AicShapes* s) {
                s->batch_size = 2;
                s->full_batch_size = 4;
              }),
              HasSubstr("batch_size: expected 1 beside full_batch_size"));
  EXPECT_THAT(error([](AicShapes* s) { s->num_speculative_tokens = {32}; }),
              HasSubstr("num_speculative_tokens + 1 = 33, found 32"));
  EXPECT_THAT(error([](AicShapes* s) { s->comp_ctx_lengths_decode = {-1}; }),
              HasSubstr("comp_ctx_lengths"));
  EXPECT_THAT(error([](AicShapes* s) {
                s->num_speculative_tokens = {1};
                s->comp_ctx_lengths_decode = {64};
              }),
              HasSubstr("not together"));
}

}  // namespace
}  // namespace qeff
