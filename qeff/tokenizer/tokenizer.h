// SPDX-License-Identifier: Apache-2.0
//
// Tokenizers of Hugging Face model folders: tokenizer.json (byte-level BPE,
// BPE with byte fallback, WordPiece) and tokenizer.model (SentencePiece BPE
// and unigram).
//
//   QEFF_ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer,
//                         Tokenizer::FromFolder(folder));
//   QEFF_ASSIGN_OR_RETURN(
//       std::vector<int32_t> ids,
//       tokenizer->Encode("Once upon a time", /*add_special_tokens=*/true));
//   QEFF_ASSIGN_OR_RETURN(
//       std::string text,
//       tokenizer->Decode(ids, /*skip_special_tokens=*/true));
//
// Encode, Decode and the rest are PortableTokenizer's (portable_tokenizer.h),
// as is StreamDecoder.

#ifndef QEFF_TOKENIZER_TOKENIZER_H_
#define QEFF_TOKENIZER_TOKENIZER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "qeff/tokenizer/portable_tokenizer.h"

namespace qeff {

// A tokenizer read from files. Thread-safe.
//
// Errors of all three readers: kNotFound when the file (or both files of a
// folder) does not exist; kUnavailable when it cannot be read;
// kInvalidArgument when it is not what it claims to be or larger than 256 MiB;
// kUnimplemented when it asks for a normalizer, regular expression, model,
// ... that is not supported, with a list of what is. Messages begin with the
// path and name the field.
class Tokenizer final : public PortableTokenizer {
 public:
  // Reads `folder`/tokenizer.json or, where that does not exist,
  // `folder`/tokenizer.model. `folder`/tokenizer_config.json may name bos_token
  // and eos_token; for a tokenizer.model also add_bos_token (default: true when
  // the model has a BOS) and add_eos_token (default: false).
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromFolder(
      const std::string& folder);

  // Reads a tokenizer.json; bos_id() and eos_id() are unknown.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromTokenizerJson(
      const std::string& path);

  // Reads a SentencePiece tokenizer.model. BOS is added when the model has one.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromSentencePiece(
      const std::string& path);

 private:
  using PortableTokenizer::PortableTokenizer;
  // Checks tables that were read from the file `path`.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromTables(
      TokenizerTables tables, const std::string& path);
};

}  // namespace qeff

#endif  // QEFF_TOKENIZER_TOKENIZER_H_
