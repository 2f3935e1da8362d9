// SPDX-License-Identifier: Apache-2.0

#include "qeff/fuzz/config_models.h"

namespace qeff {

std::vector<TestModel> ConfigModels() {
  return {
      MakeTestModel("llama",
                    R"({"head_dim": 16, "attention_bias": false,
                        "bos_token_id": 1, "eos_token_id": [2, 3],
                        "pad_token_id": 0, "rope_theta": 100,
                        "rope_scaling": {"rope_type": "llama3", "factor": 8,
                        "low_freq_factor": 1, "high_freq_factor": 4,
                        "original_max_position_embeddings": 32}})"),
      MakeTestModel("llama",
                    R"({"rope_theta": null, "rope_parameters":
                        {"rope_type": "linear", "factor": 2, "rope_theta": 50},
                        "layer_types": ["full_attention", "full_attention"],
                        "tie_word_embeddings": true})"),
      MakeTestModel("mistral", R"({"sliding_window": 5})"),
      MakeTestModel("qwen2",
                    R"({"use_sliding_window": true, "sliding_window": 7,
                        "max_window_layers": 0})"),
      MakeTestModel("qwen3", R"({"head_dim": 12, "attention_bias": false})"),
      MakeTestModel("gpt2",
                    R"({"n_inner": 30, "activation_function": "gelu_new",
                        "scale_attn_weights": true})"),
      MakeTestModel("mpt",
                    R"({"expansion_ratio": 2, "attn_config": {"alibi": true,
                        "clip_qkv": 0.5, "softmax_scale": 0.9,
                        "alibi_bias_max": 4}})"),
  };
}

}  // namespace qeff
