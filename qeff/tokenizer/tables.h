// SPDX-License-Identifier: Apache-2.0
//
// Everything that a tokenizer knows, as plain vectors: what tokenizer.json and
// tokenizer.model are compiled to, and what a device package stores. Built by
// build_from_json.h and build_from_sentencepiece.h, which validate; executed
// by portable_tokenizer.h, which validates again what memory safety needs.
// Nothing here depends on more than the standard library and absl.

#ifndef QEFF_TOKENIZER_TABLES_H_
#define QEFF_TOKENIZER_TABLES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "qeff/tokenizer/unicode_tables.h"

namespace qeff {

// A vector of strings in one block of memory. Thread-compatible.
struct StringPool {
  std::string bytes;
  std::vector<uint32_t> ends;  // ends[i]: one past the last byte of string i

  size_t size() const { return ends.size(); }
  absl::string_view operator[](size_t i) const {
    const uint32_t begin = i == 0 ? 0 : ends[i - 1];
    return absl::string_view(bytes.data() + begin, ends[i] - begin);
  }
  void push_back(absl::string_view text) {
    bytes.append(text.data(), text.size());
    ends.push_back(static_cast<uint32_t>(bytes.size()));
  }
};

// What a token id stands for.
enum class TokenKind : uint8_t {
  kNormal,       // a piece of the model's vocabulary
  kAdded,        // an added token that is not in the model's vocabulary
  kControl,      // SentencePiece: never produced by the model
  kUnknown,      // SentencePiece: stands for what has no piece
  kByte,         // SentencePiece: one byte of what has no piece
  kUserDefined,  // SentencePiece: always one piece, kept by the normalizer
  kGap,          // no token has this id
};

enum class ModelKind : uint8_t {
  kBpe,               // merges of pairs of ids, by rank
  kSentencePieceBpe,  // merges of any two neighbours that are a piece, by score
  kUnigram,           // most probable segmentation
  kWordPiece,         // longest match first
};

// One rule of a kBpe model; its rank is its place in the list.
struct BpeMerge {
  int32_t left;
  int32_t right;
  int32_t result;
};

// A token that is found in the text before the model sees it.
struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool special = false;      // left out by Decode(..., skip_special_tokens)
  bool single_word = false;  // not when a word character stands beside it
  bool lstrip = false;       // swallows white space before it
  bool rstrip = false;       // swallows white space after it
  bool normalized = false;   // looked for in the normalized text
};

struct NormalizerOp {
  enum class Kind : uint8_t {
    kNfc,
    kNfd,
    kNfkc,
    kNfkd,
    kLowercase,
    kStripLeft,
    kStripRight,
    kRemoveMarks,            // general category M
    kRemoveNonspacingMarks,  // general category Mn
    kCleanText,  // BERT: drops control characters, white space becomes ' '
    kSpaceCjk,   // BERT: spaces around CJK ideographs
    kPrepend,    // `content` before a text that is not empty
    kReplace,    // every `pattern` by `content`
    kSentencePiece,
  };
  Kind kind;
  std::string pattern;
  std::string content;
};

// The normalizer of a tokenizer.model. Source: sentencepiece_model.proto,
// NormalizerSpec.
struct SentencePieceNormalizer {
  bool add_dummy_prefix = false;
  bool remove_extra_whitespaces = false;
  bool escape_whitespaces = false;
  bool whitespace_as_suffix = false;
  // precompiled_charsmap: a Darts double array and NUL-terminated replacements.
  std::vector<uint32_t> trie;
  std::string replacements;
};

// The regular expressions of Split pre-tokenizers that are implemented.
enum class SplitPattern : uint8_t { kGpt2, kLlama3, kQwen2 };

// What becomes of the matches of a pre-tokenizer.
enum class SplitBehavior : uint8_t {
  kRemoved,
  kIsolated,
  kMergedWithPrevious,
  kMergedWithNext,
  kContiguous,
};

struct PreTokenizerOp {
  enum class Kind : uint8_t {
    kPattern,          // `pattern`; `invert` splits at what does not match
    kString,           // `content` is the separator
    kMetaspace,        // ' ' becomes `content`
    kBert,             // white space removed, punctuation isolated
    kWhitespace,       // \w+|[^\w\s]+
    kWhitespaceSplit,  // white space removed
    kDigits,           // numbers isolated; with `individual` each digit
    kPunctuation,
    kAddPrefixSpace,  // ' ' before a text that does not begin with one
  };
  enum class Prepend : uint8_t { kAlways, kFirst, kNever };
  Kind kind;
  SplitPattern pattern = SplitPattern::kGpt2;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  std::string content;
  Prepend prepend = Prepend::kNever;
  bool invert = false;
  bool split = true;
  bool individual = false;
};

// Decoding, in this order: every token by itself (`per_token`), then bytes,
// then the ends of the whole text.
struct DecoderTables {
  struct TokenOp {
    enum class Kind : uint8_t {
      kReplace,      // every `pattern` by `content`
      kStrip,        // up to `start` and `stop` times `content` at the ends
      kMetaspace,    // `pattern` by ' '; dropped in the first token if `start`
      kWordPiece,    // joins by ' ' unless a token begins with `content`
      kCleanup,      // BERT's spaces before punctuation and contractions
      kSpaceBefore,  // ' ' before every token but the first
    };
    Kind kind;
    std::string pattern;
    std::string content;
    uint32_t start = 0;
    uint32_t stop = 0;
  };
  enum class Bytes : uint8_t {
    kNone,
    kByteLevel,  // tokens are spelled in GPT-2's alphabet of bytes
    kFallback,   // tokens <0x00> ... <0xFF> are bytes
  };
  std::vector<TokenOp> per_token;
  Bytes bytes = Bytes::kNone;
  // Whole text: up to `count` times `text` is taken away at its begin.
  std::string strip_text;
  uint32_t strip_count = 0;
};

struct TokenizerTables {
  // Vocabulary, by id, spelled as in the file.
  StringPool tokens;
  std::vector<TokenKind> kinds;

  ModelKind model = ModelKind::kBpe;
  // Tokens are spelled in GPT-2's alphabet, the model works on bytes.
  bool byte_level = false;
  std::vector<BpeMerge> merges;     // kBpe
  std::vector<float> scores;        // SentencePiece models, by id
  int32_t unk_id = -1;              // -1: unknown text is left out
  bool fuse_unk = false;            // neighbouring unknowns are one
  bool byte_fallback = false;       // unknown text becomes byte tokens
  bool ignore_merges = false;       // a word that is a token is that token
  std::string continuing_prefix;    // kWordPiece
  uint32_t max_chars_per_word = 0;  // kWordPiece

  std::vector<AddedToken> added;
  std::vector<NormalizerOp> normalizer;
  SentencePieceNormalizer sentencepiece;
  std::vector<PreTokenizerOp> pre_tokenizer;
  DecoderTables decoder;

  // Put around an encoded text when special tokens are asked for.
  std::vector<int32_t> prefix;
  std::vector<int32_t> suffix;
  int32_t bos_id = -1;
  int32_t eos_id = -1;

  UnicodeTables unicode;
};

}  // namespace qeff

#endif  // QEFF_TOKENIZER_TABLES_H_
