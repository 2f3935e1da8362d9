// SPDX-License-Identifier: Apache-2.0
//
// A tokenizer of its own for a text.

#ifndef QEFF_TOKENIZER_TRAIN_TOKENIZER_H_
#define QEFF_TOKENIZER_TRAIN_TOKENIZER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace qeff {

// Writes tokenizer.model (SentencePiece's format: BPE with byte fallback, no
// normalization) and tokenizer_config.json, as Llama has them, for the UTF-8
// texts `files`, to the new folder `output`. Of the `vocab_size` tokens the
// first are <unk>, <s>, </s> and the 256 bytes, of which line ends are; then
// the pieces of TrainBpe. Any text is decoded to what was encoded. The same
// texts give the same bytes.
// Errors, after which nothing is left: kNotFound, and kInvalidArgument for a
// file that is empty or holds a NUL byte (with its offset), for a vocab_size
// that has no room for the first tokens, and for those of TrainBpe;
// kAlreadyExists; kUnavailable. Memory: the longest text, and its words.
absl::Status TrainTokenizer(const std::vector<std::string>& files,
                            int64_t vocab_size, const std::string& output);

}  // namespace qeff

#endif  // QEFF_TOKENIZER_TRAIN_TOKENIZER_H_
