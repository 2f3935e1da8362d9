// SPDX-License-Identifier: Apache-2.0
//
// Splits a normalized text into the words that the model encodes one by one.

#ifndef QEFF_TOKENIZER_PRE_TOKENIZER_H_
#define QEFF_TOKENIZER_PRE_TOKENIZER_H_

#include <string>

#include "absl/strings/string_view.h"
#include "qeff/tokenizer/pattern_scanner.h"
#include "qeff/tokenizer/tables.h"

namespace qeff {

// Runs tables->pre_tokenizer. Thread-safe. `tables` must outlive it. Every
// operation is linear in the text.
class PreTokenizer {
 public:
  explicit PreTokenizer(const TokenizerTables* tables) : tables_(tables) {}

  // Calls `visit(word)` for the words of `text` in order; none is empty.
  // `at_begin`: whether the text begins the whole input (Metaspace's "first").
  template <typename Visit>
  void ForEachWord(absl::string_view text, bool at_begin,
                   const Visit& visit) const {
    if (text.empty()) return;
    if (tables_->pre_tokenizer.empty()) {
      visit(text);
    } else if (IsOnePattern()) {
      const PatternScanner scanner(&tables_->unicode,
                                   tables_->pre_tokenizer[0].pattern);
      for (size_t begin = 0; begin < text.size();) {
        const size_t end = scanner.MatchEnd(text, begin);
        visit(text.substr(begin, end - begin));
        begin = end;
      }
    } else {
      const StringPool words = Split(text, at_begin);
      for (size_t i = 0; i < words.size(); ++i) visit(words[i]);
    }
  }

 private:
  // GPT-2, Llama 3, Qwen: words need not be copied.
  bool IsOnePattern() const {
    const auto& ops = tables_->pre_tokenizer;
    return ops.size() == 1 && ops[0].kind == PreTokenizerOp::Kind::kPattern &&
           ops[0].behavior == SplitBehavior::kIsolated;
  }
  StringPool Split(absl::string_view text, bool at_begin) const;

  const TokenizerTables* tables_;
};

}  // namespace qeff

#endif  // QEFF_TOKENIZER_PRE_TOKENIZER_H_
