// SPDX-License-Identifier: Apache-2.0
//
// The number of a small tokenizer, then any text that it encodes.

#include <memory>
#include <vector>

#include "qeff/fuzz/fuzz_input.h"
#include "qeff/fuzz/seed_files.h"
#include "qeff/fuzz/use_tokenizer.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

using Tokenizers = std::vector<std::unique_ptr<Tokenizer>>;

const Tokenizers& AllTokenizers() {
  static const Tokenizers* const kTokenizers = [] {
    auto* tokenizers = new Tokenizers;
    MemoryFile file;
    for (const SeedFile& seed : TokenizerJsonSeeds()) {
      file.Write(seed.bytes);
      tokenizers->push_back(*Tokenizer::FromTokenizerJson(file.path()));
    }
    for (const SeedFile& seed : TokenizerModelSeeds()) {
      file.Write(seed.bytes);
      tokenizers->push_back(*Tokenizer::FromSentencePiece(file.path()));
    }
    return tokenizers;
  }();
  return *kTokenizers;
}

}  // namespace

absl::Status ReadFuzzInput(absl::string_view bytes) {
  if (bytes.empty()) return InvalidInputError("empty");
  const size_t index = static_cast<unsigned char>(bytes[0]);
  if (index >= AllTokenizers().size()) return InvalidInputError("no such");
  const PortableTokenizer& tokenizer = *AllTokenizers()[index];
  const absl::string_view text = bytes.substr(1);
  UseTokenizer(tokenizer, text);
  // The first has every byte and no normalizer.
  QEFF_CHECK(index != 0 ||
             *tokenizer.Decode(*tokenizer.Encode(text, false), false) == text);
  return absl::OkStatus();
}

}  // namespace qeff
