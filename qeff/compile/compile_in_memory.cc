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
#include "qeff/compile/linear_place.h"
#include "qeff/compile/pack_matrix.h"
#include "qeff/compile/sparse_matrix.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/integer_codes.h"
#include "qeff/io/quantized_tensor.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/kernels/matvec/matvec.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/model_map.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

DeviceNorm ToDevice(NormWeights norm) {
  return DeviceNorm{std::move(norm.weight), std::move(norm.bias)};
}

// What a matrix is wanted for. One path decides both, so that the plan is what
// comes.
enum class Want : uint8_t { kPlan, kBytes };

class Compiler {
 public:
  Compiler(const Transformer& transformer, const CompileOptions& options,
           Want want, ThreadPool* pool)
      : transformer_(transformer),
        spec_(transformer.spec()),
        options_(options),
        plan_(want == Want::kPlan),
        pool_(pool) {}

  // Whether the model has that matrix, one of those of VisitMatrices.
  bool Has(TensorRole role) const {
    switch (role) {
      case TensorRole::kPositionEmbedding:
        return spec_.position == PositionKind::kLearned;
      case TensorRole::kGateWeight:
        return spec_.gated_ffn;
      case TensorRole::kLmHeadWeight:
        return !spec_.tied_lm_head || QuantizesLmHead();
      default:
        return true;
    }
  }

  // With Want::kPlan bytes may be there or not.
  absl::StatusOr<DeviceMatrix> MatrixOf(const TensorId& id) const {
    QEFF_CHECK(Has(id.role));
    switch (id.role) {
      case TensorRole::kTokenEmbedding:
        return TokenEmbedding();
      case TensorRole::kPositionEmbedding:
        return PositionEmbedding();
      case TensorRole::kLmHeadWeight:
        return LmHead();
      default:
        return LinearWeight(id.block, LinearOf(id.role));
    }
  }

  absl::Status AddVectors(DeviceModel* model) const {
    const std::vector<CachedKeys>& keys = options_.cached_keys;
    QEFF_CHECK(keys.empty() ||
               static_cast<int64_t>(keys.size()) == spec_.num_layers);
    for (int64_t i = 0; i < spec_.num_layers; ++i) {
      DeviceBlock* block = &model->blocks[static_cast<size_t>(i)];
      if (!keys.empty()) block->cached_keys = keys[static_cast<size_t>(i)];
      QEFF_RETURN_IF_ERROR(AddBlockVectors(i, block));
    }
    QEFF_ASSIGN_OR_RETURN(NormWeights norm, transformer_.LoadFinalNorm());
    model->final_norm = ToDevice(std::move(norm));
    if (spec_.tied_lm_head) return absl::OkStatus();
    return AddBias(-1, LinearRole::kLmHead, &model->lm_head);
  }

 private:
  bool fast() const { return options_.activations == Activations::kFast; }

  absl::Status AddBlockVectors(int64_t index, DeviceBlock* block) const {
    QEFF_ASSIGN_OR_RETURN(BlockWeights norms,
                          transformer_.LoadBlockNorms(index));
    block->attention_norm = ToDevice(std::move(norms.attention_norm));
    block->ffn_norm = ToDevice(std::move(norms.ffn_norm));
    block->q_norm = std::move(norms.q_norm.weight);
    block->k_norm = std::move(norms.k_norm.weight);
    const std::pair<LinearRole, DeviceLinear*> linears[] = {
        {LinearRole::kQ, &block->q},       {LinearRole::kK, &block->k},
        {LinearRole::kV, &block->v},       {LinearRole::kO, &block->o},
        {LinearRole::kGate, &block->gate}, {LinearRole::kUp, &block->up},
        {LinearRole::kDown, &block->down}};
    for (const auto& [role, linear] : linears) {
      if (role == LinearRole::kGate && !spec_.gated_ffn) continue;
      QEFF_RETURN_IF_ERROR(AddBias(index, role, linear));
    }
    return absl::OkStatus();
  }

  ModuleRow PlaceOf(int64_t block, LinearRole role) const {
    const ModelMap& map = transformer_.map();
    if (block == -1) return ModuleRow{&map.lm_head, 0};
    const auto place =
        FindModule(map.blocks[static_cast<size_t>(block)], spec_, role);
    QEFF_CHECK(place.has_value());
    return *place;
  }

