// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/transformer.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "qeff/transformer/weight_reader.h"
#include "qeff/util/check.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr absl::string_view kWeightSuffix = ".weight";

void AddNorm(const NormNames& norm, int64_t size,
             std::vector<ExpectedTensor>* tensors) {
  if (!norm.weight.empty()) tensors->push_back({norm.weight, Shape({size})});
  if (!norm.bias.empty()) tensors->push_back({norm.bias, Shape({size})});
}

// All tensors that are not part of a linear layer.
std::vector<ExpectedTensor> PlainTensors(const ModelMap& map) {
  const TransformerSpec& spec = map.spec;
  std::vector<ExpectedTensor> tensors;
  tensors.push_back(
      {map.token_embedding, Shape({spec.vocab_size, spec.hidden_size})});
  if (!map.position_embedding.empty()) {
    tensors.push_back({map.position_embedding,
                       Shape({spec.max_positions, spec.hidden_size})});
  }
  for (const BlockNames& block : map.blocks) {
    AddNorm(block.attention_norm, spec.hidden_size, &tensors);
    AddNorm(block.ffn_norm, spec.hidden_size, &tensors);
    AddNorm(block.q_norm, spec.head_dim, &tensors);
    AddNorm(block.k_norm, spec.head_dim, &tensors);
  }
  AddNorm(map.final_norm, spec.hidden_size, &tensors);
  return tensors;
}

// The block that a tensor belongs to, by its name; -1 if to none.
int64_t BlockOf(absl::string_view name, const ModelMap& map) {
  if (!absl::ConsumePrefix(&name, map.block_prefix)) return -1;
  const absl::string_view digits = name.substr(0, name.find('.'));
  int64_t block = -1;
  if (digits.empty() || !absl::ascii_isdigit(digits[0]) ||
      !absl::SimpleAtoi(digits, &block)) {
    return -1;
  }
  return block;
}

absl::Status CheckNumLayers(const Checkpoint& checkpoint, const ModelMap& map) {
  int64_t last = -1;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    last = std::max(last, BlockOf(tensor.name, map));
  }
  if (last == map.spec.num_layers - 1) return absl::OkStatus();
  return InvalidInputError(
      checkpoint.config_path(), ": number of layers: expected ",
      last < 0
          ? absl::StrCat("tensors named ", map.block_prefix, "0...")
          : absl::StrCat(static_cast<uint64_t>(last) + 1,
                         ", as the weights end with ", map.block_prefix, last),
      ", found ", map.spec.num_layers);
}

bool IsHarmless(absl::string_view name, const ModelMap& map) {
  // A tied lm_head may be stored all the same.
  if (map.spec.tied_lm_head &&
      name == absl::StrCat(map.lm_head.module, kWeightSuffix)) {
    return true;
  }
  return std::any_of(
      map.harmless_suffixes.begin(), map.harmless_suffixes.end(),
      [&](const std::string& suffix) { return absl::EndsWith(name, suffix); });
}

absl::Status CheckNothingIsLeft(const Checkpoint& checkpoint,
                                const ModelMap& map,
                                const std::vector<std::string>& used) {
  std::string examples;
  int64_t unused = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    if (std::binary_search(used.begin(), used.end(), tensor.name) ||
        IsHarmless(tensor.name, map)) {
      continue;
    }
    if (++unused <= 10) {
      absl::StrAppend(&examples, unused == 1 ? "" : ", ", tensor.name);
    }
  }
  if (unused == 0) return absl::OkStatus();
  return InvalidInputError(checkpoint.folder(), ": ", unused,
                           " tensors have no place in a ", map.spec.family,
                           " model with this config.json: ", examples,
                           unused > 10 ? ", ..." : "");
}

absl::Status CheckTensors(const Checkpoint& checkpoint, const ModelMap& map,
                          const QuantizationConfig* quantization) {
  QEFF_RETURN_IF_ERROR(CheckNumLayers(checkpoint, map));
  const WeightReader reader(checkpoint, quantization);
  std::vector<std::string> used;
  for (const ExpectedTensor& tensor : PlainTensors(map)) {
    QEFF_RETURN_IF_ERROR(reader.CheckTensor(tensor));
    used.push_back(tensor.name);
  }
  for (const LinearModule& module : map.Linears()) {
    QEFF_ASSIGN_OR_RETURN(std::vector<std::string> names,
                          reader.CheckLinear(module));
    std::move(names.begin(), names.end(), std::back_inserter(used));
  }
  std::sort(used.begin(), used.end());
  return CheckNothingIsLeft(checkpoint, map, used);
}

// Where the matrix of a role is: rows [first, first + rows) of a module.
struct ModuleRows {
  LinearModule module;
  int64_t first;
  int64_t rows;
};

