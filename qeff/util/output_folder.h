// SPDX-License-Identifier: Apache-2.0
//
// A flat folder under construction, whoever keeps it: atomic_folder.h removes
// it when the run ends early, partial_folder.h leaves it to be resumed.

#ifndef QEFF_UTIL_OUTPUT_FOLDER_H_
#define QEFF_UTIL_OUTPUT_FOLDER_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/util/output_file.h"

namespace qeff {

// Not thread-safe; its files are as OutputFile says.
class OutputFolder {
 public:
  virtual ~OutputFolder() = default;

  // Where the folder is at present.
  virtual std::string temporary_path() const = 0;

  // Adds a file; owned by this object, valid until Commit returns. Errors:
  // kInvalidArgument unless IsPlainFileName(name); kAlreadyExists for a second
  // file of that name; kUnavailable; kResourceExhausted when too many files are
  // open.
  virtual absl::StatusOr<OutputFile*> AddFile(const std::string& name) = 0;

  // Syncs every file and the folder and gives it its final name. At most once.
  // Errors: kAlreadyExists when something has appeared there, kUnavailable.
  virtual absl::Status Commit() = 0;
};

}  // namespace qeff

#endif  // QEFF_UTIL_OUTPUT_FOLDER_H_
