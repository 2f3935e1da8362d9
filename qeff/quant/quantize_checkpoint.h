// SPDX-License-Identifier: Apache-2.0
//
// Carries out a quantization plan without calibration: codes are the nearest
// for scales that the range or a search gives, streamed from a mapped checkpoint
// to a new folder. Memory does not grow with the model.
//
//   QEFF_ASSIGN_OR_RETURN(auto checkpoint, Checkpoint::Open(folder));
//   QEFF_ASSIGN_OR_RETURN(ModelMap map, MapModel(*checkpoint));
//   QuantizeOptions options;
//   QEFF_ASSIGN_OR_RETURN(options.scheme, ParseQuantScheme("int4_g128"));
//   QEFF_ASSIGN_OR_RETURN(QuantizePlan plan,
//                         PlanQuantization(*checkpoint, map, options));
//   std::fputs(FormatPlan(plan).c_str(), stdout);
//   return QuantizeCheckpoint(*checkpoint, plan, output, pool);

#ifndef QEFF_QUANT_QUANTIZE_CHECKPOINT_H_
#define QEFF_QUANT_QUANTIZE_CHECKPOINT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/checkpoint_writer.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/util/output_folder.h"

namespace qeff {

struct QuantizeRunOptions {
  CheckpointWriterOptions writer;
  // Where it is written, and what is committed, unless null: for work of which
  // quantization is the end. `output` says nothing then.
  std::shared_ptr<OutputFolder> folder;
  // Called after every few megabytes, from one thread at a time, with the
  // source bytes that are done and to do. Returning false ends the run with
  // kCancelled.
  std::function<bool(uint64_t done_bytes, uint64_t total_bytes)> progress;
  // Called when all tensors are written, before anything is synced to disk.
  std::function<void()> before_commit;
};

// Writes the model that `plan` (made from `checkpoint`) describes to the new
// folder `output`, tokenizer and other files included. The bytes do not depend
// on the pool. Errors, after which nothing is left at `output`:
// kInvalidArgument for a scheme that needs calibration data; kDataLoss naming
// tensor and index of a weight that is NaN or infinite; kUnavailable
// when `checkpoint` changed meanwhile; kResourceExhausted without memory;
// those of CheckpointWriter.
absl::Status QuantizeCheckpoint(const Checkpoint& checkpoint,
                                const QuantizePlan& plan,
                                const std::string& output, ThreadPool& pool,
                                const QuantizeRunOptions& options = {});

// Reads `output` back: quantizes `checkpoint` once more and compares all
// tensors bit for bit, and the config. Costs about as much as the run itself.
// Errors: kDataLoss naming the first tensor and byte that differs, and those
// of reading.
absl::Status VerifyQuantized(const Checkpoint& checkpoint,
                             const QuantizePlan& plan,
                             const std::string& output, ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_QUANT_QUANTIZE_CHECKPOINT_H_