ModuleRows FindLinear(const ModelMap& map, int64_t block, LinearRole role) {
  const TransformerSpec& spec = map.spec;
  if (role == LinearRole::kLmHead) {
    LinearModule module = map.lm_head;
    if (spec.tied_lm_head) {
      module.module =
          std::string(absl::StripSuffix(map.token_embedding, kWeightSuffix));
    }
    return {module, 0, spec.vocab_size};
  }
  QEFF_CHECK(block >= 0 && block < spec.num_layers);
  for (const LinearModule& module :
       map.blocks[static_cast<size_t>(block)].linears) {
    if (module.role == role) return {module, 0, module.out_features};
    if (module.role != LinearRole::kQkv) continue;
    const int64_t q = spec.q_size(), kv = spec.kv_size();
    if (role == LinearRole::kQ) return {module, 0, q};
    if (role == LinearRole::kK) return {module, q, kv};
    if (role == LinearRole::kV) return {module, q + kv, kv};
  }
  QEFF_CHECK(false && "no such linear layer");
}

// The bias of rows [begin, begin + count); empty without one.
absl::StatusOr<std::vector<float>> ReadBias(const WeightReader& reader,
                                            const ModuleRows& found,
                                            int64_t begin, int64_t count) {
  if (!found.module.has_bias) return std::vector<float>();
  QEFF_ASSIGN_OR_RETURN(const std::vector<float> bias,
                        reader.ReadVector(found.module.module + ".bias"));
  const auto first = bias.begin() + found.first + begin;
  return std::vector<float>(first, first + count);
}

