// SPDX-License-Identifier: Apache-2.0
//
// A folder that this process writes only to read it again: nothing is synced,
// and nothing is left.

#ifndef QEFF_UTIL_SCRATCH_FOLDER_H_
#define QEFF_UTIL_SCRATCH_FOLDER_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/util/output_file.h"
#include "qeff/util/output_folder.h"

namespace qeff {

// Lies at its path from the start. Not thread-safe; its files are as OutputFile
// says. Destroying it removes it; mappings of its files stay as they are.
class ScratchFolder : public OutputFolder {
 public:
  // Makes the folder `path`, and removes what is there: a killed run's, as the
  // caller knows. Errors: kUnavailable when it cannot be made.
  static absl::StatusOr<std::shared_ptr<ScratchFolder>> Create(
      const std::string& path);

  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder() override;

  const std::string& path() const { return path_; }

  std::string temporary_path() const override { return path_; }
  absl::StatusOr<OutputFile*> AddFile(const std::string& name) override;
  // Closes the files.
  absl::Status Commit() override;

 private:
  explicit ScratchFolder(std::string path) : path_(std::move(path)) {}

  const std::string path_;
  FileDescriptor folder_;
  std::vector<std::unique_ptr<OutputFile>> files_;
};

}  // namespace qeff

#endif  // QEFF_UTIL_SCRATCH_FOLDER_H_
