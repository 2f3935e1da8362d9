// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/scheme_sizes.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <variant>

#include "absl/types/optional.h"
#include "qeff/compile/compile_in_memory.h"
#include "qeff/compile/linear_place.h"
#include "qeff/compile/pack_matrix.h"
#include "qeff/compile/package_size.h"
#include "qeff/device/package/model_tensors.h"
#include "qeff/io/checkpoint.h"
#include "qeff/kernels/matmul_int/packed_int_layout.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/transformer/model_map.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

void SortByBytes(SchemeSizes* sizes) {
  std::stable_sort(sizes->schemes.begin(), sizes->schemes.end(),
                   [](const SchemeSize& a, const SchemeSize& b) {
                     return a.bytes < b.bytes;
                   });
}

absl::StatusOr<QuantizePlan> PlanScheme(const Checkpoint& checkpoint,
                                        const ModelMap& map,
                                        const std::string& name,
                                        SchemeSize* size) {
  QuantizeOptions options;
  QEFF_ASSIGN_OR_RETURN(options.scheme, ParseQuantScheme(name));
  size->scheme = name;
  size->bits = options.scheme.bits;
  return PlanQuantization(checkpoint, map, options);
}

// Gives the matrices of `device`, the plan of a model of floats, the layouts of
// their codes. False where there is none.
bool UseCodes(const ModelMap& map, const QuantizePlan& plan,
              DeviceModel* device) {
  HashMap<std::string, const PlannedTensor*> modules;
  for (const PlannedTensor& tensor : plan.tensors) {
    if (tensor.quantized()) modules[tensor.module] = &tensor;
  }
  bool packed = true;
  VisitMatrices(device, [&](const TensorId& id, DeviceMatrix* matrix) {
    if (!IsInBlock(id.role) || matrix->rows == 0) return;
    const auto place = FindModule(map.blocks[static_cast<size_t>(id.block)],
                                  map.spec, LinearOf(id.role));
    const auto found = modules.find(place->module->module);
    if (found == modules.end()) return;
    *matrix = PlanQuantizedCopy(found->second->scheme, found->second->dtype,
                                matrix->rows, matrix->cols);
    packed = packed && !matrix->has_float_rows();
  });
  return packed;
}

// Bytes of a sparse matrix besides masks, values and scales.
double SparseOverhead(const PackedIntLayout& layout) {
  // Of 4 bits there are two streams of values in a panel, of which the longer
  // one counts: for random masks by about this much.
  constexpr int64_t kLongerStreamBytes = 20;
  constexpr int64_t kAlignment = 64;
  return static_cast<double>(kSparseSlackBytes + 2 * kAlignment +
                             layout.panels() * (8 + kLongerStreamBytes));
}

double MaskBits(const DeviceModel& device) {
  double bytes = 0;
  VisitMatrices(&device, [&](const TensorId& id, const DeviceMatrix* matrix) {
    const auto* layout = std::get_if<PackedIntLayout>(&matrix->layout);
    if (!IsInBlock(id.role) || layout == nullptr) return;
    bytes += SparseOverhead(*layout);
  });
  return 1 + 8 * bytes / SizeOfBlocks(device).weights;
}

}  // namespace

const SchemeSize* SchemeSizes::Find(const std::string& scheme) const {
  for (const SchemeSize& size : schemes) {
    if (size.scheme == scheme) return &size;
  }
  return nullptr;
}

double SchemeSizes::BitsWithin(uint64_t bytes) const {
  const SchemeSize& any = schemes.front();
  const double rest =
      static_cast<double>(any.bytes) - any.bits_per_weight * weights / 8;
  return 8 * (static_cast<double>(bytes) - rest) / weights;
}

absl::StatusOr<SchemeSizes> SizesInFolder(
    const std::string& model, absl::Span<const char* const> schemes) {
  QEFF_ASSIGN_OR_RETURN(const auto checkpoint, Checkpoint::Open(model));
  QEFF_ASSIGN_OR_RETURN(const ModelMap map, MapModel(*checkpoint));
  SchemeSizes sizes;
  sizes.model_bytes = checkpoint->weight_bytes();
  for (const char* name : schemes) {
    SchemeSize size;
    QEFF_ASSIGN_OR_RETURN(const QuantizePlan plan,
                          PlanScheme(*checkpoint, map, name, &size));
    size.bytes = plan.BytesAfter();
    size.bits_per_weight = plan.QuantizedBitsPerWeight();
    sizes.weights = 0;
    for (const PlannedTensor& tensor : plan.tensors) {
      if (!tensor.quantized()) continue;
      sizes.weights +=
          static_cast<double>(tensor.rows) * static_cast<double>(tensor.cols);
    }
    sizes.schemes.push_back(std::move(size));
  }
  SortByBytes(&sizes);
  return sizes;
}

absl::StatusOr<SchemeSizes> SizesInPackage(
    const std::string& model, absl::Span<const char* const> schemes) {
  QEFF_ASSIGN_OR_RETURN(const auto checkpoint, Checkpoint::Open(model));
  QEFF_ASSIGN_OR_RETURN(const auto transformer, Transformer::Load(checkpoint));
  QEFF_ASSIGN_OR_RETURN(const auto pool, CreateThreadPool(1));
  CompileOptions options;
  options.lm_head = LmHeadRule::kQuantize;
  QEFF_ASSIGN_OR_RETURN(
      const ModelPlan planned,
      ModelCompiler(*transformer, options, pool.get()).Plan());
  const DeviceModel& floats = planned.model;
  const auto tokenizer = Tokenizer::FromFolder(model);
  const ModelMap& map = transformer->map();
  SchemeSizes sizes;
  sizes.model_bytes = checkpoint->weight_bytes();
  sizes.weights = SizeOfBlocks(floats).weights;
  for (const char* name : schemes) {
    SchemeSize size;
    QEFF_ASSIGN_OR_RETURN(const QuantizePlan plan,
                          PlanScheme(*checkpoint, map, name, &size));
    DeviceModel device = floats;
    if (!UseCodes(map, plan, &device)) continue;
    QEFF_ASSIGN_OR_RETURN(
        size.bytes,
        PlannedFileBytes(device,
                         tokenizer.ok() ? &(*tokenizer)->tables() : nullptr));
    size.bits_per_weight = SizeOfBlocks(device).bits_per_weight();
    size.mask_bits = MaskBits(device);
    sizes.schemes.push_back(std::move(size));
  }
  if (sizes.schemes.empty()) {
    return InvalidInputError(
        model, ": the device engine has no integer product for its layers");
  }
  SortByBytes(&sizes);
  return sizes;
}

}  // namespace qeff
