// SPDX-License-Identifier: Apache-2.0
//
// A digit that chooses the family of the weights, then config.json beside
// them. What is accepted is run.

#include <memory>
#include <utility>
#include <vector>

#include "qeff/fuzz/config_models.h"
#include "qeff/fuzz/fuzz_input.h"
#include "qeff/io/io_testutil.h"
#include "qeff/transformer/host_forward.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

using Folders = std::vector<std::unique_ptr<MemoryFolder>>;

// One with the weights of each model.
const Folders& AllFolders() {
  // Removed at the end.
  static const Folders kFolders = [] {
    Folders folders;
    for (const TestModel& model : ConfigModels()) {
      folders.push_back(std::make_unique<MemoryFolder>());
      folders.back()->Write("model.safetensors",
                            SafetensorsBytes(model.tensors));
    }
    return folders;
  }();
  return kFolders;
}

}  // namespace

absl::Status ReadFuzzInput(absl::string_view bytes) {
  static ThreadPool* const kPool = CreateThreadPool(1)->release();
  if (bytes.empty()) return InvalidInputError("empty");
  const size_t family = static_cast<size_t>(bytes[0] - '0');
  if (family >= AllFolders().size()) return InvalidInputError("no digit");
  const MemoryFolder& folder = *AllFolders()[family];
  folder.Write("config.json", bytes.substr(1));
  QEFF_ASSIGN_OR_RETURN(auto checkpoint, Checkpoint::Open(folder.path()));
  QEFF_ASSIGN_OR_RETURN(auto model, Transformer::Load(std::move(checkpoint)));
  QEFF_ASSIGN_OR_RETURN(auto forward,
                        HostForward::Create(std::move(model), kPool));
  return forward->LogitsOf({1, 2, 3}).status();
}

}  // namespace qeff
