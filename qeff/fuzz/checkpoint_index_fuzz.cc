// SPDX-License-Identifier: Apache-2.0
//
// model.safetensors.index.json, then the shard a.safetensors. The shard
// b.safetensors is always the same. Where the index is empty, a folder without
// one: quantize_config.json, then model.safetensors.

#include <memory>
#include <string>

#include "qeff/fuzz/fuzz_input.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/io_testutil.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

const MemoryFolder& Folder() {
  // Removed at the end.
  static const std::unique_ptr<const MemoryFolder> kFolder = [] {
    auto folder = std::make_unique<MemoryFolder>();
    folder->Write("config.json", "{}");
    folder->Write("b.safetensors",
                  SafetensorsBytes({{"w", Shape({2}), {1.0f, 2.0f}}}));
    return folder;
  }();
  return *kFolder;
}

absl::Status ReadFolder(const std::string& path) {
  QEFF_ASSIGN_OR_RETURN(const auto checkpoint, Checkpoint::Open(path));
  for (const TensorInfo& info : checkpoint->tensors()) {
    QEFF_ASSIGN_OR_RETURN(const TensorView view,
                          checkpoint->Get(info.name, info.shape));
    ReadAllBytes(view.bytes);
  }
  return absl::OkStatus();
}

// Without weights, the text is a model of another kind.
absl::Status ReadWithoutIndex(absl::string_view bytes) {
  const auto files = SplitFuzzInput(bytes, 2);
  const MemoryFolder folder;
  folder.Write("config.json", "{}");
  if (files[1].empty()) {
    folder.Write("model.gguf", files[0]);
    folder.Write("part.safetensors", files[0]);
  } else {
    folder.Write("quantize_config.json", files[0]);
    folder.Write("model.safetensors", files[1]);
  }
  return ReadFolder(folder.path());
}

}  // namespace

absl::Status ReadFuzzInput(absl::string_view bytes) {
  const auto files = SplitFuzzInput(bytes, 2);
  if (files[0].empty()) return ReadWithoutIndex(files[1]);
  Folder().Write("model.safetensors.index.json", files[0]);
  Folder().Write("a.safetensors", files[1]);
  return ReadFolder(Folder().path());
}

}  // namespace qeff
