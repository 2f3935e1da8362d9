// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "qeff/io/gguf_metadata.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/transformer/model_map.h"
#include "qeff/transformer/rope.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr absl::string_view kRopeFactorsName = "rope_freqs.weight";

// Names inside a block, and at the top.
struct NamePair {
  absl::string_view gguf;
  absl::string_view hugging_face;
};

constexpr NamePair kBlockNames[] = {
    {"attn_norm", "input_layernorm"},
    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"},
    {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"},
    {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};

constexpr NamePair kTopNames[] = {
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
};

// Hugging Face's name of a tensor, "" when it has none.
std::string HuggingFaceName(absl::string_view name) {
  for (const NamePair& pair : kTopNames) {
    if (name == pair.gguf) return std::string(pair.hugging_face);
  }
  if (!absl::ConsumePrefix(&name, "blk.")) return "";
  const size_t dot = name.find('.');
  const size_t last = name.rfind('.');
  if (dot == absl::string_view::npos || last == dot) return "";
  int64_t block = 0;
  const absl::string_view suffix = name.substr(last);
  if (!absl::SimpleAtoi(name.substr(0, dot), &block) ||
      (suffix != ".weight" && suffix != ".bias")) {
    return "";
  }
  for (const NamePair& pair : kBlockNames) {
    if (name.substr(dot + 1, last - dot - 1) != pair.gguf) continue;
    return absl::StrCat("model.layers.", name.substr(0, dot), ".",
                        pair.hugging_face, suffix);
  }
  return "";
}

// The shortest decimal that is `value` in float32, as a double.
double ShortestDecimal(float value) {
  for (int digits = 6; digits < 9; ++digits) {
    double decimal = 0;
    if (absl::SimpleAtod(absl::StrFormat("%.*g", digits, value), &decimal) &&
        static_cast<float>(decimal) == value) {
      return decimal;
    }
  }
  return static_cast<double>(value);
}

class ConfigReader {
 public:
  explicit ConfigReader(const GgufFile& file)
      : file_(file), metadata_(file.header().metadata) {}

  absl::StatusOr<GgufModel> Read();

 private:
  absl::Status Wrong(absl::string_view key, absl::string_view expected) const {
    return InvalidInputError(file_.path(), ": key '", key, "': expected ",
                             expected);
  }
  std::string Key(absl::string_view name) const {
    return absl::StrCat(architecture_, ".", name);
  }
  bool HasKey(const std::string& key) const {
    return std::any_of(metadata_.begin(), metadata_.end(),
                       [&](const auto& entry) { return entry.first == key; });
  }
  bool HasTensor(absl::string_view name) const {
    return file_.Find(name) != nullptr;
  }

  absl::StatusOr<int64_t> Size(absl::string_view name) const;
  absl::StatusOr<int64_t> SizeOr(absl::string_view name, int64_t other) const;
  absl::StatusOr<float> Number(absl::string_view name) const;
  absl::Status ReadArchitecture();
  absl::Status ReadSizes();
  absl::Status ReadHeadDim();
  absl::Status ReadNumbers();
  absl::Status ReadRope();
  absl::Status ReadRopeFactors();
  absl::Status ReadBiases();
  void ReadTokens();
  absl::Status NameTensors();

  const GgufFile& file_;
  const GgufMetadata& metadata_;
  std::string architecture_;
  int64_t head_dim_ = 0;
  GgufModel model_;
};

// A number of things: at least 1, at most 2^31-1.
absl::StatusOr<int64_t> ConfigReader::Size(absl::string_view name) const {
  const std::string key = Key(name);
  const auto* narrow = FindGgufValue<uint32_t>(metadata_, key);
  const auto* wide = FindGgufValue<uint64_t>(metadata_, key);
  const auto* old = FindGgufValue<int32_t>(metadata_, key);
  const uint64_t value = narrow != nullptr ? *narrow
                         : wide != nullptr ? *wide
                         : old != nullptr && *old > 0
                             ? static_cast<uint64_t>(*old)
                             : 0;
  if (value < 1 || value > INT32_MAX) {
    return Wrong(key, "an integer from 1 to 2^31-1");
  }
  return static_cast<int64_t>(value);
}

absl::StatusOr<int64_t> ConfigReader::SizeOr(absl::string_view name,
                                             int64_t other) const {
  if (!HasKey(Key(name))) return other;
  return Size(name);
}

absl::StatusOr<float> ConfigReader::Number(absl::string_view name) const {
  const auto* value = FindGgufValue<float>(metadata_, Key(name));
  if (value == nullptr || !std::isfinite(*value) || !(*value > 0)) {
    return Wrong(Key(name), "a finite float above 0");
  }
  return *value;
}

absl::Status ConfigReader::ReadArchitecture() {
  const auto* name =
      FindGgufValue<std::string>(metadata_, "general.architecture");
  if (name == nullptr) return Wrong("general.architecture", "a string");
  architecture_ = *name;
  const char* const classes[][2] = {{"llama", "LlamaForCausalLM"},
                                    {"qwen2", "Qwen2ForCausalLM"},
                                    {"qwen3", "Qwen3ForCausalLM"}};
  for (const auto& known : classes) {
    if (architecture_ != known[0]) continue;
    model_.config["architectures"] = Json::array({known[1]});
    model_.config["model_type"] = architecture_;
    return absl::OkStatus();
  }
  return absl::UnimplementedError(absl::StrCat(
      file_.path(), ": general.architecture: ", JsonForMessage(architecture_),
      " is not supported; supported are llama, qwen2 and qwen3"));
}

absl::Status ConfigReader::ReadSizes() {
  const NamePair sizes[] = {
      {"embedding_length", "hidden_size"},
      {"feed_forward_length", "intermediate_size"},
      {"block_count", "num_hidden_layers"},
      {"attention.head_count", "num_attention_heads"},
      {"context_length", "max_position_embeddings"},
  };
  for (const NamePair& size : sizes) {
    QEFF_ASSIGN_OR_RETURN(const int64_t value, Size(size.gguf));
    model_.config[std::string(size.hugging_face)] = value;
  }
  QEFF_ASSIGN_OR_RETURN(
      const int64_t num_kv_heads,
      SizeOr("attention.head_count_kv",
             model_.config["num_attention_heads"].get<int64_t>()));
  model_.config["num_key_value_heads"] = num_kv_heads;
  const GgufTensorInfo* embedding = file_.Find("token_embd.weight");
  if (embedding == nullptr) {
    return InvalidInputError(file_.path(),
                             ": tensor 'token_embd.weight' is missing");
  }
  model_.config["vocab_size"] = GgufRows(*embedding);
  QEFF_ASSIGN_OR_RETURN(const int64_t vocab_size,
                        SizeOr("vocab_size", GgufRows(*embedding)));
  if (vocab_size != GgufRows(*embedding)) {
    return Wrong(
        Key("vocab_size"),
        absl::StrCat(GgufRows(*embedding),
                     ", the rows of token_embd.weight, found ", vocab_size));
  }
  QEFF_ASSIGN_OR_RETURN(const int64_t experts, SizeOr("expert_count", 1));
  if (experts == 1) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat(file_.path(), ": ", Key("expert_count"), ": not supported"));
}

absl::Status ConfigReader::ReadHeadDim() {
  const int64_t hidden = model_.config["hidden_size"].get<int64_t>();
  const int64_t heads = model_.config["num_attention_heads"].get<int64_t>();
  QEFF_ASSIGN_OR_RETURN(head_dim_,
                        SizeOr("attention.key_length", hidden / heads));
  for (const char* name : {"attention.value_length", "rope.dimension_count"}) {
    QEFF_ASSIGN_OR_RETURN(const int64_t size, SizeOr(name, head_dim_));
    if (size == head_dim_) continue;
    return absl::UnimplementedError(absl::StrCat(
        file_.path(), ": ", Key(name), ": ", size,
        " is not supported; expected ", head_dim_, ", the size of a head"));
  }
  model_.config["head_dim"] = head_dim_;
  return absl::OkStatus();
}

absl::Status ConfigReader::ReadNumbers() {
  QEFF_ASSIGN_OR_RETURN(const float epsilon,
                        Number("attention.layer_norm_rms_epsilon"));
  model_.config["rms_norm_eps"] = ShortestDecimal(epsilon);
  model_.config["rope_theta"] = 10000.0;
  if (HasKey(Key("rope.freq_base"))) {
    QEFF_ASSIGN_OR_RETURN(const float theta, Number("rope.freq_base"));
    model_.config["rope_theta"] = ShortestDecimal(theta);
  }
  model_.config["hidden_act"] = "silu";
  model_.config["tie_word_embeddings"] = !HasTensor("output.weight");
  return absl::OkStatus();
}

absl::Status ConfigReader::ReadRope() {
  const std::string key = Key("rope.scaling.type");
  const auto* type = FindGgufValue<std::string>(metadata_, key);
  if (type == nullptr && HasKey(key)) return Wrong(key, "a string");
  if (HasTensor(kRopeFactorsName)) return ReadRopeFactors();
  if (type == nullptr || *type == "none") return absl::OkStatus();
  if (*type != "linear") {
    return absl::UnimplementedError(absl::StrCat(
        file_.path(), ": ", key, ": ", JsonForMessage(*type),
        " is not supported; supported are none, linear and Llama 3's"));
  }
  QEFF_ASSIGN_OR_RETURN(const float factor, Number("rope.scaling.factor"));
  model_.config["rope_scaling"] = {{"rope_type", "linear"},
                                   {"factor", ShortestDecimal(factor)}};
  return absl::OkStatus();
}

// Frequencies are divided by the factors: 1 for the high ones, that of Llama 3
// for the low ones, something between for the others.
absl::Status ConfigReader::ReadRopeFactors() {
  const GgufTensorInfo& tensor = *file_.Find(kRopeFactorsName);
  const absl::Status unknown = absl::UnimplementedError(
      absl::StrCat(file_.path(), ": tensor '", kRopeFactorsName,
                   "': expected the factors of Llama 3's rope"));
  if (tensor.shape != Shape({head_dim_ / 2})) return unknown;
  std::vector<float> factors(static_cast<size_t>(head_dim_ / 2));
  QEFF_RETURN_IF_ERROR(file_.ReadRows(tensor, 0, absl::MakeSpan(factors)));
  TransformerSpec spec;
  spec.head_dim = head_dim_;
  spec.rope.theta = model_.config["rope_theta"].get<double>();
  spec.rope.scaling = RopeScaling::kLlama3;
  spec.rope.factor = *std::max_element(factors.begin(), factors.end());
  spec.rope.original_max_positions = 8192;
  if (!(spec.rope.factor >= 1 && spec.rope.factor < 1e6)) return unknown;
  const std::vector<double> scaled = RopeFrequencies(spec);
  for (size_t i = 0; i < factors.size(); ++i) {
    const double exponent =
        -2.0 * static_cast<double>(i) / static_cast<double>(head_dim_);
    const double expected = std::pow(spec.rope.theta, exponent) / scaled[i];
    if (!(std::fabs(factors[i] - expected) <= 1e-4 * expected)) return unknown;
  }
  model_.config["rope_scaling"] = {
      {"rope_type", "llama3"},
      {"factor", spec.rope.factor},
      {"low_freq_factor", spec.rope.low_freq_factor},
      {"high_freq_factor", spec.rope.high_freq_factor},
      {"original_max_position_embeddings", spec.rope.original_max_positions}};
  return absl::OkStatus();
}

// Biases are all there or none is: Transformer::Load checks that.
absl::Status ConfigReader::ReadBiases() {
  const bool attention = HasTensor("blk.0.attn_q.bias");
  if (architecture_ == "llama") {
    model_.config["attention_bias"] = attention;
    model_.config["mlp_bias"] = HasTensor("blk.0.ffn_up.bias");
  } else if (architecture_ == "qwen3") {
    model_.config["attention_bias"] = attention;
  }
  return absl::OkStatus();
}

void ConfigReader::ReadTokens() {
  for (const char* name : {"bos", "eos"}) {
    const auto* id = FindGgufValue<uint32_t>(
        metadata_, absl::StrCat("tokenizer.ggml.", name, "_token_id"));
    if (id != nullptr) {
      model_.config[absl::StrCat(name, "_token_id")] = *id;
    }
  }
}

absl::Status ConfigReader::NameTensors() {
  for (const GgufTensorInfo& tensor : file_.header().tensors) {
    if (tensor.name == kRopeFactorsName) continue;
    GgufNamedTensor named;
    named.tensor = &tensor;
    named.name = HuggingFaceName(tensor.name);
    if (named.name.empty() || tensor.shape.rank() > 2 ||
        !CanDecodeGgml(tensor.type)) {
      return absl::UnimplementedError(
          absl::StrCat(file_.path(), ": tensor ", JsonForMessage(tensor.name),
                       ": ", FindGgmlType(tensor.type)->name, " of shape ",
                       tensor.shape.ToString(), " has no place in a ",
                       architecture_, " model of qeff"));
    }
    const bool rotated = absl::StrContains(named.name, "self_attn.q_proj.") ||
                         absl::StrContains(named.name, "self_attn.k_proj.");
    if (architecture_ == "llama" && rotated) {
      named.interleaved_head_dim = head_dim_;
      if (tensor.shape[0] % head_dim_ != 0 || head_dim_ % 2 != 0) {
        return InvalidInputError(
            file_.path(), ": tensor ", JsonForMessage(tensor.name), ": shape ",
            tensor.shape.ToString(), ": expected whole heads of ", head_dim_);
      }
    }
    model_.tensors.push_back(std::move(named));
  }
  return absl::OkStatus();
}

absl::StatusOr<GgufModel> ConfigReader::Read() {
  QEFF_RETURN_IF_ERROR(ReadArchitecture());
  QEFF_RETURN_IF_ERROR(ReadSizes());
  QEFF_RETURN_IF_ERROR(ReadHeadDim());
  QEFF_RETURN_IF_ERROR(ReadNumbers());
  QEFF_RETURN_IF_ERROR(ReadRope());
  QEFF_RETURN_IF_ERROR(ReadBiases());
  ReadTokens();
  QEFF_RETURN_IF_ERROR(NameTensors());
  const auto has_tensor = [&](absl::string_view name) {
    return std::any_of(
        model_.tensors.begin(), model_.tensors.end(),
        [&](const GgufNamedTensor& tensor) { return tensor.name == name; });
  };
  QEFF_RETURN_IF_ERROR(
      MapConfig(model_.config, file_.path(), has_tensor).status());
  return std::move(model_);
}

}  // namespace

absl::StatusOr<GgufModel> MapGgufFile(const GgufFile& file) {
  return ConfigReader(file).Read();
}

}  // namespace qeff
