// SPDX-License-Identifier: Apache-2.0
//
// A config.json that says anything, beside weights that are as they should be:
// what is not refused can be run.

#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "qeff/transformer/host_forward.h"
#include "qeff/transformer/reference_testutil.h"
#include "qeff/util/mutate_testutil.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

struct Variant {
  const char* name;
  const char* family;
  const char* changes;
};

void PrintTo(const Variant& variant, std::ostream* out) {
  *out << variant.name;
}

const Variant kVariants[] = {
    {"llama", "llama",
     R"({"head_dim": 16, "attention_bias": false, "bos_token_id": 1,
         "eos_token_id": [2, 3], "pad_token_id": 0, "rope_theta": 100,
         "rope_scaling": {"rope_type": "llama3", "factor": 8,
         "low_freq_factor": 1, "high_freq_factor": 4,
         "original_max_position_embeddings": 32}})"},
    {"llama5", "llama",
     R"({"rope_theta": null, "rope_parameters": {"rope_type": "linear", "factor": 2,
         "rope_theta": 50}, "layer_types": ["full_attention",
         "full_attention"]})"},
    {"mistral", "mistral", R"({"sliding_window": 5})"},
    {"qwen2", "qwen2",
     R"({"use_sliding_window": true, "sliding_window": 7,
         "max_window_layers": 0})"},
    {"qwen3", "qwen3", R"({"head_dim": 12, "attention_bias": false})"},
    {"gpt2", "gpt2",
     R"({"n_inner": 30, "activation_function": "gelu_new",
         "scale_attn_weights": true})"},
    {"mpt", "mpt",
     R"({"expansion_ratio": 2, "attn_config": {"alibi": true,
         "clip_qkv": 0.5, "softmax_scale": 0.9, "alibi_bias_max": 4}})"},
};

class HostileConfigTest : public ::testing::TestWithParam<Variant> {
 protected:
  // Opens the model with another config.json and, if it can be, runs it.
  absl::Status Run(const std::string& config) {
    WriteTestFile(folder_ + "/config.json", config);
    QEFF_ASSIGN_OR_RETURN(auto checkpoint, Checkpoint::Open(folder_));
    QEFF_ASSIGN_OR_RETURN(auto model, Transformer::Load(std::move(checkpoint)));
    QEFF_ASSIGN_OR_RETURN(auto forward,
                          HostForward::Create(std::move(model), pool_.get()));
    const absl::Status status = forward->LogitsOf(TestTokens(3)).status();
    // Of tokens, not of the file.
    return status.ok() ? status : absl::Status(status.code(), folder_);
  }

  const TestModel model_ = MakeTestModel(GetParam().family, GetParam().changes);
  const std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(1);
  const std::string folder_ = MakeTestFolder();
};

TEST_P(HostileConfigTest, OtherValues) {
  WriteTestCheckpoint(folder_, model_.config.dump(), model_.tensors);
  ASSERT_TRUE(Run(model_.config.dump()).ok()) << Run(model_.config.dump());
  // Some values make no difference.
  EXPECT_GT(ReadVariants(model_.config, folder_,
                         [&](const std::string& text) { return Run(text); }),
            5);
}

TEST_P(HostileConfigTest, Damage) {
  WriteTestCheckpoint(folder_, model_.config.dump(), model_.tensors);
  EXPECT_GT(ReadDamaged(WriteJson(model_.config), 500, folder_,
                        [&](const std::string& text) { return Run(text); }),
            5);
}

INSTANTIATE_TEST_SUITE_P(Variants, HostileConfigTest,
                         ::testing::ValuesIn(kVariants),
                         [](const ::testing::TestParamInfo<Variant>& info) {
                           return std::string(info.param.name);
                         });

}  // namespace
}  // namespace qeff
