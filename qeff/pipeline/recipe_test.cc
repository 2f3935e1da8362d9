// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/recipe.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/util/mutate_testutil.h"

namespace qeff {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr RecipeTexts kAll = {true, true, true};

void ExpectError(const char* text, const char* begin, const char* part,
                 const RecipeTexts& texts = kAll) {
  const auto steps = ParseRecipe(text, "r.textproto", texts);
  EXPECT_EQ(steps.status().code(), absl::StatusCode::kInvalidArgument)
      << text << steps.status();
  EXPECT_THAT(std::string(steps.status().message()),
              AllOf(StartsWith(begin), HasSubstr(part)));
}

TEST(RecipeTest, FieldsAreFlags) {
  const auto steps = ParseRecipe(R"(
# a comment
step { prune { method: "sparsegpt" pattern: "2:4" compensate: false } }
step {
  distill { loss: "kl:1,ce:0.5" steps: 500 learning_rate: 3e-4 }
}
step { quantize { scheme: "int4_g32" algorithm: "gptq" seed: 7 } }
step { evaluate {} }
step { export { format: "gguf" } }
step { compile { target: "x86-64" } }
)",
                                 "r.textproto", kAll);
  ASSERT_TRUE(steps.ok()) << steps.status();
  ASSERT_EQ(steps->size(), 6U);
  EXPECT_EQ((*steps)[0].command, "prune");
  EXPECT_EQ((*steps)[0].line, 3);
  EXPECT_THAT(
      (*steps)[0].flags,
      ElementsAre("--method=sparsegpt", "--pattern=2:4", "--compensate=false"));
  EXPECT_THAT((*steps)[1].flags,
              ElementsAre("--loss=kl:1,ce:0.5", "--steps=500",
                          "--learning_rate=0.0003"));
  EXPECT_EQ((*steps)[2].Flag("scheme"), "int4_g32");
  EXPECT_EQ((*steps)[2].Flag("layout"), "");
  EXPECT_EQ((*steps)[3].command, "eval");
  EXPECT_THAT((*steps)[3].flags, ElementsAre());
  EXPECT_TRUE((*steps)[2].changes_model());
  EXPECT_FALSE((*steps)[4].changes_model());
}

TEST(RecipeTest, WrongTextIsFoundWithItsLine) {
  ExpectError("", "r.textproto: ", "without steps");
  ExpectError("step { quantize { scheme: \"int4\" } }\nstep {\n quantise {} }",
              "r.textproto:3: ", "quantise");
  ExpectError("step { quantize { scheme: \"int4\" sheme: 1 } }",
              "r.textproto:1: ", "sheme");
  ExpectError("step { quantize { scheme: 4 } }", "r.textproto:1: ", "string");
  ExpectError("step { distill { steps: 1.5 } }", "r.textproto:1: ", "integer");
  ExpectError("step {}", "r.textproto:1: ", "without content");
  ExpectError("step { prune {} quantize {} }", "r.textproto:1: ", "oneof");
  ExpectError("step {\n", "r.textproto:2: ", "");
}

TEST(RecipeTest, ImpossibleOrdersAreFound) {
  const char kInt4[] = "step { quantize { scheme: \"int4_g32\" } }\n";
  const std::string first = kInt4;
  ExpectError((first + "step { prune {} }").c_str(),
              "r.textproto:2: ", "int4_g32 since line 1");
  ExpectError((first + kInt4).c_str(), "r.textproto:2: ", "comes before");
  ExpectError((first + "step { distill {} }").c_str(),
              "r.textproto:2: ", "distill without a scheme");
  ExpectError((first + "step { distill { scheme: \"int3_g32\" } }").c_str(),
              "r.textproto:2: ", "int4_g32 since line 1");
  EXPECT_TRUE(ParseRecipe(first + "step { distill { scheme: \"int4_g32\" } }",
                          "r", kAll)
                  .ok());
  ExpectError("step { prune {} }\nstep { distill { student_init: \"x\" } }",
              "r.textproto:2: ", "begins with the teacher");
}

