// SPDX-License-Identifier: Apache-2.0
//
// From text files to a file of token ids (token_shard.h).

#ifndef QEFF_TRAIN_TOKENIZE_TO_SHARD_H_
#define QEFF_TRAIN_TOKENIZE_TO_SHARD_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tokenizer/portable_tokenizer.h"

namespace qeff {

// What a document is: a whole file, or what stands between empty lines, without
// the line breaks around it.
enum class DocumentKind : uint8_t { kBlankLines, kFiles };

// "blank_lines", "files". Errors: kInvalidArgument.
absl::StatusOr<DocumentKind> ParseDocumentKind(absl::string_view name);
absl::string_view DocumentKindName(DocumentKind kind);

struct TokenizeOptions {
  DocumentKind documents = DocumentKind::kBlankLines;
  // Put before and after every document, where given.
  absl::optional<int32_t> bos;
  absl::optional<int32_t> eos;
  // Called between parts of the work; an error ends it. May be null.
  std::function<absl::Status()> check;
  // Called as bytes of text are done. May be null.
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)> progress;
};

// Writes the documents of the UTF-8 texts `files`, in their order, to `output`,
// with the tokenizer's vocabulary. Documents that give no tokens are left out.
// Lines end in LF or CR LF. Special tokens that are spelled in the text are
// found. The same bytes for any number of threads. Memory: about 16 MiB and
// what tokenizing takes, for 4 MiB of text or the longest document.
// Errors: kNotFound for a file that does not exist, before work begins;
// kInvalidArgument without files, for one that is empty, holds a NUL byte (at
// the offset named) or is the output, for texts without a token, for bos or
// eos outside the vocabulary, and those of Encode; kUnavailable when a file
// changes meanwhile or the output cannot be written; those of `check`. After an
// error the output is what it was before.
absl::Status TokenizeToShard(const std::vector<std::string>& files,
                             const PortableTokenizer& tokenizer,
                             const TokenizeOptions& options,
                             const std::string& output, ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_TRAIN_TOKENIZE_TO_SHARD_H_
