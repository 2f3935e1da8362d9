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
#include "qeff/export/gguf_names.h"
#include "qeff/io/gguf_metadata.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/transformer/model_map.h"
#include "qeff/transformer/rope.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr absl::string_view kRopeFactorsName = "rope_freqs.weight";

// An architecture, and what Hugging Face calls its class and the sizes that all
// have.
struct Family {
  const char* architecture;
  const char* class_name;
  const char* hidden_size;
  const char* num_layers;
  const char* num_heads;
  const char* max_positions;
};

constexpr Family kFamilies[] = {
    {"llama", "LlamaForCausalLM", "hidden_size", "num_hidden_layers",
     "num_attention_heads", "max_position_embeddings"},
    {"qwen2", "Qwen2ForCausalLM", "hidden_size", "num_hidden_layers",
     "num_attention_heads", "max_position_embeddings"},
    {"qwen3", "Qwen3ForCausalLM", "hidden_size", "num_hidden_layers",
     "num_attention_heads", "max_position_embeddings"},
    {"gpt2", "GPT2LMHeadModel", "n_embd", "n_layer", "n_head", "n_positions"},
    {"mpt", "MPTForCausalLM", "d_model", "n_layers", "n_heads", "max_seq_len"},
};

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
  absl::Status ReadLlamaLike();
  absl::Status ReadGpt2();
  absl::Status ReadMpt();
  absl::Status ReadLayerNorm();
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
  const Family* family_ = nullptr;
  int64_t hidden_size_ = 0;
  int64_t num_heads_ = 0;
  int64_t num_kv_heads_ = 0;
  int64_t ffn_size_ = 0;
  int64_t head_dim_ = 0;  // of llama's like
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
  for (const Family& family : kFamilies) {
    if (architecture_ != family.architecture) continue;
    family_ = &family;
    model_.config["architectures"] = Json::array({family.class_name});
    model_.config["model_type"] = architecture_;
    return absl::OkStatus();
  }
  return absl::UnimplementedError(absl::StrCat(
      file_.path(), ": general.architecture: ", JsonForMessage(architecture_),
      " is not supported; supported are llama, qwen2, qwen3, gpt2 and mpt"));
}

absl::Status ConfigReader::ReadSizes() {
  QEFF_ASSIGN_OR_RETURN(hidden_size_, Size("embedding_length"));
  QEFF_ASSIGN_OR_RETURN(ffn_size_, Size("feed_forward_length"));
  QEFF_ASSIGN_OR_RETURN(num_heads_, Size("attention.head_count"));
  QEFF_ASSIGN_OR_RETURN(num_kv_heads_,
                        SizeOr("attention.head_count_kv", num_heads_));
  QEFF_ASSIGN_OR_RETURN(const int64_t num_layers, Size("block_count"));
  if (num_layers > static_cast<int64_t>(file_.header().tensors.size())) {
    return Wrong(Key("block_count"), "no more than there are tensors");
  }
  QEFF_ASSIGN_OR_RETURN(const int64_t max_positions, Size("context_length"));
  model_.config[family_->hidden_size] = hidden_size_;
  model_.config[family_->num_layers] = num_layers;
  model_.config[family_->num_heads] = num_heads_;
  model_.config[family_->max_positions] = max_positions;
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

absl::Status ConfigReader::ReadLlamaLike() {
  model_.config["intermediate_size"] = ffn_size_;
  model_.config["num_key_value_heads"] = num_kv_heads_;
  QEFF_RETURN_IF_ERROR(ReadHeadDim());
  QEFF_RETURN_IF_ERROR(ReadNumbers());
  QEFF_RETURN_IF_ERROR(ReadRope());
  return ReadBiases();
}

// What gpt2 and mpt have in common.
absl::Status ConfigReader::ReadLayerNorm() {
  QEFF_ASSIGN_OR_RETURN(const float epsilon,
                        Number("attention.layer_norm_epsilon"));
  model_.config["layer_norm_epsilon"] = ShortestDecimal(epsilon);
  if (num_kv_heads_ == num_heads_) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(
      file_.path(), ": ", Key("attention.head_count_kv"), ": ", num_kv_heads_,
      " is not supported; expected ", num_heads_, ", as many as heads"));
}

absl::Status ConfigReader::ReadGpt2() {
  model_.config["n_inner"] = ffn_size_;
  model_.config["activation_function"] = "gelu_new";
  return ReadLayerNorm();
}

absl::Status ConfigReader::ReadMpt() {
  model_.config["expansion_ratio"] =
      static_cast<double>(ffn_size_) / static_cast<double>(hidden_size_);
  model_.config["no_bias"] = true;
  QEFF_ASSIGN_OR_RETURN(const float alibi, Number("attention.max_alibi_bias"));
  Json attention = {{"attn_type", "multihead_attention"},
                    {"alibi", true},
                    {"alibi_bias_max", ShortestDecimal(alibi)}};
  if (HasKey(Key("attention.clamp_kqv"))) {
    QEFF_ASSIGN_OR_RETURN(const float clamp, Number("attention.clamp_kqv"));
    attention["clip_qkv"] = ShortestDecimal(clamp);
  }
  model_.config["attn_config"] = std::move(attention);
  return ReadLayerNorm();
}

absl::Status ConfigReader::ReadHeadDim() {
  QEFF_ASSIGN_OR_RETURN(
      head_dim_, SizeOr("attention.key_length", hidden_size_ / num_heads_));
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
    named.name = HuggingFaceName(architecture_, tensor.name);
    named.transposed = IsStoredTransposed(architecture_, named.name);
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
  model_.config["tie_word_embeddings"] = !HasTensor("output.weight");
  QEFF_RETURN_IF_ERROR(architecture_ == "gpt2"  ? ReadGpt2()
                       : architecture_ == "mpt" ? ReadMpt()
                                                : ReadLlamaLike());
  ReadTokens();
  QEFF_RETURN_IF_ERROR(NameTensors());
  HashMap<std::string, GgufNamedTensor*> by_name;
  for (GgufNamedTensor& named : model_.tensors) by_name[named.name] = &named;
  QEFF_ASSIGN_OR_RETURN(
      const ModelMap map,
      MapConfig(model_.config, file_.path(), [&](absl::string_view name) {
        return by_name.contains(std::string(name));
      }));
  for (const LinearModule& linear : map.Linears()) {
    const auto found = by_name.find(linear.module + ".weight");
    if (found == by_name.end()) continue;
    GgufNamedTensor& named = *found->second;
    if (named.tensor->shape.rank() == 2) named.linear_module = linear.module;
  }
  return std::move(model_);
}

}  // namespace

absl::StatusOr<GgufModel> MapGgufFile(const GgufFile& file) {
  return ConfigReader(file).Read();
}

}  // namespace qeff
