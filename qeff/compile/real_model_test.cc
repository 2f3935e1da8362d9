// SPDX-License-Identifier: Apache-2.0
//
// The engine on real checkpoints: logits of an independent implementation for
// five model families, and a story that another program wrote. Needs the
// folder QEFF_SHARED_DATA.

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gtest/gtest.h"
#include "qeff/compile/compile_in_memory.h"
#include "qeff/device/engine.h"
#include "qeff/device/generate.h"
#include "qeff/device/reference_model.h"
#include "qeff/device/sampler.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/transformer/host_forward.h"
#include "qeff/util/json.h"

namespace qeff {
namespace {

CompileOptions ExactOptions() {
  CompileOptions options;
  options.activations = Activations::kFloat32;
  return options;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

class RealModelTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("QEFF_SHARED_DATA");
    if (folder == nullptr || *folder == '\0') {
      GTEST_SKIP() << "QEFF_SHARED_DATA is not set";
    }
    data_ = folder;
  }

  std::shared_ptr<const Transformer> Load(const std::string& folder) {
    const auto checkpoint = Checkpoint::Open(folder);
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    auto transformer = Transformer::Load(*checkpoint);
    EXPECT_TRUE(transformer.ok()) << transformer.status();
    return *std::move(transformer);
  }

  std::unique_ptr<Engine> Open(const std::string& folder,
                               int64_t context_length) {
    const auto model =
        CompileInMemory(*Load(folder), ExactOptions(), pool_.get());
    EXPECT_TRUE(model.ok()) << model.status();
    auto engine = Engine::Create(*model, pool_.get(), {context_length});
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  }

  // The text that the model goes on with, `max_new_tokens` long.
  std::string Continue(const std::string& model, const std::string& prompt,
                       int64_t max_new_tokens) {
    const auto tokenizer = *Tokenizer::FromFolder(model);
    const std::vector<int32_t> ids =
        *tokenizer->Encode(prompt, /*add_special_tokens=*/true);
    const auto engine =
        Open(model, static_cast<int64_t>(ids.size()) + max_new_tokens);
    Sampler sampler = *Sampler::Create({}, engine->model().spec.vocab_size);
    GenerateOptions options;
    options.max_new_tokens = max_new_tokens;
    options.eos_token_ids = engine->model().spec.eos_token_ids;
    StreamDecoder decoder(tokenizer.get(), /*skip_special_tokens=*/true);
    GenerateCallbacks callbacks;
    callbacks.decode = [&](int32_t id) { return decoder.Append(id); };
    callbacks.flush = [&] { return decoder.Flush(); };
    for (int32_t id : ids) prefix_ += *decoder.Append(id);
    const auto result =
        Generate(ids, options, callbacks, engine.get(), &sampler);
    EXPECT_TRUE(result.ok()) << result.status();
    generated_ = result->tokens.size();
    return prefix_ + result->text;
  }

  std::string data_;
  std::string prefix_;
  size_t generated_ = 0;
  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
};

using GoldenTest = RealModelTest;

TEST_P(GoldenTest, LogitsAgreeWithAnIndependentImplementation) {
  const std::string folder = absl::StrCat(data_, "/goldens/", GetParam());
  const Json json = *ReadJsonFile(folder + "/tokens.json", 1 << 20);
  const auto tokens = json.get<std::vector<int32_t>>();
  const std::string bytes = ReadFile(folder + "/logits.f32");
  const auto engine = Open(folder, static_cast<int64_t>(tokens.size()));
  const size_t vocab = static_cast<size_t>(engine->model().spec.vocab_size);
  std::vector<float> expected(vocab);
  ASSERT_EQ(bytes.size(), tokens.size() * vocab * sizeof(float));
  for (size_t t = 0; t < tokens.size(); ++t) {
    const auto logits = engine->Append({tokens[t]});
    ASSERT_TRUE(logits.ok()) << logits.status();
    std::memcpy(expected.data(), bytes.data() + t * vocab * sizeof(float),
                vocab * sizeof(float));
    // The reference is float32 as well; 1e-4 is the project's bound.
    EXPECT_LE(RelativeError(*logits, {expected.begin(), expected.end()}), 1e-4)
        << "position " << t;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, GoldenTest,
                         ::testing::Values("llama", "qwen2", "qwen3", "gpt2",
                                           "mpt"),
                         [](const ::testing::TestParamInfo<std::string>& info) {
                           return info.param;
                         });

using HostForwardTest = RealModelTest;

// Two float32 implementations of the same model. Measured: up to 2e-6.
TEST_P(HostForwardTest, EngineAgreesWithTheHostForward) {
  const std::string folder = absl::StrCat(data_, "/", GetParam());
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < 120; ++i) tokens.push_back((i * i + 5) % 160);
  const auto forward = *HostForward::Create(Load(folder), pool_.get());
  const auto expected = forward->LogitsOf(tokens);
  ASSERT_TRUE(expected.ok()) << expected.status();
  const auto engine = Open(folder, static_cast<int64_t>(tokens.size()));
  for (size_t t = 0; t < tokens.size(); ++t) {
    const auto logits = engine->Append({tokens[t]});
    ASSERT_TRUE(logits.ok()) << logits.status();
    const float* row = expected->row(static_cast<int64_t>(t));
    EXPECT_LE(RelativeError(*logits, {row, row + expected->cols()}), 1e-5)
        << "position " << t;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, HostForwardTest,
                         ::testing::Values("stories260k", "tinystories6m",
                                           "goldens/mpt", "goldens/qwen3"),
                         [](const ::testing::TestParamInfo<std::string>& info) {
                           return absl::StrReplaceAll(info.param, {{"/", "_"}});
                         });

using StoryTest = RealModelTest;

// The other program ran 200 positions, so 201 tokens in all: BOS, the
// prompt's, and the rest generated.
TEST_P(StoryTest, GreedyTextEqualsAnotherPrograms) {
  const std::string model = absl::StrCat(data_, "/", GetParam());
  const auto tokenizer = *Tokenizer::FromFolder(model);
  const size_t prompt_tokens =
      tokenizer->Encode("Once upon a time", true)->size();
  const std::string text = Continue(model, "Once upon a time",
                                    201 - static_cast<int64_t>(prompt_tokens));
  std::string expected = ReadFile(data_ + "/stories260k/expected_greedy.txt");
  while (!expected.empty() && expected.back() == '\n') expected.pop_back();
  EXPECT_EQ(text, expected);
  EXPECT_EQ(generated_, 201 - prompt_tokens);
}

INSTANTIATE_TEST_SUITE_P(Models, StoryTest,
                         ::testing::Values("stories260k", "stories260k_pad192"),
                         [](const ::testing::TestParamInfo<std::string>& info) {
                           return info.param;
                         });

}  // namespace
}  // namespace qeff
