// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/quantize_write.h"

#include <cstdint>

#include "absl/types/optional.h"
#include "qeff/quant/quantize_checkpoint.h"
#include "qeff/util/progress.h"
#include "tools/interrupt.h"

namespace qeff {

absl::Status WriteQuantized(const Checkpoint& checkpoint,
                            const QuantizePlan& plan, const std::string& output,
                            ThreadPool& pool) {
  const InterruptScope interrupt;
  absl::optional<Progress> progress;
  ProgressOptions progress_options;
  progress_options.unit = "B";
  QuantizeRunOptions run;
  run.progress = [&](uint64_t done, uint64_t total) {
    // The total is known once the run has begun.
    if (!progress.has_value()) {
      progress.emplace("quantize", static_cast<int64_t>(total),
                       progress_options);
    }
    progress->Advance(static_cast<int64_t>(done) - progress->done());
    return interrupt.Check().ok();
  };
  const absl::Status status =
      QuantizeCheckpoint(checkpoint, plan, output, pool, run);
  return absl::IsCancelled(status) ? interrupt.Check() : status;
}

}  // namespace qeff
