// SPDX-License-Identifier: Apache-2.0
//
// What each step of a training run gave: a JSON object a line.

#ifndef QEFF_TRAIN_METRICS_FILE_H_
#define QEFF_TRAIN_METRICS_FILE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/util/json.h"
#include "qeff/util/output_file.h"

namespace qeff {

// Not thread-safe.
class MetricsFile {
 public:
  // Appends to `path` after its lines of steps up to `step`, which a run that
  // goes on there has kept; all others are removed, and at step 0 the file
  // begins anew. With an empty path nothing is written. Errors:
  // kInvalidArgument when a line is not such an object (the file is then
  // untouched); kUnavailable.
  static absl::StatusOr<std::unique_ptr<MetricsFile>> Open(
      const std::string& path, int64_t step);

  // `values` is an object with a member "step". Errors: kUnavailable.
  absl::Status Append(const Json& values);

  // Until what was appended is on the device.
  absl::Status Sync();

 private:
  MetricsFile() = default;

  std::unique_ptr<OutputFile> file_;  // null: nothing is written
  uint64_t end_bytes_ = 0;
};

}  // namespace qeff

#endif  // QEFF_TRAIN_METRICS_FILE_H_
