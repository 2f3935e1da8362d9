// SPDX-License-Identifier: Apache-2.0
//
// What an interrupted training left: its journal, then the state of step 1.

#include <string>
#include <vector>

#include "qeff/fuzz/fuzz_input.h"
#include "qeff/fuzz/seed_files.h"
#include "qeff/train/train_files.h"
#include "qeff/util/status.h"

namespace qeff {

absl::Status ReadFuzzInput(absl::string_view bytes) {
  static const MemoryFolder folder;  // removed at the end
  const auto files = SplitFuzzInput(bytes, 2);
  folder.Write("journal", files[0]);
  folder.Write("state-00000001.safetensors", files[1]);
  QEFF_ASSIGN_OR_RETURN(
      const auto run,
      TrainFiles::Open(folder.path(), TrainStateDescription(), /*kept=*/2));
  if (run->last().is_null()) return absl::OkStatus();
  std::vector<float> weight(4), moment(2);
  return run->Load(
      {{"weight", absl::MakeSpan(weight)}, {"moment", absl::MakeSpan(moment)}});
}

}  // namespace qeff
