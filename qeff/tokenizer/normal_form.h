// SPDX-License-Identifier: Apache-2.0
//
// Unicode normal forms over UnicodeTables. Source: Unicode 15, section 3.11
// (D108-D117) and 3.12 (Hangul).

#ifndef QEFF_TOKENIZER_NORMAL_FORM_H_
#define QEFF_TOKENIZER_NORMAL_FORM_H_

#include <string>

#include "absl/strings/string_view.h"
#include "qeff/tokenizer/unicode_tables.h"

namespace qeff {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

// Appends `text` in `form` to `out`. Invalid bytes are copied, and nothing
// combines across them. Cost: O(n log n), for the order of combining marks.
// Precondition: tables.Valid().
void AppendNormalized(const UnicodeTables& tables, NormalForm form,
                      absl::string_view text, std::string* out);

}  // namespace qeff

#endif  // QEFF_TOKENIZER_NORMAL_FORM_H_
