// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/generate.h"

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/device/reference_model.h"
#include "qeff/parallel/thread_pool.h"

namespace qeff {
namespace {

// A model whose next token is the one after: attention and FFN add nothing,
// embeddings are unit vectors, and row i of the head is the one of i - 1.
std::shared_ptr<DeviceModel> CountingModel() {
  TransformerSpec spec = SmallSpec();
  spec.num_layers = 1;
  spec.hidden_size = spec.vocab_size = 20;
  const auto model = RandomModel(spec, 1);
  const auto zeros = [](const DeviceMatrix& m) {
    return OwnedMatrix(Matrix<float>(m.rows, m.cols));
  };
  DeviceBlock& block = model->blocks[0];
  block.o.weight = zeros(block.o.weight);
  block.down.weight = zeros(block.down.weight);
  Matrix<float> embedding(20, 20), head(20, 20);
  for (int64_t i = 0; i < 20; ++i) {
    embedding.row(i)[i] = 1;
    head.row((i + 1) % 20)[i] = 1;
  }
  model->token_embedding = OwnedMatrix(std::move(embedding));
  model->lm_head.weight = OwnedMatrix(std::move(head));
  model->final_norm.weight.assign(20, 1.0f);
  return model;
}

class GenerateTest : public ::testing::Test {
 protected:
  GenerateTest() {
    options_.max_new_tokens = 5;
    callbacks_.on_token = [this](int32_t token) {
      tokens_.push_back(token);
      return absl::OkStatus();
    };
    // Token n is the letter 'a' + n.
    callbacks_.decode = [](int32_t token) {
      return std::string(1, static_cast<char>('a' + token));
    };
    callbacks_.on_text = [this](absl::string_view text) {
      EXPECT_FALSE(text.empty());
      pieces_.emplace_back(text);
      return absl::OkStatus();
    };
  }

  absl::StatusOr<GenerateResult> Run(std::vector<int32_t> prompt) {
    return Generate(prompt, options_, callbacks_, engine_.get(), &sampler_);
  }

  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(1);
  std::unique_ptr<Engine> engine_ =
      *Engine::Create(CountingModel(), pool_.get(), {12});
  Sampler sampler_ = *Sampler::Create({}, 20);
  GenerateOptions options_;
  GenerateCallbacks callbacks_;
  std::vector<int32_t> tokens_;
  std::vector<std::string> pieces_;
};

TEST_F(GenerateTest, CountsUpToTheLimit) {
  const auto result = Run({7, 3});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->tokens, (std::vector<int32_t>{4, 5, 6, 7, 8}));
  EXPECT_EQ(result->text, "efghi");
  EXPECT_EQ(result->finish_reason, FinishReason::kMaxNewTokens);
  EXPECT_EQ(tokens_, result->tokens);
  EXPECT_EQ(pieces_, (std::vector<std::string>{"e", "f", "g", "h", "i"}));
  EXPECT_EQ(result->timing.prompt_tokens, 2);
  EXPECT_EQ(result->timing.generated_tokens, 5);
  // The last token was chosen but not run.
  EXPECT_EQ(engine_->position(), 6);
}

TEST_F(GenerateTest, GoesOnWhereTheEngineIs) {
  ASSERT_TRUE(Run({3}).ok());
  const auto result = Run({8});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->text, "jklmn");
}

TEST_F(GenerateTest, PaddingOfTheEmbeddingIsNeverChosen) {
  sampler_ = *Sampler::Create({}, 6);
  const auto result = Run({3});
  ASSERT_TRUE(result.ok()) << result.status();
  // 6 would follow 5; without it all logits are equal.
  EXPECT_EQ(result->tokens, (std::vector<int32_t>{4, 5, 0, 1, 2}));
}

TEST_F(GenerateTest, EndsWithAnEosTokenThatIsNotDecoded) {
  options_.eos_token_ids = {17, 6};
  const auto result = Run({3});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->tokens, (std::vector<int32_t>{4, 5, 6}));
  EXPECT_EQ(result->text, "ef");
  EXPECT_EQ(result->finish_reason, FinishReason::kEndOfSequence);
}

TEST_F(GenerateTest, EndsBeforeAStopString) {
  options_.max_new_tokens = 10;
  options_.stop_strings = {"xyz", "ghi"};
  const auto result = Run({3});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->text, "ef");
  EXPECT_EQ(pieces_, (std::vector<std::string>{"e", "f"}));
  EXPECT_EQ(result->finish_reason, FinishReason::kStopString);
  EXPECT_EQ(result->tokens.size(), 5u);
}

