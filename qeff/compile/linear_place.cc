// SPDX-License-Identifier: Apache-2.0

#include "qeff/compile/linear_place.h"

#include <cstddef>

#include "absl/types/span.h"
#include "qeff/tensor/dtype.h"
#include "qeff/util/check.h"

namespace qeff {

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

QuantizedRowsView RowsOf(const QuantizedMatrix& matrix, int64_t first,
                         int64_t count) {
  QuantizedRowsView view = matrix.codes;
  const auto part = [&](absl::Span<const uint8_t> all, size_t row_bytes) {
    return all.subspan(static_cast<size_t>(first) * row_bytes,
                       static_cast<size_t>(count) * row_bytes);
  };
  const size_t groups = static_cast<size_t>(matrix.groups);
  // Signed bytes are packed when they are needed.
  if (!view.packed.empty()) {
    view.packed = part(view.packed, static_cast<size_t>(matrix.row_bytes));
  }
  view.scales = part(view.scales, groups * DTypeBytes(view.scale_dtype));
  if (!view.zeros.empty()) view.zeros = part(view.zeros, groups);
  return view;
}

LinearRole LinearOf(TensorRole role) {
  switch (role) {
    case TensorRole::kQWeight:
      return LinearRole::kQ;
    case TensorRole::kKWeight:
      return LinearRole::kK;
    case TensorRole::kVWeight:
      return LinearRole::kV;
    case TensorRole::kOWeight:
      return LinearRole::kO;
    case TensorRole::kGateWeight:
      return LinearRole::kGate;
    case TensorRole::kUpWeight:
      return LinearRole::kUp;
    case TensorRole::kDownWeight:
      return LinearRole::kDown;
    default:
      QEFF_CHECK(role == TensorRole::kLmHeadWeight);
      return LinearRole::kLmHead;
  }
}

}  // namespace qeff
