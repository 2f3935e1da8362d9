// SPDX-License-Identifier: Apache-2.0

#include "qeff/distill/loss_spec.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qeff {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string ErrorOf(absl::string_view text) {
  const auto spec = ParseLossSpec(text);
  EXPECT_EQ(spec.status().code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(spec.status().message());
}

TEST(LossSpecTest, ReadsAllNames) {
  const auto spec = ParseLossSpec(
      "kl:1,reverse_kl:2, js:0.25,ce:1e-1,hidden:4,hidden_mse:5,attention");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->logits.kl, 1);
  EXPECT_EQ(spec->logits.reverse_kl, 2);
  EXPECT_EQ(spec->logits.js, 0.25);
  EXPECT_EQ(spec->logits.ce, 0.1);
  EXPECT_EQ(spec->hidden_cosine, 4);
  EXPECT_EQ(spec->hidden_mse, 5);
  EXPECT_EQ(spec->attention, 1);
}

TEST(LossSpecTest, WhatIsNotNamedIsZero) {
  const auto spec = ParseLossSpec("ce");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->logits.ce, 1);
  EXPECT_FALSE(spec->teacher());
  EXPECT_TRUE(ParseLossSpec("ce:1,hidden:0.5")->teacher());
  EXPECT_TRUE(ParseLossSpec("js")->logits.teacher());
}

TEST(LossSpecTest, Prints) {
  EXPECT_EQ(LossSpecToString(*ParseLossSpec("hidden:0.5,ce:0.1,kl,js:0")),
            "kl:1,ce:0.1,hidden:0.5");
}

TEST(LossSpecTest, Errors) {
  EXPECT_THAT(ErrorOf("kl:1,kld:1"),
              AllOf(HasSubstr("\"kld\""), HasSubstr("reverse_kl, js, ce")));
  EXPECT_THAT(ErrorOf(""), HasSubstr("unknown term \"\""));
  EXPECT_THAT(ErrorOf("kl:1,"), HasSubstr("unknown term \"\""));
  EXPECT_THAT(ErrorOf("kl:1,ce:2,kl:3"), HasSubstr("kl is there twice"));
  for (const char* weight : {"", "-1", "nan", "inf", "1e999", "x", "1:2"}) {
    EXPECT_THAT(ErrorOf(absl::StrCat("ce:", weight)),
                AllOf(HasSubstr("weight of ce"), HasSubstr(weight)));
  }
  EXPECT_THAT(ErrorOf("kl:0,ce:0"), HasSubstr("all weights"));
}

}  // namespace
}  // namespace qeff
