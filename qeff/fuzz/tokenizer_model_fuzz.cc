// SPDX-License-Identifier: Apache-2.0
//
// A SentencePiece tokenizer.model.

#include "qeff/fuzz/fuzz_input.h"
#include "qeff/fuzz/use_tokenizer.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/util/status.h"

namespace qeff {

absl::Status ReadFuzzInput(absl::string_view bytes) {
  static MemoryFile* const kFile = new MemoryFile;
  kFile->Write(bytes);
  QEFF_ASSIGN_OR_RETURN(const auto tokenizer,
                        Tokenizer::FromSentencePiece(kFile->path()));
  UseTokenizer(*tokenizer);
  return absl::OkStatus();
}

}  // namespace qeff
