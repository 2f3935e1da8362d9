// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/model_folder.h"

#include <fcntl.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "qeff/util/remove_tree.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

bool IsGgufFile(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return false;
  char magic[4] = {};
  std::ifstream(path, std::ios::binary).read(magic, sizeof(magic));
  return absl::string_view(magic, sizeof(magic)) == "GGUF";
}

}  // namespace

absl::StatusOr<ModelFolder> ModelFolder::Scratch() {
  const char* parent = std::getenv("TMPDIR");
  std::string scratch = absl::StrCat(
      parent == nullptr || *parent == '\0' ? "/tmp" : parent, "/qeff-XXXXXX");
  if (mkdtemp(scratch.data()) == nullptr) {
    return IoError(scratch, "mkdtemp", errno);
  }
  ModelFolder folder;
  folder.scratch_ = scratch;
  folder.path_ = scratch + "/model";
  return folder;
}

absl::StatusOr<ModelFolder> ModelFolder::Open(const std::string& model,
                                              GgufBlocks blocks) {
  if (!IsGgufFile(model)) {
    ModelFolder folder;
    folder.path_ = model;
    return folder;
  }
  QEFF_ASSIGN_OR_RETURN(ModelFolder folder, Scratch());
  QEFF_RETURN_IF_ERROR(ImportGguf(model, folder.path_, blocks).status());
  return folder;
}

ModelFolder::~ModelFolder() {
  if (!scratch_.empty()) RemoveTree(AT_FDCWD, scratch_.c_str());
}

}  // namespace qeff
