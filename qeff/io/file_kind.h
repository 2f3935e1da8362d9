// SPDX-License-Identifier: Apache-2.0
//
// Recognizes files that people take for a model in safetensors layout, so that
// an error can say what was found instead.

#ifndef QEFF_IO_FILE_KIND_H_
#define QEFF_IO_FILE_KIND_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace qeff {

// What the first bytes of a file say that it is: "a zip archive (PyTorch
// checkpoint); convert it to safetensors", or "" when they say nothing. A
// guess, for messages only: a safetensors file may begin with any bytes.
absl::string_view ForeignKindOfContent(absl::Span<const uint8_t> content);

// The same from a file's name, for the weight files of other formats and
// tools (pytorch_model.bin, *.gguf, *.onnx, ...); "" for all others.
absl::string_view ForeignKindOfName(absl::string_view file_name);

}  // namespace qeff

#endif  // QEFF_IO_FILE_KIND_H_
