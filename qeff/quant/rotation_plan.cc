// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/rotation_plan.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "qeff/io/model_fingerprint.h"
#include "qeff/quant/hadamard.h"
#include "qeff/transformer/model_map.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr char kLmHead[] = "lm_head";

// Changes with the rotations that a seed stands for.
constexpr int kRotationVersion = 1;

DType WrittenType(DType dtype, bool exact) {
  const bool writable = dtype == DType::kF16 || dtype == DType::kBF16;
  return exact || !writable ? DType::kF32 : dtype;
}

// Fills a plan from a model's spec and names.
class RotationPlanner {
 public:
  RotationPlanner(const Transformer& model, const RotateOptions& options)
      : model_(model), options_(options) {}

  absl::StatusOr<RotationPlan> Plan() {
    QEFF_RETURN_IF_ERROR(Check());
    const TransformerSpec& spec = model_.spec();
    plan_.seed = options_.seed;
    plan_.rotates_values = spec.clip_qkv == 0;
    plan_.hidden_block = Hadamard(spec.hidden_size, 0, 0).block();
    plan_.value_block = Hadamard(spec.head_dim, 0, 0).block();
    for (const TensorInfo& info : model_.checkpoint().tensors()) {
      RotatedTensor& tensor = tensors_[info.name];
      tensor.info = info;
      tensor.source = info.name;
    }
    const ModelMap& map = model_.map();
    Embedding(map.token_embedding);
    if (!map.position_embedding.empty()) Embedding(map.position_embedding);
    for (const BlockNames& block : map.blocks) AddBlock(block);
    AddLmHead();
    QEFF_RETURN_IF_ERROR(WriteConfig());
    for (auto& entry : tensors_) {
      plan_.tensors.push_back(std::move(entry.second));
    }
    std::sort(plan_.tensors.begin(), plan_.tensors.end(),
              [](const RotatedTensor& a, const RotatedTensor& b) {
                return a.info.name < b.info.name;
              });
    return std::move(plan_);
  }

 private:
  absl::Status Check() const {
    const Checkpoint& checkpoint = model_.checkpoint();
    if (model_.quantization().has_value()) {
      return InvalidInputError(
          checkpoint.config_path(),
          ": rotate: the model is quantized already; rotate the original");
    }
    const ModelMap& map = model_.map();
    const TransformerSpec& spec = map.spec;
    if (spec.norm != NormKind::kRmsNorm || spec.norm_bias) {
      return InvalidInputError(
          checkpoint.Place(map.final_norm.weight),
          ": rotate: expected an RMSNorm without bias, found ",
          spec.norm == NormKind::kRmsNorm ? "one with bias" : "LayerNorm");
    }
    for (const LinearModule& module : map.Linears()) {
      if (!module.transposed) continue;
      return InvalidInputError(
          checkpoint.Place(absl::StrCat(module.module, ".weight")),
          ": rotate: expected [out, in], found [in, out]");
    }
    return absl::OkStatus();
  }

  RotatedTensor& Change(const std::string& name, bool exact = false) {
    RotatedTensor& tensor = tensors_.at(name);
    tensor.info.dtype = WrittenType(tensor.info.dtype, exact);
    return tensor;
  }

  void Embedding(const std::string& name) {
    Change(name).hidden_columns = true;
  }

  void AddBlock(const BlockNames& block) {
    Change(block.attention_norm.weight).ones = true;
    Change(block.ffn_norm.weight).ones = true;
    for (const LinearModule& module : block.linears) {
      AddLinear(block, module, module.module + ".weight");
      if (module.has_bias) AddLinear(block, module, module.module + ".bias");
    }
  }

  // The weight of `module`, or its bias: a matrix without columns to rotate.
  void AddLinear(const BlockNames& block, const LinearModule& module,
                 const std::string& name) {
    const bool weight = tensors_.at(name).info.shape.rank() == 2;
    const bool exact = weight && options_.exact_modules.contains(module.module);
    RotatedTensor& tensor = Change(name, exact);
    tensor.block = module.block;
    switch (module.role) {
      case LinearRole::kO:
        tensor.value_columns = weight && plan_.rotates_values;
        tensor.hidden_rows = true;
        return;
      case LinearRole::kDown:
        tensor.hidden_rows = true;
        return;
      case LinearRole::kV:
      case LinearRole::kQkv:
        if (plan_.rotates_values) {
          tensor.first_value_row =
              module.out_features - model_.spec().kv_size();
        }
        break;
      default:
        break;
    }
    if (!weight) return;
    tensor.hidden_columns = true;
    const bool inner =
        module.role == LinearRole::kGate || module.role == LinearRole::kUp;
    tensor.norm = (inner ? block.ffn_norm : block.attention_norm).weight;
  }

  void AddLmHead() {
    const ModelMap& map = model_.map();
    Change(map.final_norm.weight).ones = true;
    const bool tied = map.spec.tied_lm_head;
    const std::string module = tied ? kLmHead : map.lm_head.module;
    const std::string name = module + ".weight";
    if (tied) {
      plan_.unties_lm_head = true;
      // A stored one that the model does not read is replaced.
      RotatedTensor copy = tensors_.at(map.token_embedding);
      copy.info.name = name;
      plan_.lm_head_bytes = copy.info.size_bytes();
      tensors_[name] = copy;
    }
    RotatedTensor& tensor =
        Change(name, options_.exact_modules.contains(module));
    tensor.hidden_columns = true;
    tensor.norm = map.final_norm.weight;
  }

  absl::Status WriteConfig() {
    const Checkpoint& checkpoint = model_.checkpoint();
    QEFF_ASSIGN_OR_RETURN(const std::string source,
                          ModelFingerprint(checkpoint));
    std::string types;
    for (const TensorInfo& info : checkpoint.tensors()) {
      const TensorInfo& written = tensors_.at(info.name).info;
      absl::StrAppend(&types, DTypeName(written.dtype), " ");
    }
    plan_.config = checkpoint.config();
    if (plan_.unties_lm_head) plan_.config["tie_word_embeddings"] = false;
    plan_.config[kRotationKey] = {{"version", kRotationVersion},
                                  {"seed", options_.seed},
                                  {"source", source},
                                  {"types", Fingerprint(types)}};
    return absl::OkStatus();
  }

  const Transformer& model_;
  const RotateOptions& options_;
  HashMap<std::string, RotatedTensor> tensors_;
  RotationPlan plan_;
};

}  // namespace

uint64_t RotationPlan::Bytes() const {
  uint64_t bytes = 0;
  for (const RotatedTensor& tensor : tensors) bytes += tensor.info.size_bytes();
  return bytes;
}

absl::StatusOr<RotationPlan> PlanRotation(const Transformer& model,
                                          const RotateOptions& options) {
  return RotationPlanner(model, options).Plan();
}

std::string FormatRotation(const RotationPlan& plan) {
  std::string text = absl::StrFormat(
      "rotation: hidden states by Hadamard blocks of %d%s, seed %d\n",
      plan.hidden_block,
      plan.rotates_values
          ? absl::StrFormat(", values of each head by blocks of %d",
                            plan.value_block)
          : "; values stay, since they are clipped",
      plan.seed);
  if (plan.unties_lm_head) {
    absl::StrAppendFormat(&text,
                          "rotation: lm_head gets a weight of its own, which "
                          "the embedding was: %.3f MB more as it is stored "
                          "now\n",
                          static_cast<double>(plan.lm_head_bytes) / 1e6);
  }
  return text;
}

}  // namespace qeff
