// SPDX-License-Identifier: Apache-2.0
//
// For commands that take a model folder: the same commands on a GGUF file.

#ifndef QEFF_TOOLS_COMMANDS_MODEL_FOLDER_H_
#define QEFF_TOOLS_COMMANDS_MODEL_FOLDER_H_

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "qeff/export/import_gguf.h"

namespace qeff {

// The folder of a model; one that was made for it goes with this object. Killed
// with SIGKILL, or by a signal that the command does not handle, it stays.
class ModelFolder {
 public:
  // `model` itself unless it is a GGUF file. Such a file is imported
  // (qeff/export/import_gguf.h) into a new folder under $TMPDIR, or /tmp, which
  // takes up to 4 bytes a weight that is not in a linear layer. Errors: those
  // of ImportGguf, and kUnavailable when no folder can be made.
  static absl::StatusOr<ModelFolder> Open(
      const std::string& model, GgufBlocks blocks = GgufBlocks::kKeep);

  // A folder under $TMPDIR, or /tmp, that is yet to be written: path() is where
  // a model may be made. Errors: kUnavailable when none can be made.
  static absl::StatusOr<ModelFolder> Scratch();

  ModelFolder(ModelFolder&& other) noexcept
      : path_(std::move(other.path_)),
        scratch_(std::exchange(other.scratch_, std::string())) {}
  ModelFolder& operator=(ModelFolder&&) = delete;
  ~ModelFolder();

  const std::string& path() const { return path_; }

 private:
  ModelFolder() = default;

  std::string path_;
  std::string scratch_;  // removed with all that is in it; "": nothing is
};

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_MODEL_FOLDER_H_
