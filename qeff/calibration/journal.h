// SPDX-License-Identifier: Apache-2.0
//
// What of a long run is done: a text file with one JSON object a line. The
// first describes the run, so that no other is taken for it; each of the rest
// is a step whose results were on the device before the line was written. A
// last line that was cut off does not count.

#ifndef QEFF_CALIBRATION_JOURNAL_H_
#define QEFF_CALIBRATION_JOURNAL_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/util/json.h"
#include "qeff/util/output_file.h"

namespace qeff {

// Not thread-safe.
class Journal {
 public:
  // Opens or creates the journal at `path` of the run that `description`, an
  // object, describes. Errors: kInvalidArgument when the file is another run's
  // (naming the first member that differs, with both values) or damaged
  // before its last line; kUnavailable.
  static absl::StatusOr<std::unique_ptr<Journal>> Open(const std::string& path,
                                                       const Json& description);

  // The steps of earlier runs.
  const std::vector<Json>& steps() const { return steps_; }

  // Adds a step and waits until it is on the device. Errors: kUnavailable.
  absl::Status Append(const Json& step);

 private:
  Journal(OutputFile file) : file_(std::move(file)) {}

  absl::Status Read(const std::string& text, const Json& description);
  absl::Status WriteLine(const Json& value);

  OutputFile file_;
  uint64_t end_bytes_ = 0;  // of the last whole line
  std::vector<Json> steps_;
};

}  // namespace qeff

#endif  // QEFF_CALIBRATION_JOURNAL_H_