TEST_F(GenerateTest, HeldTextComesOutAtTheEnd) {
  options_.stop_strings = {"hix"};
  const auto result = Run({3});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->text, "efghi");
  EXPECT_EQ(pieces_, (std::vector<std::string>{"e", "f", "g", "hi"}));
}

TEST_F(GenerateTest, TheFlushOfTheDecoderCanCompleteAStop) {
  options_.stop_strings = {"i!"};
  callbacks_.flush = [] { return std::string("!"); };
  const auto result = Run({3});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->text, "efgh");
  EXPECT_EQ(result->finish_reason, FinishReason::kStopString);
}

TEST_F(GenerateTest, EndsWhenTheContextIsFull) {
  options_.max_new_tokens = 1000000;
  const auto result = Run({0, 1, 2});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->finish_reason, FinishReason::kContextFull);
  EXPECT_EQ(result->tokens.size(), 10u);  // 12 - 3, and one that is not run
  EXPECT_EQ(engine_->position(), 12);
}

TEST_F(GenerateTest, MeasuresByTheGivenClock) {
  double now = 100;
  callbacks_.now_seconds = [&now] { return now++; };
  const auto result = Run({3});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->timing.prefill_seconds(), 1);
  EXPECT_EQ(result->timing.total_seconds(), 5);
  EXPECT_EQ(result->timing.decode_tokens_per_second(), 1);
  EXPECT_EQ(result->timing.total_tokens_per_second(), 0.8);
}

TEST_F(GenerateTest, WithoutCallbacksThereAreTokensOnly) {
  callbacks_ = {};
  const auto result = Run({3});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->tokens.size(), 5u);
  EXPECT_EQ(result->text, "");
}

TEST_F(GenerateTest, ThePenaltySeesThePromptAndTheText) {
  SamplerOptions options;
  options.repetition_penalty = 1000;
  sampler_ = *Sampler::Create(options, 20);
  options_.max_new_tokens = 2;
  // Were 4 not in the prompt, it would follow 3; all others are at 0.
  const auto result = Run({4, 3});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->tokens[0], 4);
}

TEST_F(GenerateTest, ErrorsOfCallbacksEndIt) {
  callbacks_.on_text = [](absl::string_view) {
    return absl::CancelledError("interrupted");
  };
  EXPECT_EQ(Run({3}).status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(tokens_.size(), 1u);
  callbacks_.decode = [](int32_t) {
    return absl::StatusOr<std::string>(absl::InvalidArgumentError("no id"));
  };
  EXPECT_EQ(Run({3}).status().message(), "no id");
  callbacks_.on_token = [](int32_t) { return absl::CancelledError("now"); };
  EXPECT_EQ(Run({3}).status().message(), "now");
}

TEST_F(GenerateTest, BadOptionsAreErrors) {
  EXPECT_EQ(Run({}).status().message(), "prompt: it has no tokens");
  EXPECT_EQ(Run({99}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Run(std::vector<int32_t>(13, 1)).status().code(),
            absl::StatusCode::kOutOfRange);
  options_.max_new_tokens = 0;
  EXPECT_EQ(Run({3}).status().message(),
            "max_new_tokens: expected at least 1, found 0");
  options_.max_new_tokens = 1;
  options_.stop_strings = {""};
  EXPECT_EQ(Run({3}).status().message(), "stop: the string is empty");
  options_.stop_strings = {"x"};
  callbacks_.decode = nullptr;
  EXPECT_FALSE(Run({3}).ok());
  EXPECT_EQ(engine_->position(), 0);
}

TEST_F(GenerateTest, NaNLogitsAreAnError) {
  const auto model = CountingModel();
  Matrix<float> head(20, 20);
  head.row(7)[3] = std::numeric_limits<float>::quiet_NaN();
  model->lm_head.weight = OwnedMatrix(std::move(head));
  engine_ = *Engine::Create(model, pool_.get(), {12});
  EXPECT_EQ(Run({3}).status().code(), absl::StatusCode::kDataLoss);
}

TEST(FinishReasonNameTest, NamesAll) {
  EXPECT_EQ(FinishReasonName(FinishReason::kContextFull), "context full");
  EXPECT_EQ(FinishReasonName(FinishReason::kStopString), "stop string");
}

}  // namespace
}  // namespace qeff