  absl::StatusOr<DeviceMatrix> TokenEmbedding() const {
    DeviceMatrix matrix = Borrow(transformer_.map().token_embedding, 0,
                                 spec_.vocab_size, spec_.hidden_size);
    if (!matrix.empty()) return matrix;
    if (plan_) return PlanFloats(spec_.vocab_size, spec_.hidden_size);
    QEFF_ASSIGN_OR_RETURN(Matrix<float> values,
                          transformer_.LoadTokenEmbedding());
    return OwnedMatrix(std::move(values));
  }

  absl::StatusOr<DeviceMatrix> PositionEmbedding() const {
    if (plan_) return PlanFloats(spec_.max_positions, spec_.hidden_size);
    QEFF_ASSIGN_OR_RETURN(Matrix<float> values,
                          transformer_.LoadPositionEmbedding());
    return OwnedMatrix(std::move(values));
  }

  absl::StatusOr<DeviceMatrix> LinearWeight(int64_t block,
                                            LinearRole role) const {
    const ModuleRow place = PlaceOf(block, role);
    const Shape shape = transformer_.LinearShape(block, role);
    if (HasCodes(*place.module)) {
      QEFF_ASSIGN_OR_RETURN(
          QuantizedMatrix matrix,
          ReadQuantizedMatrix(transformer_.checkpoint(), place.module->module,
                              *transformer_.quantization()));
      // Nor is there one that gathers columns.
      if (matrix.column_groups != nullptr) return LoadedWeight(block, role);
      if (matrix.ggml.has_value() || matrix.codebook.has_value()) {
        // There is no product with blocks of 256 or tables: their values become
        // float32.
        if (!HasIntegerCodes(matrix)) return LoadedWeight(block, role);
        if (plan_) return PlanIntegerCodes(matrix, shape);
        QEFF_ASSIGN_OR_RETURN(matrix, IntegerCodes(matrix));
      }
      const bool may_be_sparse =
          matrix.signed_bytes.empty() || LooksPruned(matrix.signed_bytes, 1);
      if (!matrix.signed_bytes.empty() && (!plan_ || may_be_sparse)) {
        QEFF_ASSIGN_OR_RETURN(matrix, IntegerCodes(matrix));
      }
      const QuantizedRowsView rows = RowsOf(matrix, place.first_row, shape[0]);
      DeviceMatrix result = may_be_sparse ? SparseFromCodes(rows, shape[0])
                                          : FromCodes(rows, shape[0]);
      if (matrix.inputs != InputCodes::kNone && result.has_float_rows()) {
        return absl::UnimplementedError(absl::StrCat(
            transformer_.checkpoint().folder(), ": ", place.module->module,
            ": its inputs are to be 8-bit codes, but there is no product with "
            "such weights (",
            shape[1], " inputs, ", matrix.bits, " bits)"));
      }
      result.input_scale = matrix.input_scale;
      return result;
    }
    if (!place.module->transposed) {
      DeviceMatrix matrix =
          Borrow(absl::StrCat(place.module->module, ".weight"), place.first_row,
                 shape[0], shape[1]);
      if (!matrix.empty() && fast() && matrix.view().dtype == DType::kBF16) {
        return FromBF16({DType::kBF16, shape, matrix.bytes});
      }
      if (!matrix.empty()) return matrix;
    }
    if (fast() && IsBF16(*place.module)) return LoadedBF16(block, role);
    return LoadedWeight(block, role);
  }

  // Also of what is stored without its zeros.
  bool IsBF16(const LinearModule& module) const {
    for (const char* tensor : {".weight", ".compressed"}) {
      const absl::StatusOr<TensorView> view =
          transformer_.checkpoint().Get(absl::StrCat(module.module, tensor));
      if (view.ok()) return view->dtype == DType::kBF16;
    }
    return false;
  }

  // GPT-2's matrices are stored [in, out], others without their zeros.
  absl::StatusOr<DeviceMatrix> LoadedBF16(int64_t block,
                                          LinearRole role) const {
    const Shape shape = transformer_.LinearShape(block, role);
    if (plan_ && options_.sparse == SparseRule::kNever) {
      return PlanBF16(shape[0], shape[1]);
    }
    QEFF_ASSIGN_OR_RETURN(const LinearWeights weights,
                          transformer_.LoadLinear(block, role));
    const absl::Span<const float> values = weights.weight.span();
    std::vector<uint8_t> bytes(values.size() * DTypeBytes(DType::kBF16));
    ConvertFromFloat(values, DType::kBF16, absl::MakeSpan(bytes));  // exact
    return FromBF16({DType::kBF16, shape, bytes});
  }