TEST(RecipeTest, WhatAFormatCannotHoldIsFound) {
  const auto recipe = [](const char* scheme, const char* format) {
    return std::string("step { quantize { ") + scheme +
           " } }\n\nstep { export { format: \"" + format + "\" } }";
  };
  const char kInt3[] = "scheme: \"int3_g32\"", kInt8[] = "scheme: \"int8\"";
  ExpectError(recipe(kInt3, "awq").c_str(), "r.textproto:3: ", "4 bits");
  ExpectError(recipe("scheme: \"int4_g16\"", "gguf").c_str(),
              "r.textproto:3: ", "blocks");
  ExpectError(recipe("scheme: \"int8\" lm_head: \"nf4\"", "gguf").c_str(),
              "r.textproto:3: ", "cannot hold nf4");
  ExpectError(recipe(kInt3, "compressed-tensors").c_str(),
              "r.textproto:3: ", "2, 4 and 8");
  ExpectError(recipe("budget: \"4bpw\"", "gptq").c_str(),
              "r.textproto:3: ", "both int2_g64 and int2_g32");
  ExpectError(
      recipe("budget: \"4bpw\" scheme: \"int4,int5\"", "compressed-tensors")
          .c_str(),
      "r.textproto:3: ", "cannot hold int5");
  ExpectError(recipe("scheme: \"int5_g32\"", "gptq").c_str(),
              "r.textproto:3: ", "2, 3, 4 and 8");
  ExpectError(recipe("scheme: \"int4_g32\" asymmetric: true", "gguf").c_str(),
              "r.textproto:3: ", "without zero points");
  ExpectError("step { export { format: \"gptq\" } }",
              "r.textproto:1: ", "the model is not");
  EXPECT_TRUE(ParseRecipe(recipe(kInt8, "gguf"), "r", kAll).ok());
  EXPECT_TRUE(ParseRecipe(recipe(kInt3, "gptq"), "r", kAll).ok());
  EXPECT_TRUE(ParseRecipe(recipe(kInt3, "gguf"), "r", kAll).ok());
  EXPECT_TRUE(ParseRecipe(recipe("budget: \"4bpw\"", "gguf"), "r", kAll).ok());
}

TEST(RecipeTest, TextsThatAreMissingAreFound) {
  ExpectError("step { prune {} }", "r.textproto:1: ", "--calibration",
              {false, true, true});
  ExpectError("step { quantize { scheme: \"int4\" algorithm: \"gptq\" } }",
              "r.textproto:1: ", "--calibration", {false, true, true});
  ExpectError("step { distill {} }", "r.textproto:1: ", "--data",
              {true, false, true});
  ExpectError("step { evaluate {} }", "r.textproto:1: ", "--text",
              {true, true, false});
  EXPECT_TRUE(
      ParseRecipe("step { quantize { scheme: \"int4\" } }", "r", {}).ok());
}

TEST(RecipeTest, UnknownSchemesAreFound) {
  ExpectError("step { quantize { scheme: \"int9\" } }",
              "r.textproto:1: ", "int9");
  ExpectError("step { quantize { budget: \"4bpw\" scheme: \"int4,int0\" } }",
              "r.textproto:1: ", "int0");
}

TEST(RecipeTest, TextComesBack) {
  pipeline::Recipe recipe;
  recipe.add_step()->mutable_quantize()->set_scheme("int4_g32");
  recipe.add_step()->mutable_evaluate();
  const auto steps = ParseRecipe(RecipeText(recipe), "r", kAll);
  ASSERT_TRUE(steps.ok()) << steps.status();
  const std::vector<RecipeStep> direct = StepsOf(recipe);
  ASSERT_EQ(steps->size(), direct.size());
  EXPECT_EQ((*steps)[0].flags, direct[0].flags);
}

TEST(RecipeTest, SurvivesDamage) {
  const std::string text =
      "# a comment\nstep { prune { method: \"sparsegpt\" pattern: \"2:4\"\n"
      "  compensate: false } }\n"
      "step { distill { loss: \"kl:1,ce:0.5\" steps: 500 learning_rate: 3e-4 }"
      " }\nstep { quantize { scheme: \"int4_g32\" algorithm: \"gptq\" seed: 7 "
      "} }\nstep { evaluate {} }\nstep { export { format: \"gguf\" } }\n"
      "step { compile { target: \"x86-64\" } }\n";
  EXPECT_GT(ReadDamaged(text, 10000, "r.textproto:",
                        [](const std::string& damaged) -> absl::Status {
                          const auto steps =
                              ParseRecipe(damaged, "r.textproto", kAll);
                          return steps.status();
                        }),
            500);
  // Nested without end.
  std::string deep = "step { prune { ";
  for (int i = 0; i < 100000; ++i) deep += "x { ";
  EXPECT_FALSE(ParseRecipe(deep, "r.textproto", kAll).ok());
}

}  // namespace
}  // namespace qeff
