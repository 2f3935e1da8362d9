// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/base/qeff_auto_model.h"
#include "qeff/base/qeff_auto_model_for_causal_lm.h"
#include "qeff/io/io_testutil.h"
#include "qeff/transformer/known_shapes.h"
#include "qeff/transformer/synth.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Writes another random model of the same shape, or refuses.
class ReseedTransform : public ModelTransform {
 public:
  explicit ReseedTransform(uint64_t seed) : seed_(seed) {}
  std::string name() const override { return "reseed"; }
  absl::StatusOr<TransformReport> Apply(const Transformer& model,
                                        const std::string& output,
                                        ThreadPool& pool) override {
    TransformReport report;
    report.name = name();
    if (seed_ == 0) {
      report.detail = "nothing to do";
      return report;
    }
    SynthOptions options;
    options.seed = seed_;
    QEFF_RETURN_IF_ERROR(WriteSynthCheckpoint(model.checkpoint().config(),
                                              options, output, &pool));
    report.applied = true;
    report.tensors = 1;
    return report;
  }

 private:
  uint64_t seed_;
};

class QeffBaseTest : public ::testing::Test {
 protected:
  QeffBaseTest() {
    folder_ = MakeTestFolder() + "/model";
    const absl::Status status = WriteSynthCheckpoint(*KnownShapeConfig("tiny"),
                                                     {}, folder_, pool_.get());
    EXPECT_TRUE(status.ok()) << status;
  }

  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
  std::string folder_;
};

TEST_F(QeffBaseTest, NamesFollowTheConfig) {
  const auto model =
      QEFFAutoModelForCausalLM::FromPretrained(folder_, pool_.get());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->model_name(), "LlamaForCausalLM");
  EXPECT_EQ((*model)->config()["hidden_size"], 64);
  EXPECT_EQ((*model)->spec().num_layers, 2);
  EXPECT_EQ(QEFFAutoModel::FromPretrained("/nonexistent", pool_.get())
                .status()
                .code(),
            absl::StatusCode::kNotFound);
}

TEST_F(QeffBaseTest, SavePretrainedKeepsEveryByte) {
  const auto model = QEFFAutoModel::FromPretrained(folder_, pool_.get());
  ASSERT_TRUE(model.ok());
  const std::string saved = MakeTestFolder() + "/saved";
  ASSERT_TRUE((*model)->SavePretrained(saved).ok());
  for (const char* name :
       {"config.json", "tokenizer.json", "tokenizer_config.json"}) {
    EXPECT_EQ(ReadTestFile(saved + "/" + name),
              ReadTestFile(folder_ + "/" + name))
        << name;
  }
  const auto before = *Checkpoint::Open(folder_);
  const auto after = *Checkpoint::Open(saved);
  ASSERT_EQ(before->tensors().size(), after->tensors().size());
  for (const TensorInfo& tensor : before->tensors()) {
    EXPECT_TRUE(before->Get(tensor.name)->bytes ==
                after->Get(tensor.name, tensor.shape)->bytes)
        << tensor.name;
  }
  EXPECT_EQ((*model)->SavePretrained(saved).code(),
            absl::StatusCode::kAlreadyExists);
}

TEST_F(QeffBaseTest, TransformBecomesTheModelItWrote) {
  const auto model =
      QEFFAutoModelForCausalLM::FromPretrained(folder_, pool_.get());
  ASSERT_TRUE(model.ok());
  GenerationConfig config;
  config.max_new_tokens = 12;
  const auto before = (*model)->Generate("Hello", config);
  ASSERT_TRUE(before.ok()) << before.status();

  ReseedTransform nothing(0);
  const std::string output = MakeTestFolder() + "/changed";
  ASSERT_TRUE((*model)->Transform(&nothing, output).ok());
  EXPECT_EQ((*model)->Generate("Hello", config)->tokens, before->tokens);

  ReseedTransform reseed(5);
  ASSERT_TRUE((*model)->Transform(&reseed, output).ok());
  EXPECT_EQ((*model)->transformer().checkpoint().folder(), output);
  EXPECT_NE((*model)->Generate("Hello", config)->tokens, before->tokens);

  // The folder exists now: the transform fails, the model stays.
  EXPECT_EQ((*model)->Transform(&reseed, output).status().code(),
            absl::StatusCode::kAlreadyExists);
  ASSERT_EQ((*model)->transforms().size(), 2u);
  EXPECT_FALSE((*model)->transforms()[0].applied);
  EXPECT_TRUE((*model)->transforms()[1].applied);
}

