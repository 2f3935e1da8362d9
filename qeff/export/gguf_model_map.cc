// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/gguf_model_map.h"

#include <cmath>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "qeff/tensor/tensor.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

absl::Status Unsupported(const TransformerSpec& spec, absl::string_view what) {
  return absl::UnimplementedError(
      absl::StrCat("GGUF of a ", spec.family, " model: ", what));
}

absl::StatusOr<std::string> Architecture(const TransformerSpec& spec) {
  if (spec.family == "llama" || spec.family == "mistral") {
    return std::string("llama");
  }
  for (const char* same : {"qwen2", "qwen3", "gpt2", "mpt"}) {
    if (spec.family == same) return spec.family;
  }
  return Unsupported(spec,
                     "not supported; supported are llama, mistral, qwen2, "
                     "qwen3, gpt2 and mpt");
}

// Whether the architecture is one of gated SiLU, RMSNorm and rope; gpt2 and mpt
// are not.
bool IsLlamaLike(const TransformerSpec& spec) {
  return spec.position == PositionKind::kRope;
}

absl::Status CheckSupported(const TransformerSpec& spec, bool is_llama) {
  const double scale =
      spec.attention_scale * std::sqrt(static_cast<double>(spec.head_dim));
  if (!(std::fabs(scale - 1) < 1e-6)) {
    return Unsupported(spec, "llama.cpp would ignore the attention scale");
  }
  if (spec.sliding_window != 0) {
    return Unsupported(spec, "llama.cpp would ignore the sliding window");
  }
  if (spec.family == "gpt2" && spec.activation != Activation::kGeluTanh) {
    return Unsupported(spec, "llama.cpp takes gelu_new for granted");
  }
  if (!IsLlamaLike(spec)) return absl::OkStatus();
  if (spec.activation != Activation::kSilu) {
    return Unsupported(spec, "llama.cpp takes SiLU for granted");
  }
  if (!is_llama && spec.rope.scaling == RopeScaling::kLlama3) {
    return Unsupported(spec, "llama.cpp would ignore llama3's rope scaling");
  }
  if (spec.family == "qwen3" && spec.qkv_bias) {
    return Unsupported(spec, "llama.cpp has no biases for attention here");
  }
  return absl::OkStatus();
}

// llama.cpp's number of a file by the type of most of its weights.
uint32_t FileType(GgmlType type) {
  switch (type) {
    case GgmlType::kF32:
      return 0;
    case GgmlType::kF16:
      return 1;
    case GgmlType::kQ4_0:
      return 2;
    case GgmlType::kQ4_1:
      return 3;
    case GgmlType::kQ8_0:
      return 7;
    case GgmlType::kQ5_0:
      return 8;
    case GgmlType::kQ5_1:
      return 9;
    case GgmlType::kQ4_K:
      return 14;  // "small": one type for all, or nearly
    case GgmlType::kQ5_K:
      return 16;
    case GgmlType::kQ6_K:
      return 18;
    case GgmlType::kBF16:
      return 32;
    case GgmlType::kMXFP4:
      return 38;
  }
  return 0;
}

GgufMetadata Hyperparameters(const TransformerSpec& spec,
                             const std::string& architecture, GgmlType type) {
  GgufMetadata metadata;
  metadata.emplace_back("general.architecture", architecture);
  metadata.emplace_back("general.file_type", FileType(type));
  metadata.emplace_back("general.quantization_version", uint32_t{2});
  const auto add = [&](const char* name, int64_t value) {
    metadata.emplace_back(absl::StrCat(architecture, ".", name),
                          static_cast<uint32_t>(value));
  };
  const auto add_float = [&](const char* name, double value) {
    metadata.emplace_back(absl::StrCat(architecture, ".", name),
                          static_cast<float>(value));
  };
  add("block_count", spec.num_layers);
  add("context_length", spec.max_positions);
  add("embedding_length", spec.hidden_size);
  add("feed_forward_length", spec.ffn_size);
  add("vocab_size", spec.vocab_size);
  add("attention.head_count", spec.num_heads);
  add("attention.head_count_kv", spec.num_kv_heads);
  if (!IsLlamaLike(spec)) {
    add_float("attention.layer_norm_epsilon", spec.norm_epsilon);
    if (spec.position != PositionKind::kAlibi) return metadata;
    add_float("attention.max_alibi_bias", spec.alibi_bias_max);
    if (spec.clip_qkv > 0) add_float("attention.clamp_kqv", spec.clip_qkv);
    return metadata;
  }
  add("attention.key_length", spec.head_dim);
  add("attention.value_length", spec.head_dim);
  add_float("attention.layer_norm_rms_epsilon", spec.norm_epsilon);
  add("rope.dimension_count", spec.head_dim);
  add_float("rope.freq_base", spec.rope.theta);
  if (spec.rope.scaling == RopeScaling::kLinear) {
    metadata.emplace_back(absl::StrCat(architecture, ".rope.scaling.type"),
                          std::string("linear"));
    add_float("rope.scaling.factor", spec.rope.factor);
  }
  return metadata;
}

