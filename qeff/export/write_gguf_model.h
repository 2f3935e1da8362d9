// SPDX-License-Identifier: Apache-2.0
//
// A model as a GGUF file for llama.cpp and everything built on it.
//
//   auto model = Transformer::Load(*Checkpoint::Open(folder));
//   auto tokenizer = Tokenizer::FromFolder(folder);
//   GgufModelTypes types;  // Q4_0, with Q8_0 for lm_head and embedding
//   auto report = WriteGgufModel(**model, (*tokenizer)->tables(), types,
//                                "model.gguf", pool);

#ifndef QEFF_EXPORT_WRITE_GGUF_MODEL_H_
#define QEFF_EXPORT_WRITE_GGUF_MODEL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/export/gguf_model_map.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tokenizer/tables.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

struct GgufModelReport {
  uint64_t file_bytes = 0;
  // Matrices that are F16 because their rows are not whole blocks, or because
  // the model kept them where it has other layers as blocks.
  std::vector<std::string> kept_f16;
};

// Writes `model` with `tokenizer` to the file `path`, replacing what is there.
// Layers that are codes or ggml's blocks go into it without another rounding
// (ggml_repack.h), whatever `types` says but for requantize, and layers of a
// block that are none beside them become F16. Every part is read back from the
// file and decoded: equal where nothing was rounded, else as near as the type
// allows. Streamed: memory does not grow with the model, but for the pages that
// the mapped checkpoint keeps of one block. The bytes do not depend on the
// pool. Errors, after which `path` is what it was: those of MapGgufModel,
// GgufTokenizerMetadata and GgufWriter; kInvalidArgument, before anything is
// written, for codes that no block holds, with what could be done; kDataLoss
// naming tensor and index of a weight that is NaN, infinite or too large for
// its type; kInvalidArgument for a block whose scale is not finite;
// kUnavailable when the checkpoint changed meanwhile or when what is read back
// is something else; kResourceExhausted without memory.
// Precondition: nothing else runs on `pool`.
absl::StatusOr<GgufModelReport> WriteGgufModel(const Transformer& model,
                                               const TokenizerTables& tokenizer,
                                               const GgufModelTypes& types,
                                               const std::string& path,
                                               ThreadPool* pool);

}  // namespace qeff

#endif  // QEFF_EXPORT_WRITE_GGUF_MODEL_H_
