// SPDX-License-Identifier: Apache-2.0
//
// The inverse of gguf_model_map.h: what Hugging Face calls the model that a
// GGUF file holds. Reads no weights but the factors of a rope; whole files are
// read by import_gguf.h.

#ifndef QEFF_EXPORT_GGUF_CONFIG_H_
#define QEFF_EXPORT_GGUF_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/io/gguf_file.h"
#include "qeff/util/json.h"

namespace qeff {

// A tensor of the file under the name that Hugging Face gives it.
struct GgufNamedTensor {
  const GgufTensorInfo* tensor;  // of the file
  std::string name;
  // Rows 2 i + s of each head are rows s * head_dim / 2 + i of the model, as
  // GgufModelTensor::interleave says; 0: they are not.
  int64_t interleaved_head_dim = 0;
  // A matrix that Hugging Face stores as [in, out].
  bool transposed = false;
  // The weight of a linear layer: its module; else empty.
  std::string linear_module;
};

struct GgufModel {
  Json config;  // config.json
  std::vector<GgufNamedTensor> tensors;
};

// Maps the architectures llama (which is also Mistral's), qwen2, qwen3, gpt2
// and mpt.
// Numbers of the file, which are float32, become the shortest decimals that
// stand for them. Factors of a rope are taken as those of Llama 3 (low and high
// frequency factor 1 and 4, 8192 original positions) and checked against that.
//
// Errors, each naming the file and the key or tensor: kUnimplemented for
// another architecture, a rope scaling that qeff lacks, mixtures of experts,
// and tensors of unknown name or type; kInvalidArgument for a key that is
// missing, of the wrong type or contradicts another, and for what MapConfig
// (qeff/transformer/model_map.h) refuses. Shapes are checked when the model is
// loaded. `file` must outlive the result.
// Source: llama.cpp's gguf-py/gguf/tensor_mapping.py, llama-model.cpp.
absl::StatusOr<GgufModel> MapGgufFile(const GgufFile& file);

}  // namespace qeff

#endif  // QEFF_EXPORT_GGUF_CONFIG_H_
