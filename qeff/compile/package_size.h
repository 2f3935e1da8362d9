// SPDX-License-Identifier: Apache-2.0
//
// What a device package takes, from a plan of it (ModelCompiler::Plan): before
// anything is packed or written.

#ifndef QEFF_COMPILE_PACKAGE_SIZE_H_
#define QEFF_COMPILE_PACKAGE_SIZE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "qeff/device/model.h"
#include "qeff/tokenizer/tables.h"

namespace qeff {

// Bytes of the file that PackageWriter makes of `plan` and, unless it is null,
// `tokenizer`, to within 64: the header says who made it and how it is run.
// Errors: kInvalidArgument when they cannot be represented.
absl::StatusOr<uint64_t> PlannedFileBytes(const DeviceModel& plan,
                                          const TokenizerTables* tokenizer);

// Weights of the blocks' matrices, and the bytes that they take with scales,
// masks and padding.
struct BlockSize {
  double weights = 0;
  double bytes = 0;

  double bits_per_weight() const {
    return weights == 0 ? 0 : 8 * bytes / weights;
  }
};
BlockSize SizeOfBlocks(const DeviceModel& plan);

}  // namespace qeff

#endif  // QEFF_COMPILE_PACKAGE_SIZE_H_
