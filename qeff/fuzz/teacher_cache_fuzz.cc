// SPDX-License-Identifier: Apache-2.0
//
// A teacher's cache: config.json, then model.safetensors. What is accepted says
// what it has of its first and its last sequence.

#include "qeff/distill/teacher_cache.h"
#include "qeff/fuzz/fuzz_input.h"
#include "qeff/util/status.h"

namespace qeff {

absl::Status ReadFuzzInput(absl::string_view bytes) {
  static const MemoryFolder* const kFolder = new MemoryFolder;
  const auto files = SplitFuzzInput(bytes, 2);
  kFolder->Write("config.json", files[0]);
  kFolder->Write("model.safetensors", files[1]);
  QEFF_ASSIGN_OR_RETURN(const auto teacher,
                        OpenTeacherCache(kFolder->path(), "t"));
  // How long a sequence is stands in the file; those of the seeds are of 8.
  TokenBatch batch;
  batch.ids.resize(8);
  for (const int64_t sequence : {0, 1}) {
    batch.sequences = {sequence};
    QEFF_RETURN_IF_ERROR(teacher->Run(batch));
  }
  return absl::OkStatus();
}

}  // namespace qeff
