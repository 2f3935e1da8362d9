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

// What becomes of the linear layers that are Q8_0, Q4_0, Q4_K, Q5_K or Q6_K.
enum class GgufBlocks : uint8_t {
  kKeep,   // a quantized model in qeff's layout, with the same blocks
  kFloat,  // F32, for what changes weights
};

struct ImportReport {
  int64_t tensors = 0;            // of the file
  int64_t quantized_tensors = 0;  // of those, kept as blocks
  uint64_t weight_bytes = 0;      // of the folder
};

// Writes the folder `output`, which must not exist. Tensors that are F32, F16
// and BF16 stay so; blocks that are not kept become F32, which holds what they
// decode to exactly. Rows that a rope of llama.cpp wants in another order go
// back to their places, as blocks too.
// Streamed: memory does not grow with the model. Errors, after which there is
// no `output`: those of GgufFile::Open, MapGgufFile, GgufTokenizerFiles and
// CheckpointWriter; kDataLoss naming the tensor and row of a value that is not
// finite; kUnavailable when the file changed meanwhile; kResourceExhausted
// without memory.
absl::StatusOr<ImportReport> ImportGguf(const std::string& path,
                                        const std::string& output,
                                        GgufBlocks blocks = GgufBlocks::kKeep);

}  // namespace qeff

#endif  // QEFF_EXPORT_IMPORT_GGUF_H_
