// SPDX-License-Identifier: Apache-2.0
//
// A real text with a real tokenizer. The folder is given in the environment
// variable QEFF_SHARED_DATA; without it the test is skipped.

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/train/token_shard.h"
#include "qeff/train/tokenize_to_shard.h"

namespace qeff {
namespace {

TEST(TokenizeSharedDataTest, RealText) {
  const char* data = std::getenv("QEFF_SHARED_DATA");
  if (data == nullptr) GTEST_SKIP() << "QEFF_SHARED_DATA is not set";
  const auto tokenizer =
      Tokenizer::FromFolder(absl::StrCat(data, "/stories260k")).value();
  const std::string text = absl::StrCat(data, "/text/tinystories_valid.txt");
  const std::string output = MakeTestFolder() + "/tokens";
  TokenizeOptions options;
  options.bos = tokenizer->bos_id();
  const absl::Status status = TokenizeToShard(
      {text}, *tokenizer, options, output, *CreateThreadPool(2).value());
  ASSERT_TRUE(status.ok()) << status;
  const auto shard = TokenShard::Open(output).value();
  std::vector<std::string> parts;
  for (int64_t i = 0; i < shard->documents(); ++i) {
    const std::vector<int32_t> ids = shard->Document(i).value();
    ASSERT_EQ(ids.front(), tokenizer->bos_id());
    parts.push_back(
        tokenizer->Decode(ids, /*skip_special_tokens=*/true).value());
  }
  // All words of the text, in its order.
  const std::string whole = ReadTestFile(text);
  const std::vector<std::string> words =
      absl::StrSplit(whole, absl::ByAnyChar(" \r\n"), absl::SkipEmpty());
  const std::vector<std::string> found = absl::StrSplit(
      absl::StrJoin(parts, "\n"), absl::ByAnyChar(" \r\n"), absl::SkipEmpty());
  EXPECT_EQ(found, words);
  EXPECT_GT(shard->documents(), 100);
}

}  // namespace
}  // namespace qeff
