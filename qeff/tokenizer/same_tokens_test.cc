// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/same_tokens.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/tokenizer/build_from_json.h"
#include "qeff/tokenizer/tokenizer_testutil.h"

namespace qeff {
namespace {

std::unique_ptr<PortableTokenizer> Make(
    const std::vector<std::string>& pieces,
    const std::vector<std::string>& merges) {
  return *PortableTokenizer::Create(
      *BuildFromTokenizerJson(ByteFallbackJson(pieces, merges).dump(), "test"));
}

TEST(SameTokensTest, NamesWhatDiffers) {
  const auto model = Make({"a", "b", "ab"}, {"a b"});
  EXPECT_TRUE(CheckSameTokens(*model, *model).ok());
  // How a text is split does not matter.
  EXPECT_TRUE(CheckSameTokens(*model, *Make({"a", "b", "ab"}, {})).ok());
  const absl::Status count = CheckSameTokens(*model, *Make({"a", "b"}, {}));
  EXPECT_EQ(count.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(count.message(), "tokenizer: expected 262 tokens, found 261");
  EXPECT_EQ(CheckSameTokens(*model, *Make({"a", "\n", "ab"}, {})).message(),
            "tokenizer: token 260: expected \"b\", found \"\\n\"");
}

}  // namespace
}  // namespace qeff
