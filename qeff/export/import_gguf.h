// SPDX-License-Identifier: Apache-2.0
//
// A GGUF file, of llama.cpp or of write_gguf_model.h, as a Hugging Face model
// folder, which every command reads.
//
//   QEFF_ASSIGN_OR_RETURN(const ImportReport report,
//                         ImportGguf("model.gguf", "model"));

#ifndef QEFF_EXPORT_IMPORT_GGUF_H_
#define QEFF_EXPORT_IMPORT_GGUF_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace qeff {

struct ImportReport {
  int64_t tensors = 0;
  uint64_t weight_bytes = 0;  // of the folder
};

// Writes the folder `output`, which must not exist. Tensors that are F32, F16
// and BF16 stay so; blocks become F32, which holds what they decode to exactly.
// Streamed: memory does not grow with the model. Errors, after which there is
// no `output`: those of GgufFile::Open, MapGgufFile, GgufTokenizerFiles and
// CheckpointWriter; kDataLoss naming the tensor and row of a value that is not
// finite; kUnavailable when the file changed meanwhile; kResourceExhausted
// without memory.
absl::StatusOr<ImportReport> ImportGguf(const std::string& path,
                                        const std::string& output);

}  // namespace qeff

#endif  // QEFF_EXPORT_IMPORT_GGUF_H_