// Lists the tensors of a model.
class TensorList {
 public:
  TensorList(const TransformerSpec& spec, const GgufModelTypes& types,
             bool is_llama)
      : spec_(spec), types_(types), is_llama_(is_llama) {
    AddMatrix("token_embd", GgufSource::kEmbedding,
              spec.tied_lm_head ? types.lm_head : types.embedding,
              spec.vocab_size, spec.hidden_size);
    if (spec.position == PositionKind::kLearned) {
      Add("position_embd.weight", GgufSource::kPositionEmbedding,
          GgmlType::kF32, Shape({spec.max_positions, spec.hidden_size}));
    }
    if (IsLlamaLike(spec) && spec.rope.scaling == RopeScaling::kLlama3) {
      AddVector("rope_freqs.weight", GgufSource::kRopeFactors, -1,
                spec.head_dim / 2);
    }
    for (int64_t block = 0; block < spec.num_layers; ++block) AddBlock(block);
    AddNorm("output_norm", GgufSource::kFinalNorm, GgufSource::kFinalNormBias,
            -1);
    if (!spec.tied_lm_head) {
      AddMatrix("output", GgufSource::kLinear, types.lm_head, spec.vocab_size,
                spec.hidden_size);
    }
  }

  std::vector<GgufModelTensor> Take() { return std::move(tensors_); }

 private:
  GgufModelTensor& Add(std::string name, GgufSource source, GgmlType type,
                       Shape shape) {
    GgufModelTensor tensor;
    tensor.info.name = std::move(name);
    tensor.info.type = type;
    tensor.info.shape = std::move(shape);
    tensor.source = source;
    tensors_.push_back(std::move(tensor));
    return tensors_.back();
  }

  GgufModelTensor& AddMatrix(const std::string& module, GgufSource source,
                             GgmlType type, int64_t rows, int64_t cols) {
    if (cols % FindGgmlType(type)->block_elems != 0) type = GgmlType::kF16;
    return Add(module + ".weight", source, type, Shape({rows, cols}));
  }

  void AddVector(std::string name, GgufSource source, int64_t block,
                 int64_t size) {
    Add(std::move(name), source, GgmlType::kF32, Shape({size})).block = block;
  }

  void AddNorm(const std::string& module, GgufSource weight, GgufSource bias,
               int64_t block) {
    AddVector(module + ".weight", weight, block, spec_.hidden_size);
    if (!spec_.norm_bias) return;
    AddVector(module + ".bias", bias, block, spec_.hidden_size);
  }

  void AddLinear(const std::string& module, int64_t block, LinearRole role,
                 int64_t rows, int64_t cols, bool has_bias) {
    const bool interleave =
        is_llama_ && (role == LinearRole::kQ || role == LinearRole::kK);
    GgufModelTensor& weight =
        AddMatrix(module, GgufSource::kLinear, types_.linear, rows, cols);
    weight.block = block;
    weight.role = role;
    weight.interleave = interleave;
    if (!has_bias) return;
    GgufModelTensor& bias = Add(module + ".bias", GgufSource::kLinearBias,
                                GgmlType::kF32, Shape({rows}));
    bias.block = block;
    bias.role = role;
    bias.interleave = interleave;
  }

  void AddBlock(int64_t block) {
    const std::string prefix = absl::StrCat("blk.", block, ".");
    const int64_t hidden = spec_.hidden_size;
    AddNorm(prefix + "attn_norm", GgufSource::kAttentionNorm,
            GgufSource::kAttentionNormBias, block);
    if (IsLlamaLike(spec_)) {
      AddLinear(prefix + "attn_q", block, LinearRole::kQ, spec_.q_size(),
                hidden, spec_.qkv_bias);
      AddLinear(prefix + "attn_k", block, LinearRole::kK, spec_.kv_size(),
                hidden, spec_.qkv_bias);
      AddLinear(prefix + "attn_v", block, LinearRole::kV, spec_.kv_size(),
                hidden, spec_.qkv_bias);
    } else {
      AddLinear(prefix + "attn_qkv", block, LinearRole::kQkv,
                spec_.q_size() + 2 * spec_.kv_size(), hidden, spec_.qkv_bias);
    }
    AddLinear(prefix + "attn_output", block, LinearRole::kO, hidden,
              spec_.q_size(), spec_.attention_output_bias);
    if (spec_.qk_norm) {
      AddVector(prefix + "attn_q_norm.weight", GgufSource::kQNorm, block,
                spec_.head_dim);
      AddVector(prefix + "attn_k_norm.weight", GgufSource::kKNorm, block,
                spec_.head_dim);
    }
    AddNorm(prefix + "ffn_norm", GgufSource::kFfnNorm, GgufSource::kFfnNormBias,
            block);
    if (spec_.gated_ffn) {
      AddLinear(prefix + "ffn_gate", block, LinearRole::kGate, spec_.ffn_size,
                hidden, spec_.ffn_bias);
    }
    AddLinear(prefix + "ffn_up", block, LinearRole::kUp, spec_.ffn_size, hidden,
              spec_.ffn_bias);
    AddLinear(prefix + "ffn_down", block, LinearRole::kDown, hidden,
              spec_.ffn_size, spec_.ffn_bias);
  }

  const TransformerSpec& spec_;
  const GgufModelTypes& types_;
  const bool is_llama_;
  std::vector<GgufModelTensor> tensors_;
};

}  // namespace

absl::StatusOr<GgufModelMap> MapGgufModel(const TransformerSpec& spec,
                                          const GgufModelTypes& types) {
  QEFF_ASSIGN_OR_RETURN(const std::string architecture, Architecture(spec));
  const bool is_llama = architecture == "llama";
  QEFF_RETURN_IF_ERROR(CheckSupported(spec, is_llama));
  GgufModelMap map;
  map.metadata = Hyperparameters(spec, architecture, types.linear);
  map.tensors = TensorList(spec, types, is_llama).Take();
  return map;
}

}  // namespace qeff