  absl::StatusOr<DeviceMatrix> LoadedWeight(int64_t block,
                                            LinearRole role) const {
    if (plan_) {
      const Shape shape = transformer_.LinearShape(block, role);
      return PlanFloats(shape[0], shape[1]);
    }
    QEFF_ASSIGN_OR_RETURN(LinearWeights weights,
                          transformer_.LoadLinear(block, role));
    return OwnedMatrix(std::move(weights.weight));
  }

  // Bytes decide whether it becomes sparse, also of the plan.
  DeviceMatrix FromBF16(const TensorView& weights) const {
    if (options_.sparse == SparseRule::kNever ||
        !LooksPruned(weights.bytes, DTypeBytes(DType::kBF16))) {
      return plan_ ? PlanBF16(weights.shape[0], weights.shape[1])
                   : PackBF16(weights, pool_);
    }
    return SparseWhereBetter(PackBF16(weights, pool_), options_.sparse, pool_);
  }

  DeviceMatrix FromCodes(const QuantizedRowsView& rows,
                         int64_t num_rows) const {
    if (plan_) return PlanQuantized(rows, num_rows);
    return CanPack(rows, num_rows) ? PackQuantized(rows, num_rows, pool_)
                                   : DequantizeToRows(rows, num_rows, pool_);
  }

  // The same for weights that may be pruned. Bytes decide, also of the plan.
  DeviceMatrix SparseFromCodes(const QuantizedRowsView& rows,
                               int64_t num_rows) const {
    if (options_.sparse == SparseRule::kNever || !CanPack(rows, num_rows) ||
        !LooksPruned(rows, num_rows)) {
      return FromCodes(rows, num_rows);
    }
    return SparseWhereBetter(PackQuantized(rows, num_rows, pool_),
                             options_.sparse, pool_);
  }

