// SPDX-License-Identifier: Apache-2.0
//
// Text to token ids and back, over tables that are already built. The device
// links this; use tokenizer.h to read a tokenizer from files.

#ifndef QEFF_TOKENIZER_PORTABLE_TOKENIZER_H_
#define QEFF_TOKENIZER_PORTABLE_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "qeff/tokenizer/tables.h"

namespace qeff {

// A tokenizer. Thread-safe: all methods are const and keep no state.
//
// Invalid UTF-8: a byte that begins no valid sequence is a character of its
// own that has no Unicode property. Byte-level models encode it as it is, so
// for one without a normalizer, and without added tokens that swallow white
// space, Decode(Encode(x)) == x for every string of bytes. Models with byte
// fallback encode it as its byte token; a SentencePiece normalizer makes it
// U+FFFD; for others it is unknown text. NUL is a character like any other.
class PortableTokenizer {
 public:
  // Errors: kInvalidArgument when the tables contradict themselves, e.g. an id
  // beyond the vocabulary or a byte-level vocabulary without every byte.
  static absl::StatusOr<std::unique_ptr<PortableTokenizer>> Create(
      TokenizerTables tables);

  PortableTokenizer(const PortableTokenizer&) = delete;
  PortableTokenizer& operator=(const PortableTokenizer&) = delete;
  virtual ~PortableTokenizer();

  // Token ids of `text`. With `add_special_tokens`, what the post-processor
  // puts before and after it (e.g. BOS) is added; special tokens that are
  // spelled in the text are found either way. An empty text has no other ids.
  // Cost: O(n log n) in the bytes, linear for text of real languages.
  // Errors: kInvalidArgument when `text` is larger than 1 GiB.
  absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view text,
                                              bool add_special_tokens) const;

  // The text of `ids`. With `skip_special_tokens`, tokens for which
  // is_special() are left out. The result of a byte-level model need not be
  // valid UTF-8; byte tokens of byte fallback that do not form valid UTF-8
  // become U+FFFD, one for each byte.
  // Errors: kInvalidArgument for an id that is no token's, with its index.
  absl::StatusOr<std::string> Decode(absl::Span<const int32_t> ids,
                                     bool skip_special_tokens) const;

  // One more than the largest id. A model's embedding may have more rows.
  int32_t vocab_size() const;

  // Ids of the tokens that begin and end a text, where the files name them.
  absl::optional<int32_t> bos_id() const;
  absl::optional<int32_t> eos_id() const;

  // The id of a token that is spelled as in the file (e.g. "Ġthe").
  absl::optional<int32_t> TokenToId(absl::string_view token) const;

  // How the file spells a token. Errors: kInvalidArgument when `id` is none's.
  absl::StatusOr<std::string> IdToToken(int32_t id) const;

  // Whether `id` is a special or control token; false when it is no token's.
  bool is_special(int32_t id) const;

  // The tables, to be written into a device package.
  const TokenizerTables& tables() const;

 protected:
  class Impl;
  friend class StreamDecoder;
  explicit PortableTokenizer(std::shared_ptr<const Impl> impl);
  static absl::StatusOr<std::shared_ptr<const Impl>> CreateImpl(
      TokenizerTables tables);

 private:
  // Shared only because a derived class cannot destroy an incomplete type.
  std::shared_ptr<const Impl> impl_;
};

// Decodes ids one at a time, for text that appears while it is generated:
//
//   StreamDecoder decoder(tokenizer.get(), /*skip_special_tokens=*/true);
//   QEFF_ASSIGN_OR_RETURN(std::string text, decoder.Append(id));
//   ...
//   text += decoder.Flush();
//
// What Append returns never ends inside a UTF-8 sequence that the next token
// could complete; all parts together are the result of Decode. Not
// thread-safe. `tokenizer` must outlive it.
class StreamDecoder {
 public:
  StreamDecoder(const PortableTokenizer* tokenizer, bool skip_special_tokens);
  StreamDecoder(StreamDecoder&&) noexcept;
  ~StreamDecoder();

  // Text that is complete with this token; may be empty. Errors: as Decode;
  // the state is then unchanged.
  absl::StatusOr<std::string> Append(int32_t id);

  // What was held back. The decoder can be used for another text afterwards.
  std::string Flush();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace qeff

#endif  // QEFF_TOKENIZER_PORTABLE_TOKENIZER_H_
