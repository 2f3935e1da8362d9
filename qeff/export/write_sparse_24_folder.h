// SPDX-License-Identifier: Apache-2.0
//
// A model of floats that was pruned to two of each four weights, as a folder of
// compressed-tensors' sparse-24-bitmask, which takes 9 of 16 bits. Newer
// versions of compressed-tensors and vLLM do not read it any more.

#ifndef QEFF_EXPORT_WRITE_SPARSE_24_FOLDER_H_
#define QEFF_EXPORT_WRITE_SPARSE_24_FOLDER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

struct Sparse24FolderReport {
  int64_t layers = 0;             // that were compressed
  std::vector<std::string> kept;  // linear layers that are not 2:4
  uint64_t weight_bytes = 0;      // of all tensors
};

// Writes `model` to the new folder `output`. Layers stay as they are when more
// than two of four consecutive weights of a row are not 0, when rows are no
// multiple of 4, and when they are stored as [in, out] (GPT-2's Conv1D); all
// other tensors and files are copied. -0 becomes 0. One layer is in memory at
// a time. The folder is read back (read_back.h). Errors, after which nothing is
// left at `output`: kInvalidArgument, before anything is written, for a model
// that is quantized or compressed already, and for one without such layers,
// naming the first group that has more; those of CheckpointWriter and ReadBack;
// kResourceExhausted without memory.
absl::StatusOr<Sparse24FolderReport> WriteSparse24Folder(
    const Transformer& model, const std::string& output);

}  // namespace qeff

#endif  // QEFF_EXPORT_WRITE_SPARSE_24_FOLDER_H_