absl::StatusOr<NormWeights> LoadNorm(const WeightReader& reader,
                                     const NormNames& names) {
  NormWeights norm;
  if (!names.weight.empty()) {
    QEFF_ASSIGN_OR_RETURN(norm.weight, reader.ReadVector(names.weight));
  }
  if (!names.bias.empty()) {
    QEFF_ASSIGN_OR_RETURN(norm.bias, reader.ReadVector(names.bias));
  }
  return norm;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Transformer>> Transformer::Load(
    std::shared_ptr<const Checkpoint> checkpoint) {
  using Result = absl::StatusOr<std::shared_ptr<const Transformer>>;
  return GuardMemory([&]() -> Result {
    QEFF_ASSIGN_OR_RETURN(ModelMap map, MapModel(*checkpoint));
    QEFF_ASSIGN_OR_RETURN(absl::optional<QuantizationConfig> quantization,
                          ParseQuantizationConfig(checkpoint->config(),
                                                  checkpoint->config_path()));
    QEFF_RETURN_IF_ERROR(CheckTensors(
        *checkpoint, map, quantization.has_value() ? &*quantization : nullptr));
    return std::shared_ptr<const Transformer>(new Transformer(
        std::move(checkpoint), std::move(map), std::move(quantization)));
  });
}

WeightReader Transformer::Reader() const {
  return WeightReader(*checkpoint_,
                      quantization_.has_value() ? &*quantization_ : nullptr);
}

absl::StatusOr<LinearWeights> Transformer::LoadLinear(int64_t block,
                                                      LinearRole role) const {
  return LoadLinearRows(block, role, 0, LinearShape(block, role)[0]);
}

absl::StatusOr<LinearWeights> Transformer::LoadLinearRows(int64_t block,
                                                          LinearRole role,
                                                          int64_t begin,
                                                          int64_t count) const {
  return GuardMemory([&]() -> absl::StatusOr<LinearWeights> {
    const ModuleRows found = FindLinear(map_, block, role);
    QEFF_CHECK(begin >= 0 && count >= 0 && begin + count <= found.rows);
    const WeightReader reader = Reader();
    LinearWeights weights;
    weights.weight = Matrix<float>(count, found.module.in_features);
    QEFF_RETURN_IF_ERROR(reader.ReadLinearRows(
        found.module, found.first + begin, weights.weight.view()));
    QEFF_ASSIGN_OR_RETURN(weights.bias, ReadBias(reader, found, begin, count));
    return weights;
  });
}

absl::StatusOr<std::vector<float>> Transformer::LoadLinearBias(
    int64_t block, LinearRole role) const {
  return GuardMemory([&] {
    const ModuleRows found = FindLinear(map_, block, role);
    return ReadBias(Reader(), found, 0, found.rows);
  });
}

Shape Transformer::LinearShape(int64_t block, LinearRole role) const {
  const ModuleRows found = FindLinear(map_, block, role);
  return Shape({found.rows, found.module.in_features});
}

absl::StatusOr<BlockWeights> Transformer::LoadBlockNorms(int64_t block) const {
  QEFF_CHECK(block >= 0 && block < spec().num_layers);
  return GuardMemory([&]() -> absl::StatusOr<BlockWeights> {
    const BlockNames& names = map_.blocks[static_cast<size_t>(block)];
    const WeightReader reader = Reader();
    BlockWeights weights;
    QEFF_ASSIGN_OR_RETURN(weights.attention_norm,
                          LoadNorm(reader, names.attention_norm));
    QEFF_ASSIGN_OR_RETURN(weights.ffn_norm, LoadNorm(reader, names.ffn_norm));
    QEFF_ASSIGN_OR_RETURN(weights.q_norm, LoadNorm(reader, names.q_norm));
    QEFF_ASSIGN_OR_RETURN(weights.k_norm, LoadNorm(reader, names.k_norm));
    return weights;
  });
}

absl::StatusOr<BlockWeights> Transformer::LoadBlock(int64_t block) const {
  QEFF_ASSIGN_OR_RETURN(BlockWeights weights, LoadBlockNorms(block));
  QEFF_ASSIGN_OR_RETURN(weights.q, LoadLinear(block, LinearRole::kQ));
  QEFF_ASSIGN_OR_RETURN(weights.k, LoadLinear(block, LinearRole::kK));
  QEFF_ASSIGN_OR_RETURN(weights.v, LoadLinear(block, LinearRole::kV));
  QEFF_ASSIGN_OR_RETURN(weights.o, LoadLinear(block, LinearRole::kO));
  if (spec().gated_ffn) {
    QEFF_ASSIGN_OR_RETURN(weights.gate, LoadLinear(block, LinearRole::kGate));
  }
  QEFF_ASSIGN_OR_RETURN(weights.up, LoadLinear(block, LinearRole::kUp));
  QEFF_ASSIGN_OR_RETURN(weights.down, LoadLinear(block, LinearRole::kDown));
  return weights;
}

void Transformer::ReleaseBlock(int64_t block) const {
  const WeightReader reader = Reader();
  if (block == -1) {
    reader.ReleaseLinear(FindLinear(map_, -1, LinearRole::kLmHead).module);
    return;
  }
  QEFF_CHECK(block >= 0 && block < spec().num_layers);
  for (const LinearModule& module :
       map_.blocks[static_cast<size_t>(block)].linears) {
    reader.ReleaseLinear(module);
  }
}

absl::StatusOr<NormWeights> Transformer::LoadFinalNorm() const {
  return GuardMemory([&] { return LoadNorm(Reader(), map_.final_norm); });
}

absl::StatusOr<Matrix<float>> Transformer::LoadTokenEmbedding() const {
  return LoadPlainMatrix(map_.token_embedding, spec().vocab_size);
}

absl::StatusOr<Matrix<float>> Transformer::LoadPositionEmbedding() const {
  QEFF_CHECK(spec().position == PositionKind::kLearned);
  return LoadPlainMatrix(map_.position_embedding, spec().max_positions);
}

absl::StatusOr<Matrix<float>> Transformer::LoadTokenEmbeddingRows(
    int64_t begin, int64_t count) const {
  QEFF_CHECK(begin >= 0 && count >= 0 && begin + count <= spec().vocab_size);
  return GuardMemory([&]() -> absl::StatusOr<Matrix<float>> {
    Matrix<float> matrix(count, spec().hidden_size);
    const WeightReader reader = Reader();
    for (int64_t i = 0; i < count; ++i) {
      QEFF_RETURN_IF_ERROR(reader.ReadRow(
          map_.token_embedding, begin + i,
          absl::MakeSpan(matrix.row(i),
                         static_cast<size_t>(spec().hidden_size))));
    }
    return matrix;
  });
}

absl::StatusOr<Matrix<float>> Transformer::LoadPlainMatrix(
    const std::string& name, int64_t rows) const {
  return GuardMemory([&]() -> absl::StatusOr<Matrix<float>> {
    Matrix<float> matrix(rows, spec().hidden_size);
    // One row of rows * hidden_size elements.
    QEFF_RETURN_IF_ERROR(Reader().ReadRow(name, 0, matrix.span()));
    return matrix;
  });
}

absl::Status Transformer::CheckTokens(absl::Span<const int32_t> ids) const {
  if (ids.empty()) return InvalidInputError("the sequence is empty");
  if (spec().position == PositionKind::kLearned &&
      static_cast<int64_t>(ids.size()) > spec().max_positions) {
    return InvalidInputError("sequence length: expected at most ",
                             spec().max_positions,
                             " (learned positions), found ", ids.size());
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= spec().vocab_size) {
      return InvalidInputError("token at index ", i, ": expected 0 to ",
                               spec().vocab_size - 1, ", found ", ids[i]);
    }
  }
  return absl::OkStatus();
}

absl::Status Transformer::Embed(absl::Span<const int32_t> ids,
                                MatrixView<float> out) const {
  QEFF_CHECK(out.rows() == static_cast<int64_t>(ids.size()) &&
             out.cols() == spec().hidden_size);
  QEFF_RETURN_IF_ERROR(CheckTokens(ids));
  const WeightReader reader = Reader();
  const size_t hidden = static_cast<size_t>(spec().hidden_size);
  std::vector<float> position(hidden);
  for (int64_t i = 0; i < out.rows(); ++i) {
    QEFF_RETURN_IF_ERROR(reader.ReadRow(map_.token_embedding,
                                        ids[static_cast<size_t>(i)],
                                        absl::MakeSpan(out.row(i), hidden)));
    if (spec().position != PositionKind::kLearned) continue;
    QEFF_RETURN_IF_ERROR(
        reader.ReadRow(map_.position_embedding, i, absl::MakeSpan(position)));
    for (size_t c = 0; c < hidden; ++c) out.row(i)[c] += position[c];
  }
  return absl::OkStatus();
}

}  // namespace qeff
