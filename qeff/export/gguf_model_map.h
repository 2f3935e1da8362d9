// SPDX-License-Identifier: Apache-2.0
//
// What llama.cpp calls the parts of a model: hyperparameters as keys of a GGUF
// file, and where each of its tensors comes from. Reads no weights; writing
// the file is in write_gguf_model.h.

#ifndef QEFF_EXPORT_GGUF_MODEL_MAP_H_
#define QEFF_EXPORT_GGUF_MODEL_MAP_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/format/ggml_blocks.h"
#include "qeff/io/gguf_header.h"
#include "qeff/io/gguf_metadata.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/transformer/model_map.h"

namespace qeff {

// Types of the matrices; norms and biases are always F32. A matrix whose rows
// are not whole blocks of its type becomes F16, as llama.cpp's own quantizer
// decides.
struct GgufModelTypes {
  GgmlType linear = GgmlType::kQ4_0;
  GgmlType lm_head = GgmlType::kQ8_0;    // of the embedding, too, when tied
  GgmlType embedding = GgmlType::kQ8_0;  // when it is not the lm_head
  // Of layers that are codes already, too: they are rounded again.
  bool requantize = false;
};

// The part of a model that a tensor of the file is made from.
enum class GgufSource : uint8_t {
  kEmbedding,
  kPositionEmbedding,
  kLinear,  // `role` of `block`, which is -1 for the lm_head
  kLinearBias,
  kAttentionNorm,
  kAttentionNormBias,
  kFfnNorm,
  kFfnNormBias,
  kQNorm,
  kKNorm,
  kFinalNorm,
  kFinalNormBias,
  kRopeFactors,  // unscaled frequency / scaled one, of each pair
};

struct GgufModelTensor {
  GgufTensorInfo info;
  GgufSource source;
  int64_t block = -1;
  LinearRole role = LinearRole::kLmHead;
  // Rows of each head are interleaved: row 2 i + s of the file is row
  // s * head_dim / 2 + i of the model. llama.cpp's rope of the "llama"
  // architecture rotates neighbours where Hugging Face's rotates halves.
  bool interleave = false;
};

struct GgufModelMap {
  GgufMetadata metadata;  // without the tokenizer
  std::vector<GgufModelTensor> tensors;
};

// Maps the families llama and mistral (architecture "llama"), qwen2, qwen3,
// gpt2 and mpt. Errors (kUnimplemented): another family, and what llama.cpp
// would silently compute in another way: a sliding window, other activations
// and attention scales, biases that the architecture lacks, llama3's rope
// scaling outside of "llama". (Of mpt it takes the tanh approximation of GELU;
// there is no other way.)
// Source: llama.cpp's llama-arch.cpp, llama-model.cpp, convert_hf_to_gguf.py.
absl::StatusOr<GgufModelMap> MapGgufModel(const TransformerSpec& spec,
                                          const GgufModelTypes& types);

}  // namespace qeff

#endif  // QEFF_EXPORT_GGUF_MODEL_MAP_H_
