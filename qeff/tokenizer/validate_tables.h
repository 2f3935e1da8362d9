// SPDX-License-Identifier: Apache-2.0
//
// Checks that tables can be executed without leaving memory, wherever they
// came from.

#ifndef QEFF_TOKENIZER_VALIDATE_TABLES_H_
#define QEFF_TOKENIZER_VALIDATE_TABLES_H_

#include "absl/status/status.h"
#include "qeff/tokenizer/tables.h"

namespace qeff {

// Errors (kInvalidArgument): sizes that differ, an id beyond the vocabulary or
// of no token, scores that are missing or not finite, empty strings that are
// searched for, a normalizer or pre-tokenizer that may multiply the length of
// a text by more than 16.
absl::Status ValidateTables(const TokenizerTables& tables);

}  // namespace qeff

#endif  // QEFF_TOKENIZER_VALIDATE_TABLES_H_