TEST_F(QeffBaseTest, GenerateStreamsWhatItReturns) {
  const auto model =
      QEFFAutoModelForCausalLM::FromPretrained(folder_, pool_.get());
  ASSERT_TRUE(model.ok());
  GenerationConfig config;
  config.max_new_tokens = 30;
  config.sampling.temperature = 1;
  std::string streamed;
  const auto result =
      (*model)->Generate("Hi", config, [&](absl::string_view text) {
        streamed += std::string(text);
        return absl::OkStatus();
      });
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(streamed, result->text);
  EXPECT_EQ(result->timing.prompt_tokens, 3);
  // The context of 256 positions ends a longer generation.
  config.max_new_tokens = 1000;
  config.sampling.temperature = 0;
  const auto long_result = (*model)->Generate("Hi", config);
  ASSERT_TRUE(long_result.ok()) << long_result.status();
  EXPECT_LE(long_result->tokens.size(), 254u);
  const std::string too_long(256, 'x');
  EXPECT_THAT((*model)->Generate(too_long, config).status().ToString(),
              HasSubstr("prompt: has 257 tokens, expected fewer than the "
                        "model's 256 positions"));
}

TEST_F(QeffBaseTest, SeveralPromptsAreAsEachAlone) {
  const auto model =
      QEFFAutoModelForCausalLM::FromPretrained(folder_, pool_.get());
  ASSERT_TRUE(model.ok());
  GenerationConfig config;
  config.max_new_tokens = 20;
  config.sampling.temperature = 1;
  config.sampling.seed = 3;
  config.engine.batch_size = 2;
  const std::vector<std::string> prompts = {"Hi", "A longer prompt", "Hello",
                                            std::string(250, 'x')};
  std::vector<std::string> streamed(prompts.size());
  size_t done = 0;
  TextCallbacks callbacks;
  callbacks.on_text = [&](size_t i, absl::string_view text) {
    streamed[i] += std::string(text);
    return absl::OkStatus();
  };
  callbacks.on_done = [&](size_t, const absl::StatusOr<GenerateResult>&) {
    ++done;
  };
  const auto results = (*model)->Generate(prompts, config, callbacks);
  ASSERT_TRUE(results.ok()) << results.status();
  EXPECT_EQ(done, prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto alone = (*model)->Generate(prompts[i], config);
    ASSERT_TRUE(alone.ok()) << alone.status();
    const auto& result = (*results)[i];
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->tokens, alone->tokens);
    EXPECT_EQ(result->text, streamed[i]);
    EXPECT_EQ(result->finish_reason, alone->finish_reason);
  }
  EXPECT_THAT((*model)
                  ->Generate({"Hi", std::string(256, 'x')}, config)
                  .status()
                  .ToString(),
              HasSubstr("prompt 2: has 257 tokens"));
  EXPECT_TRUE(
      (*model)->Generate(absl::Span<const std::string>(), config)->empty());
}

TEST_F(QeffBaseTest, ADraftModelChangesNoText) {
  const auto model =
      QEFFAutoModelForCausalLM::FromPretrained(folder_, pool_.get());
  const std::string other = MakeTestFolder() + "/draft";
  SynthOptions synth;
  synth.seed = 9;
  ASSERT_TRUE(
      WriteSynthCheckpoint(*KnownShapeConfig("tiny"), synth, other, pool_.get())
          .ok());
  const auto draft =
      QEFFAutoModelForCausalLM::FromPretrained(other, pool_.get());
  GenerationConfig config;
  config.max_new_tokens = 20;
  const std::vector<std::string> prompts = {"Hi", "A longer prompt"};
  const auto plain = (*model)->Generate(prompts, config);
  config.draft = draft->get();
  const auto drafted = (*model)->Generate(prompts, config);
  ASSERT_TRUE(drafted.ok()) << drafted.status();
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ((*drafted)[i]->tokens, (*plain)[i]->tokens);
    EXPECT_EQ((*drafted)[i]->text, (*plain)[i]->text);
    EXPECT_GT((*drafted)[i]->speculation.proposed, 0);
  }

  const auto error = [&] {
    return std::string((*model)->Generate("Hi", config).status().message());
  };
  config.draft_tokens = 32;
  EXPECT_EQ(error(), "draft_tokens: expected 1 to 31, found 32");
  config.draft_tokens = 4;
  config.engine.context_length = 257;
  EXPECT_EQ(error(),
            "draft: max_positions: expected at least 257 as the context has, "
            "found 256");
  config.engine.context_length = 0;
  const std::string path = other + "/tokenizer.json";
  Json json = *ReadJsonFile(path, 1 << 20);
  json["model"]["vocab"]["another"] = 259;
  WriteTestFile(path, WriteJson(json));
  const auto wider =
      QEFFAutoModelForCausalLM::FromPretrained(other, pool_.get());
  config.draft = wider->get();
  EXPECT_EQ(error(), "draft: tokenizer: expected 259 tokens, found 260");
}

