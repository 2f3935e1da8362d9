// SPDX-License-Identifier: Apache-2.0
//
// What a quantization will do to every tensor of a checkpoint, decided before
// any work starts, and printable (format_plan.h). To carry it out see
// quantize_checkpoint.h.

#ifndef QEFF_QUANT_QUANTIZE_PLAN_H_
#define QEFF_QUANT_QUANTIZE_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/io/checkpoint.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/model_map.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/json.h"

namespace qeff {

// Where scales and zero points of integers come from when there is no
// calibration. Codebooks and ggml's blocks are searched for the least squared
// error anyway.
enum class Rounding : uint8_t {
  kRange,         // ComputeGroupParams
  kLeastSquares,  // LeastErrorParams (mse_search.h)
};

struct QuantizeOptions {
  // For the linear layers of the blocks.
  QuantScheme scheme;
  // For lm_head, which stays as it is by default. Where it shares its weight
  // with the embedding, it gets a quantized copy of its own.
  absl::optional<QuantScheme> lm_head;
  // Linear layers of the blocks, by module name, with a scheme of their own.
  HashMap<std::string, QuantScheme> modules;
  // Linear layers whose module name contains a match (NamePattern::Search)
  // stay as they are; empty for none.
  std::string ignore;
  // Unset: compressed-tensors if it can hold every layer, else qeff. When set
  // to compressed-tensors, layers that it cannot hold stay as they are.
  absl::optional<QuantizedLayout> layout;
  // Says nothing where there is calibration.
  Rounding rounding = Rounding::kRange;
  // Reads all weights first; linear layers with one that is NaN or infinite
  // stay as they are.
  bool skip_bad_tensors = false;
};

// The fate of one tensor.
struct PlannedTensor {
  enum class Action : uint8_t {
    kKeep,      // copied
    kQuantize,  // replaced by the tensors of QuantizedTensors
    kAdd,       // copied, and quantized as well: the untied lm_head
    kDrop,      // left out: a stored lm_head that the model does not read
  };

  std::string name;  // in the source
  DType dtype;
  Shape shape;
  Action action = Action::kKeep;
  std::string reason;  // for people; may be empty
  // Kept because it holds NaN or infinities, the first of which `reason` names;
  // with skip_bad_tensors only.
  bool skipped = false;

  // With kQuantize and kAdd.
  std::string module;  // that the tensors are named after
  QuantScheme scheme;
  int64_t rows = 0;         // out features
  int64_t cols = 0;         // in features
  bool transposed = false;  // the source is [cols, rows]
  int64_t block = -1;       // that it is in; -1 for lm_head

  uint64_t bytes_before = 0;
  uint64_t bytes_after = 0;

  bool quantized() const {
    return action == Action::kQuantize || action == Action::kAdd;
  }
  // Of a copy that holds `dtype` instead, as that of rotate does: the model's.
  absl::optional<DType> original_dtype;

  DType scale_dtype() const {
    return ScaleDType(scheme, original_dtype.value_or(dtype));
  }
  // Stored bits a weight after the run; of the copy with kAdd.
  double BitsPerWeight() const;
};

struct QuantizePlan {
  std::vector<PlannedTensor> tensors;  // ordered by name
  QuantizedLayout layout = QuantizedLayout::kCompressedTensors;
  std::string layout_reason;
  Rounding rounding = Rounding::kRange;  // as in the options
  bool unties_lm_head = false;
  Json config;  // the config.json to write

  uint64_t BytesBefore() const;
  uint64_t BytesAfter() const;
  int64_t NumSkipped() const;
  // Stored bits a weight over the quantized layers.
  double QuantizedBitsPerWeight() const;
};

// Decides for every tensor of `checkpoint`, whose linear layers `map` names.
// Errors: kInvalidArgument for a model that is quantized already (naming
// config.json and quant_method), a pattern that is not one, a linear weight of
// another shape than the config says or not of a floating type, a scheme out
// of range or for a module that no block has, and when no layer is left to
// quantize; kNotFound for a missing weight; with skip_bad_tensors kDataLoss
// naming an embedding, norm or bias that is not finite: what layers get then is
// not either.
absl::StatusOr<QuantizePlan> PlanQuantization(const Checkpoint& checkpoint,
                                              const ModelMap& map,
                                              const QuantizeOptions& options);

}  // namespace qeff

#endif  // QEFF_QUANT_QUANTIZE_PLAN_H_
