// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/text_generate.h"

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/device/package/package_testutil.h"
#include "qeff/device/reference_model.h"
#include "qeff/parallel/thread_pool.h"

namespace qeff {
namespace {

class TextGenerateTest : public ::testing::Test {
 protected:
  TextGenerateTest() {
    TransformerSpec spec = SmallSpec();
    spec.vocab_size = 260;
    EngineOptions options;
    options.context_length = 40;
    options.batch_size = 2;
    engine_ = *Engine::Create(RandomModel(spec, 3), pool_.get(), options);
    options_.generate.max_new_tokens = 20;
    options_.sampling.temperature = 2;
    options_.sampling.seed = 5;
  }

  std::vector<int32_t> Encode(absl::string_view text) {
    return *tokenizer_->Encode(text, /*add_special_tokens=*/true);
  }

  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
  std::unique_ptr<PortableTokenizer> tokenizer_ =
      *PortableTokenizer::Create(ByteTables());
  std::unique_ptr<Engine> engine_;
  TextGenerateOptions options_;
};

TEST_F(TextGenerateTest, TextIsWhatTheTokensDecodeTo) {
  const std::vector<std::vector<int32_t>> prompts = {
      Encode("Hello"), {}, Encode("a"), Encode("bcd")};
  std::vector<std::string> streamed(prompts.size());
  std::vector<int> done(prompts.size(), 0);
  TextCallbacks callbacks;
  callbacks.on_text = [&](size_t i, absl::string_view text) {
    streamed[i] += std::string(text);
    return absl::OkStatus();
  };
  callbacks.on_done = [&](size_t i, const absl::StatusOr<GenerateResult>&) {
    ++done[i];
  };
  const auto results =
      GenerateTexts(prompts, options_, *tokenizer_, callbacks, engine_.get());
  ASSERT_EQ(results.size(), prompts.size());
  EXPECT_EQ(done, (std::vector<int>{1, 1, 1, 1}));
  EXPECT_EQ(results[1].status().message(), "prompt: it has no tokens");
  for (const size_t i : {0, 2, 3}) {
    ASSERT_TRUE(results[i].ok()) << results[i].status();
    // 257 to 259 are rows of the embedding that are no tokens.
    for (const int32_t token : results[i]->tokens) EXPECT_LT(token, 257);
    EXPECT_EQ(results[i]->text,
              *tokenizer_->Decode(results[i]->tokens,
                                  /*skip_special_tokens=*/true));
    EXPECT_EQ(results[i]->text, streamed[i]);
    const auto alone =
        GenerateTexts({prompts[i]}, options_, *tokenizer_, {}, engine_.get());
    EXPECT_EQ(alone[0]->tokens, results[i]->tokens);
  }
}

TEST_F(TextGenerateTest, AnErrorOfOnTextEndsOnlyItsPrompt) {
  TextCallbacks callbacks;
  callbacks.on_text = [](size_t i, absl::string_view) {
    return i == 0 ? absl::CancelledError("enough") : absl::OkStatus();
  };
  const auto results = GenerateTexts({Encode("a"), Encode("b")}, options_,
                                     *tokenizer_, callbacks, engine_.get());
  EXPECT_EQ(results[0].status().message(), "enough");
  EXPECT_TRUE(results[1].ok()) << results[1].status();
}

}  // namespace
}  // namespace qeff
