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
#include "qeff/compile/pack_matrix.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/quantized_tensor.h"
#include "qeff/kernels/matvec/matvec.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/tensor/tensor.h"
#include "qeff/util/check.h"
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

// The same rows of a quantized matrix.
QuantizedRowsView Rows(const QuantizedMatrix& matrix, int64_t first,
                       int64_t count) {
  QuantizedRowsView view = matrix.codes;
  const auto part = [&](absl::Span<const uint8_t> all, size_t row_bytes) {
    return all.subspan(static_cast<size_t>(first) * row_bytes,
                       static_cast<size_t>(count) * row_bytes);
  };
  const size_t groups = static_cast<size_t>(matrix.groups);
  view.packed = part(view.packed, static_cast<size_t>(matrix.row_bytes));
  view.scales = part(view.scales, groups * DTypeBytes(view.scale_dtype));
  if (!view.zeros.empty()) view.zeros = part(view.zeros, groups);
  return view;
}

class Compiler {
 public:
  Compiler(const Transformer& transformer, const CompileOptions& options,
           ThreadPool* pool)
      : transformer_(transformer),
        spec_(transformer.spec()),
        options_(options),
        pool_(pool) {}

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
    QEFF_RETURN_IF_ERROR(AddLmHead(model.get()));
    return model;
  }

 private:
  bool fast() const { return options_.activations == Activations::kFast; }

  absl::Status AddEmbeddings(DeviceModel* model) {
    QEFF_ASSIGN_OR_RETURN(model->token_embedding, TokenEmbedding());
    if (spec_.position != PositionKind::kLearned) return absl::OkStatus();
    QEFF_ASSIGN_OR_RETURN(Matrix<float> positions,
                          transformer_.LoadPositionEmbedding());
    model->position_embedding = OwnedMatrix(std::move(positions));
    return absl::OkStatus();
  }

  absl::StatusOr<DeviceMatrix> TokenEmbedding() {
    DeviceMatrix matrix = Borrow(transformer_.map().token_embedding, 0,
                                 spec_.vocab_size, spec_.hidden_size);
    if (!matrix.empty()) return matrix;
    QEFF_ASSIGN_OR_RETURN(Matrix<float> values,
                          transformer_.LoadTokenEmbedding());
    return OwnedMatrix(std::move(values));
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
    const BlockNames& names =
        transformer_.map().blocks[static_cast<size_t>(index)];
    for (const auto& [role, linear] : linears) {
      if (role == LinearRole::kGate && !spec_.gated_ffn) continue;
      const auto place = FindModule(names, spec_, role);
      QEFF_CHECK(place.has_value());
      QEFF_ASSIGN_OR_RETURN(*linear, CompileLinear(index, role, *place));
    }
    if (packed_) transformer_.ReleaseBlock(index);
    return block;
  }

  absl::StatusOr<DeviceLinear> CompileLinear(int64_t block, LinearRole role,
                                             const ModuleRow& place) {
    DeviceLinear linear;
    const Shape shape = transformer_.LinearShape(block, role);
    QEFF_ASSIGN_OR_RETURN(linear.weight, CompileWeight(block, role, place));
    if (place.module->has_bias) {
      QEFF_ASSIGN_OR_RETURN(linear.bias, ReadBias(place, shape[0]));
    }
    return linear;
  }

  absl::StatusOr<DeviceMatrix> CompileWeight(int64_t block, LinearRole role,
                                             const ModuleRow& place) {
    const Shape shape = transformer_.LinearShape(block, role);
    if (HasCodes(*place.module)) {
      QEFF_ASSIGN_OR_RETURN(
          const QuantizedMatrix matrix,
          ReadQuantizedMatrix(transformer_.checkpoint(), place.module->module,
                              *transformer_.quantization()));
      return FromCodes(Rows(matrix, place.first_row, shape[0]), shape[0]);
    }
    if (!place.module->transposed) {
      DeviceMatrix matrix =
          Borrow(absl::StrCat(place.module->module, ".weight"), place.first_row,
                 shape[0], shape[1]);
      if (!matrix.empty() && fast() && matrix.view().dtype == DType::kBF16) {
        packed_ = true;
        return PackBF16({DType::kBF16, shape, matrix.bytes}, pool_);
      }
      if (!matrix.empty()) return matrix;
    }
    QEFF_ASSIGN_OR_RETURN(LinearWeights weights,
                          transformer_.LoadLinear(block, role));
    return OwnedMatrix(std::move(weights.weight));
  }

  DeviceMatrix FromCodes(const QuantizedRowsView& rows, int64_t num_rows) {
    packed_ = true;
    return CanPack(rows, num_rows) ? PackQuantized(rows, num_rows, pool_)
                                   : DequantizeToRows(rows, num_rows, pool_);
  }

  bool HasCodes(const LinearModule& module) const {
    return transformer_.quantization().has_value() &&
           HasQuantizedWeight(transformer_.checkpoint(), module.module);
  }

  bool QuantizesLmHead() const {
    if (options_.lm_head == LmHeadRule::kAuto) {
      return transformer_.quantization().has_value();
    }
    return options_.lm_head == LmHeadRule::kQuantize;
  }

  absl::Status AddLmHead(DeviceModel* model) {
    const LinearModule& module = transformer_.map().lm_head;
    const bool codes = !spec_.tied_lm_head && HasCodes(module);
    if (codes || !QuantizesLmHead()) {
      if (spec_.tied_lm_head) return absl::OkStatus();
      QEFF_ASSIGN_OR_RETURN(
          model->lm_head, CompileLinear(-1, LinearRole::kLmHead, {&module, 0}));
      return absl::OkStatus();
    }
    DeviceMatrix weights = model->token_embedding;
    if (!spec_.tied_lm_head) {
      weights = Borrow(absl::StrCat(module.module, ".weight"), 0,
                       spec_.vocab_size, spec_.hidden_size);
    }
    if (weights.empty()) {
      QEFF_ASSIGN_OR_RETURN(LinearWeights loaded,
                            transformer_.LoadLinear(-1, LinearRole::kLmHead));
      weights = OwnedMatrix(std::move(loaded.weight));
    }
    const TensorView view{weights.view().dtype,
                          Shape({weights.rows, weights.cols}), weights.bytes};
    QEFF_ASSIGN_OR_RETURN(
        const QuantizedCopy copy,
        QuantizedCopy::Make(options_.lm_head_scheme, view, pool_), "lm_head");
    model->lm_head.weight = FromCodes(copy.view(), copy.num_rows());
    return absl::OkStatus();
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
  const CompileOptions options_;
  ThreadPool* const pool_;
  bool packed_ = false;  // something, so that mapped pages are done with
};

}  // namespace

absl::Status ParseLmHead(absl::string_view text, CompileOptions* options) {
  options->lm_head = text == "auto"   ? LmHeadRule::kAuto
                     : text == "keep" ? LmHeadRule::kKeep
                                      : LmHeadRule::kQuantize;
  if (options->lm_head != LmHeadRule::kQuantize) return absl::OkStatus();
  QEFF_ASSIGN_OR_RETURN(options->lm_head_scheme, ParseQuantScheme(text),
                        "lm_head: expected auto, keep or a scheme");
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const DeviceModel>> CompileInMemory(
    const Transformer& transformer, const CompileOptions& options,
    ThreadPool* pool) {
  try {
    return Compiler(transformer, options, pool).Run();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("out of memory");
  }
}

}  // namespace qeff
