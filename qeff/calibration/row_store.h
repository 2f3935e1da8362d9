// SPDX-License-Identifier: Apache-2.0
//
// The rows of a large matrix of activations, in memory or, where that is
// scarce, in a file.

#ifndef QEFF_CALIBRATION_ROW_STORE_H_
#define QEFF_CALIBRATION_ROW_STORE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/tensor/tensor.h"
#include "qeff/util/output_file.h"

namespace qeff {

// [rows, cols] of float32. Not thread-safe.
class RowStore {
 public:
  // Elements behind the last row that Read gives that may be read, for kernels
  // that load whole vectors.
  static constexpr int64_t kReadBeyondElems = 16;

  // In memory, zeroed. Throws std::bad_alloc.
  RowStore(int64_t rows, int64_t cols);

  // In a new file at `path`, which is removed at once and exists as long as
  // the store does. Errors: kUnavailable, also when the disk has no room.
  static absl::StatusOr<RowStore> InFile(const std::string& path, int64_t rows,
                                         int64_t cols);

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }

  // Rows [begin, begin + count), valid until the next call of a member.
  // Changes to them are kept by Write. Errors: kUnavailable. Precondition
  // (checked): there are such rows.
  absl::StatusOr<MatrixView<float>> Read(int64_t begin, int64_t count);

  // Replaces the rows from `begin` on; `rows` may be what Read gave, and is
  // contiguous. Errors: kUnavailable. Precondition (checked): as Read.
  absl::Status Write(int64_t begin, MatrixView<const float> rows);

  // Copies all rows to a new file at `path`, waits until it is on the device,
  // and returns a checksum. Errors: kUnavailable.
  absl::StatusOr<uint64_t> Save(const std::string& path);

  // Reads what Save wrote and returns the checksum of what was read. Errors:
  // kInvalidArgument when the file has another size; kUnavailable, also without
  // a file.
  absl::StatusOr<uint64_t> Load(const std::string& path);

 private:
  RowStore(int64_t rows, int64_t cols, std::unique_ptr<OutputFile> file)
      : rows_(rows), cols_(cols), file_(std::move(file)) {}

  void Reserve(int64_t rows);

  int64_t rows_ = 0;
  int64_t cols_ = 0;
  AlignedArray<float> values_;  // all rows, or those that Read gave
  std::unique_ptr<OutputFile> file_;
};

}  // namespace qeff

#endif  // QEFF_CALIBRATION_ROW_STORE_H_
