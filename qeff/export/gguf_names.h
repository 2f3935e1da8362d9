// SPDX-License-Identifier: Apache-2.0
//
// Names of the tensors of GGUF files as Hugging Face has them.

#ifndef QEFF_EXPORT_GGUF_NAMES_H_
#define QEFF_EXPORT_GGUF_NAMES_H_

#include <string>

#include "absl/strings/string_view.h"

namespace qeff {

// Hugging Face's name of the tensor `name` in a model of `architecture` (llama,
// qwen2, qwen3, gpt2 or mpt); empty when it has none there.
// Source: llama.cpp's gguf-py/gguf/tensor_mapping.py.
std::string HuggingFaceName(absl::string_view architecture,
                            absl::string_view name);

// Whether Hugging Face stores this tensor, by its own name, as [in, out].
bool IsStoredTransposed(absl::string_view architecture,
                        absl::string_view hugging_face_name);

}  // namespace qeff

#endif  // QEFF_EXPORT_GGUF_NAMES_H_
