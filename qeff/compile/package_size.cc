// SPDX-License-Identifier: Apache-2.0

#include "qeff/compile/package_size.h"

#include "qeff/device/package/model_tensors.h"
#include "qeff/device/package/package_format.h"
#include "qeff/device/package/package_header.h"
#include "qeff/device/package/tokenizer_section.h"
#include "qeff/util/checked.h"
#include "qeff/util/status.h"

namespace qeff {

absl::StatusOr<uint64_t> PlannedFileBytes(const DeviceModel& plan,
                                          const TokenizerTables* tokenizer) {
  PackageHeader header;
  header.spec = plan.spec;
  header.tensors = TensorsOfModel(plan);
  if (tokenizer != nullptr) {
    header.tokenizer =
        PackageSection{0, EncodeTokenizerTables(*tokenizer).size(), 0};
  }
  QEFF_RETURN_IF_ERROR(PlacePackage(&header));
  return header.file_bytes;
}

BlockSize SizeOfBlocks(const DeviceModel& plan) {
  BlockSize size;
  VisitMatrices(&plan, [&](const TensorId& id, const DeviceMatrix* matrix) {
    if (!IsInBlock(id.role) || matrix->rows == 0) return;
    const CheckedU64 bytes =
        LayoutBytes(matrix->layout, matrix->rows, matrix->cols);
    size.bytes += bytes.valid() ? static_cast<double>(bytes.value()) : 0;
    size.weights +=
        static_cast<double>(matrix->rows) * static_cast<double>(matrix->cols);
  });
  return size;
}

}  // namespace qeff
