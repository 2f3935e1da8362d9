// SPDX-License-Identifier: Apache-2.0
//
// The inverse of gguf_tokenizer.h: the tokenizer of a GGUF file as the files
// of a Hugging Face model folder.

#ifndef QEFF_EXPORT_GGUF_TOKENIZER_FILES_H_
#define QEFF_EXPORT_GGUF_TOKENIZER_FILES_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/io/gguf_metadata.h"

namespace qeff {

// Name and content of each file. tokenizer.ggml.model decides:
//   "llama"  tokenizer.model, SentencePiece BPE by scores
//   "gpt2"   tokenizer.json, byte-level BPE by merges; tokenizer.ggml.pre is
//            gpt-2, mpt, llama-bpe or qwen2
// and tokenizer_config.json beside it. Unused tokens at the end, which pad the
// embedding, are left out. `path` begins every error: kInvalidArgument for a
// key that is missing, of the wrong type, of another length or with an id out
// of range, a token that is empty or not UTF-8, a score that is not finite;
// kUnimplemented for other models and values of pre. What is left is checked
// when the tokenizer is loaded.
// Source: llama.cpp's llama-vocab.cpp.
absl::StatusOr<std::vector<std::pair<std::string, std::string>>>
GgufTokenizerFiles(const GgufMetadata& metadata, absl::string_view path);

}  // namespace qeff

#endif  // QEFF_EXPORT_GGUF_TOKENIZER_FILES_H_
