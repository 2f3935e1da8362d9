// SPDX-License-Identifier: Apache-2.0
//
// A model with quantized layers as a folder of another layout: GPTQ, AWQ or
// compressed-tensors. No value changes: the codes, scales and zero points are
// the same numbers, or it is an error.
//
//   auto model = Transformer::Load(*Checkpoint::Open(folder));
//   auto report = WriteQuantizedFolder(**model, QuantizedLayout::kGptq,
//   output);

#ifndef QEFF_EXPORT_WRITE_QUANTIZED_FOLDER_H_
#define QEFF_EXPORT_WRITE_QUANTIZED_FOLDER_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

struct QuantizedFolderReport {
  int64_t layers = 0;         // that hold codes
  uint64_t weight_bytes = 0;  // of all tensors
  // Why an lm_head that had codes has F32 now; else empty.
  std::string lm_head_floats;
};

// Writes `model` in `layout`, any but kQeff, to the new folder `output`, with
// all other tensors and files as they are; biases of zeros that the model does
// not have are left out. An lm_head whose codes `layout` cannot hold, or not
// beside those of the blocks, becomes F32, which has the same values: runtimes
// of these layouts expect floats there. One layer is in memory at a time. The
// folder is read back (read_back.h). Errors, after which nothing is
// left at `output`: kInvalidArgument, before anything is written, for a model
// without quantized layers, for the first layer that `layout` cannot hold
// (WhyNotHeld), with the layouts that can, and for layers that differ in bits
// or group size where `layout` has one of each for the model (GPTQ and AWQ);
// those of CheckpointWriter and ReadBack; kResourceExhausted without memory.
// Precondition (checked): not kQeff.
absl::StatusOr<QuantizedFolderReport> WriteQuantizedFolder(
    const Transformer& model, QuantizedLayout layout,
    const std::string& output);

}  // namespace qeff

#endif  // QEFF_EXPORT_WRITE_QUANTIZED_FOLDER_H_