  // What becomes of IntegerCodes.
  static DeviceMatrix PlanIntegerCodes(const QuantizedMatrix& matrix,
                                       const Shape& shape) {
    QuantScheme scheme;
    scheme.bits = matrix.ggml == GgmlType::kQ4_0 ? 4 : 8;
    scheme.group_size = kGgmlBlockElems;
    return PlanQuantizedCopy(
        scheme, matrix.ggml.has_value() ? DType::kF16 : DType::kBF16, shape[0],
        shape[1]);
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

  absl::StatusOr<DeviceMatrix> LmHead() const {
    const LinearModule& module = transformer_.map().lm_head;
    const bool codes = !spec_.tied_lm_head && HasCodes(module);
    if (codes || !QuantizesLmHead()) {
      return LinearWeight(-1, LinearRole::kLmHead);
    }
    DeviceMatrix weights =
        Borrow(spec_.tied_lm_head ? transformer_.map().token_embedding
                                  : absl::StrCat(module.module, ".weight"),
               0, spec_.vocab_size, spec_.hidden_size);
    if (weights.empty()) {
      QEFF_ASSIGN_OR_RETURN(weights, LoadedWeight(-1, LinearRole::kLmHead));
    }
    const DType dtype = weights.view().dtype;
    if (plan_) {
      return PlanQuantizedCopy(options_.lm_head_scheme, dtype, weights.rows,
                               weights.cols);
    }
    QEFF_ASSIGN_OR_RETURN(
        const QuantizedCopy copy,
        QuantizedCopy::Make(
            options_.lm_head_scheme,
            {dtype, Shape({weights.rows, weights.cols}), weights.bytes}, pool_),
        "lm_head");
    weights = {};
    transformer_.ReleaseBlock(-1);
    return FromCodes(copy.view(), copy.num_rows());
  }

  absl::Status AddBias(int64_t block, LinearRole role,
                       DeviceLinear* linear) const {
    const ModuleRow place = PlaceOf(block, role);
    if (!place.module->has_bias) return absl::OkStatus();
    QEFF_ASSIGN_OR_RETURN(const TensorView view,
                          transformer_.checkpoint().Get(
                              absl::StrCat(place.module->module, ".bias")));
    linear->bias.resize(
        static_cast<size_t>(transformer_.LinearShape(block, role)[0]));
    ReadFloats(view, place.first_row, absl::MakeSpan(linear->bias));
    return absl::OkStatus();
  }

  // Rows of a tensor in the checkpoint's mapping; empty when there is no such
  // tensor or MatVec does not read its type.
  DeviceMatrix Borrow(const std::string& name, int64_t first_row, int64_t rows,
                      int64_t cols) const {
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
  const bool plan_;
  ThreadPool* const pool_;
};

}  // namespace

absl::Status ParseLmHead(absl::string_view text, CompileOptions* options) {
  options->lm_head = text == "auto"   ? LmHeadRule::kAuto
                     : text == "keep" ? LmHeadRule::kKeep
                                      : LmHeadRule::kQuantize;
  if (options->lm_head != LmHeadRule::kQuantize) return absl::OkStatus();
  QEFF_ASSIGN_OR_RETURN(options->lm_head_scheme, ParseQuantScheme(text),
                        "lm_head: expected auto, keep or a scheme");
  if (!options->lm_head_scheme.integers()) {
    return InvalidInputError("lm_head: expected a scheme of integers, found \"",
                             text, "\"");
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelPlan> ModelCompiler::Plan() const {
  const Compiler compiler(transformer_, options_, Want::kPlan, pool_);
  try {
    ModelPlan plan;
    DeviceModel& model = plan.model;
    model.spec = transformer_.spec();
    model.blocks.resize(static_cast<size_t>(model.spec.num_layers));
    QEFF_RETURN_IF_ERROR(compiler.AddVectors(&model));
    absl::Status status;
    VisitMatrices(&model, [&](const TensorId& id, DeviceMatrix* matrix) {
      if (!status.ok() || !compiler.Has(id.role)) return;
      absl::StatusOr<DeviceMatrix> planned = compiler.MatrixOf(id);
      status = planned.status();
      if (!status.ok()) return;
      *matrix = *std::move(planned);
      matrix->bytes = {};
      matrix->owner.reset();
      ReleasePages(id);
    });
    QEFF_RETURN_IF_ERROR(status);
    if (options_.sparse == SparseRule::kFaster) {
      plan.dense_in_caches = KeepDenseInCaches(&model);
    }
    return plan;
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("out of memory");
  }
}

absl::StatusOr<DeviceMatrix> ModelCompiler::CompileMatrix(
    const TensorId& id, const DeviceMatrix& planned) const {
  try {
    CompileOptions options = options_;
    if (!IsSparse(planned.layout)) options.sparse = SparseRule::kNever;
    return Compiler(transformer_, options, Want::kBytes, pool_).MatrixOf(id);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("out of memory");
  }
}

void ModelCompiler::ReleasePages(const TensorId& id) const {
  if (IsInBlock(id.role)) return transformer_.ReleaseBlock(id.block);
  if (id.role == TensorRole::kLmHeadWeight) {
    return transformer_.ReleaseBlock(-1);
  }
  const ModelMap& map = transformer_.map();
  const absl::StatusOr<TensorView> view = transformer_.checkpoint().Get(
      id.role == TensorRole::kTokenEmbedding ? map.token_embedding
                                             : map.position_embedding);
  if (view.ok()) transformer_.checkpoint().Release(*view);
}

absl::StatusOr<std::shared_ptr<const DeviceModel>> CompileInMemory(
    const Transformer& transformer, const CompileOptions& options,
    ThreadPool* pool) {
  const ModelCompiler compiler(transformer, options, pool);
  QEFF_ASSIGN_OR_RETURN(ModelPlan plan, compiler.Plan());
  auto model = std::make_shared<DeviceModel>(std::move(plan.model));
  absl::Status status;
  VisitMatrices(model.get(), [&](const TensorId& id, DeviceMatrix* matrix) {
    if (!status.ok() || matrix->rows == 0) return;
    absl::StatusOr<DeviceMatrix> compiled = compiler.CompileMatrix(id, *matrix);
    status = compiled.status();
    if (!status.ok()) return;
    *matrix = *std::move(compiled);
    if (matrix->owner != transformer.shared_checkpoint()) {
      compiler.ReleasePages(id);
    }
  });
  QEFF_RETURN_IF_ERROR(status);
  return model;
}

}  // namespace qeff
