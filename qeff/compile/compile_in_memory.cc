// SPDX-License-Identifier: Apache-2.0

#include "qeff/compile/compile_in_memory.h"

#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "qeff/io/checkpoint.h"
#include "qeff/kernels/matvec/matvec.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/tensor/tensor.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Where rows of a matrix begin in a module of the checkpoint.
struct ModuleRow {
  const LinearModule* module;
  int64_t first_row;
};

// The module that holds `role`: its own, or the fused one.
absl::optional<ModuleRow> FindModule(const BlockNames& block,
                                     const TransformerSpec& spec,
                                     LinearRole role) {
  for (const LinearModule& module : block.linears) {
    if (module.role == role) return ModuleRow{&module, 0};
    if (module.role != LinearRole::kQkv) continue;
    const int64_t q = spec.q_size();
    if (role == LinearRole::kQ) return ModuleRow{&module, 0};
    if (role == LinearRole::kK) return ModuleRow{&module, q};
    if (role == LinearRole::kV) return ModuleRow{&module, q + spec.kv_size()};
  }
  return absl::nullopt;
}

DeviceNorm ToDevice(NormWeights norm) {
  return DeviceNorm{std::move(norm.weight), std::move(norm.bias)};
}

class Compiler {
 public:
  explicit Compiler(const Transformer& transformer)
      : transformer_(transformer), spec_(transformer.spec()) {}

  absl::StatusOr<std::shared_ptr<const DeviceModel>> Run() {
    auto model = std::make_shared<DeviceModel>();
    model->spec = spec_;
    QEFF_RETURN_IF_ERROR(AddEmbeddings(model.get()));
    for (int64_t i = 0; i < spec_.num_layers; ++i) {
      QEFF_ASSIGN_OR_RETURN(DeviceBlock block, CompileBlock(i));
      model->blocks.push_back(std::move(block));
    }
    QEFF_ASSIGN_OR_RETURN(NormWeights norm, transformer_.LoadFinalNorm());
    model->final_norm = ToDevice(std::move(norm));
    if (!spec_.tied_lm_head) {
      const ModuleRow row = {&transformer_.map().lm_head, 0};
      QEFF_ASSIGN_OR_RETURN(model->lm_head,
                            CompileLinear(-1, LinearRole::kLmHead, row));
    }
    return model;
  }

 private:
  absl::Status AddEmbeddings(DeviceModel* model) {
    model->token_embedding = Borrow(transformer_.map().token_embedding, 0,
                                    spec_.vocab_size, spec_.hidden_size);
    if (model->token_embedding.empty()) {
      QEFF_ASSIGN_OR_RETURN(Matrix<float> matrix,
                            transformer_.LoadTokenEmbedding());
      model->token_embedding = OwnedMatrix(std::move(matrix));
    }
    if (spec_.position != PositionKind::kLearned) return absl::OkStatus();
    QEFF_ASSIGN_OR_RETURN(Matrix<float> positions,
                          transformer_.LoadPositionEmbedding());
    model->position_embedding = OwnedMatrix(std::move(positions));
    return absl::OkStatus();
  }

  absl::StatusOr<DeviceBlock> CompileBlock(int64_t index) {
    DeviceBlock block;
    QEFF_ASSIGN_OR_RETURN(BlockWeights norms,
                          transformer_.LoadBlockNorms(index));
    block.attention_norm = ToDevice(std::move(norms.attention_norm));
    block.ffn_norm = ToDevice(std::move(norms.ffn_norm));
    block.q_norm = std::move(norms.q_norm.weight);
    block.k_norm = std::move(norms.k_norm.weight);
    const std::pair<LinearRole, DeviceLinear*> linears[] = {
        {LinearRole::kQ, &block.q},       {LinearRole::kK, &block.k},
        {LinearRole::kV, &block.v},       {LinearRole::kO, &block.o},
        {LinearRole::kGate, &block.gate}, {LinearRole::kUp, &block.up},
        {LinearRole::kDown, &block.down}};
    for (const auto& [role, linear] : linears) {
      if (role == LinearRole::kGate && !spec_.gated_ffn) continue;
      const BlockNames& names =
          transformer_.map().blocks[static_cast<size_t>(index)];
      QEFF_ASSIGN_OR_RETURN(
          *linear, CompileLinear(index, role, FindModule(names, spec_, role)));
    }
    return block;
  }

  // The matrix where it is mapped, if the engine can use it as it is.
  absl::StatusOr<DeviceLinear> CompileLinear(int64_t block, LinearRole role,
                                             absl::optional<ModuleRow> place) {
    DeviceLinear linear;
    if (place.has_value() && !place->module->transposed) {
      const Shape shape = transformer_.LinearShape(block, role);
      linear.weight = Borrow(absl::StrCat(place->module->module, ".weight"),
                             place->first_row, shape[0], shape[1]);
    }
    if (linear.weight.empty()) {
      QEFF_ASSIGN_OR_RETURN(LinearWeights weights,
                            transformer_.LoadLinear(block, role));
      linear.weight = OwnedMatrix(std::move(weights.weight));
      linear.bias = std::move(weights.bias);
    } else if (place->module->has_bias) {
      QEFF_ASSIGN_OR_RETURN(linear.bias, ReadBias(*place, linear.weight.rows));
    }
    return linear;
  }

  absl::StatusOr<std::vector<float>> ReadBias(const ModuleRow& place,
                                              int64_t rows) {
    QEFF_ASSIGN_OR_RETURN(const TensorView view,
                          transformer_.checkpoint().Get(
                              absl::StrCat(place.module->module, ".bias")));
    std::vector<float> bias(static_cast<size_t>(rows));
    ReadFloats(view, place.first_row, absl::MakeSpan(bias));
    return bias;
  }

  // Rows of a tensor in the checkpoint's mapping; empty when there is no such
  // tensor or MatVec does not read its type.
  DeviceMatrix Borrow(const std::string& name, int64_t first_row, int64_t rows,
                      int64_t cols) {
    const absl::StatusOr<TensorView> view = transformer_.checkpoint().Get(name);
    if (!view.ok() || !MatVecSupports(view->dtype)) return {};
    const size_t row_bytes =
        static_cast<size_t>(cols) * DTypeBytes(view->dtype);
    return DeviceMatrix{
        FloatRows{view->dtype}, rows, cols,
        view->bytes.subspan(static_cast<size_t>(first_row) * row_bytes,
                            static_cast<size_t>(rows) * row_bytes),
        transformer_.shared_checkpoint()};
  }

  const Transformer& transformer_;
  const TransformerSpec& spec_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const DeviceModel>> CompileInMemory(
    const Transformer& transformer) {
  try {
    return Compiler(transformer).Run();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("out of memory");
  }
}

}  // namespace qeff