TEST_F(QeffBaseTest, EngineAndHostForwardAgree) {
  const auto model =
      QEFFAutoModelForCausalLM::FromPretrained(folder_, pool_.get());
  ASSERT_TRUE(model.ok());
  GenerationConfig config;
  config.max_new_tokens = 10;
  const auto result = (*model)->Generate("Hello", config);
  ASSERT_TRUE(result.ok());
  const auto tokenizer = (*model)->tokenizer();
  std::vector<int32_t> tokens = *(*tokenizer)->Encode("Hello", true);
  for (int32_t token : result->tokens) {
    const Matrix<float> logits = *(*model)->Logits(tokens);
    const float* last = logits.row(logits.rows() - 1);
    // Of the 320 rows of the embedding, 259 are tokens.
    EXPECT_EQ(std::max_element(last, last + 259) - last, token);
    tokens.push_back(token);
  }
}

TEST_F(QeffBaseTest, EmbedPoolsHiddenStates) {
  const auto model = QEFFAutoModel::FromPretrained(folder_, pool_.get());
  ASSERT_TRUE(model.ok());
  const auto mean = (*model)->Embed("Hi", Pooling::kMean);
  ASSERT_TRUE(mean.ok()) << mean.status();
  EXPECT_EQ(mean->size(), 64u);
  const Matrix<float> hidden = *(*model)->HiddenStates({1, 75, 108});
  EXPECT_EQ(*(*model)->Embed("Hi", Pooling::kCls),
            std::vector<float>(hidden.row(0), hidden.row(0) + 64));
  EXPECT_EQ(*(*model)->Embed("Hi", Pooling::kLast),
            std::vector<float>(hidden.row(2), hidden.row(2) + 64));
  EXPECT_FALSE((*model)->HiddenStates({}).ok());
  EXPECT_FALSE((*model)->HiddenStates({320}).ok());
}

TEST_F(QeffBaseTest, EmbedRefusesWhatIsNotANumber) {
  // Every weight is a NaN.
  const std::string path = folder_ + "/model.safetensors";
  std::string bytes = ReadTestFile(path);
  uint64_t header_bytes;
  std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
  std::fill(bytes.begin() + 8 + static_cast<int64_t>(header_bytes), bytes.end(),
            '\xFF');
  WriteTestFile(path, bytes);
  const auto model = QEFFAutoModel::FromPretrained(folder_, pool_.get());
  ASSERT_TRUE(model.ok());
  const absl::Status status = (*model)->Embed("Hi", Pooling::kMean).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("not finite"));
}

TEST_F(QeffBaseTest, TokenizerMustFitTheEmbedding) {
  const auto wide = LoadTransformer(folder_);
  ASSERT_TRUE(wide.ok());
  ASSERT_TRUE(LoadTokenizer(**wide).ok());
  const std::string path = folder_ + "/tokenizer.json";
  Json json = *ReadJsonFile(path, 1 << 20);
  for (int id = 259; id <= 320; ++id) {
    json["model"]["vocab"]["t" + std::to_string(id)] = id;
  }
  WriteTestFile(path, WriteJson(json));
  EXPECT_THAT(std::string(LoadTokenizer(**wide).status().message()),
              HasSubstr("321 tokens, expected at most the 320 rows"));
  const auto model = QEFFAutoModel::FromPretrained(folder_, pool_.get());
  EXPECT_EQ((*model)->Embed("Hi", Pooling::kMean).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(PoolTest, Means) {
  Matrix<float> m(2, 2);
  m.row(0)[0] = 1;
  m.row(1)[0] = 3;
  m.row(1)[1] = -1;
  EXPECT_THAT(Pool(m.view(), Pooling::kMean), ElementsAre(2, -0.5));
}

}  // namespace
}  // namespace qeff
