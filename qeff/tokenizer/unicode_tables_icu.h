// SPDX-License-Identifier: Apache-2.0
//
// Builds UnicodeTables from ICU, the one place that uses it.

#ifndef QEFF_TOKENIZER_UNICODE_TABLES_ICU_H_
#define QEFF_TOKENIZER_UNICODE_TABLES_ICU_H_

#include "absl/status/statusor.h"
#include "qeff/tokenizer/unicode_tables.h"

namespace qeff {

// All tables, of the version of Unicode that ICU has (15.0 in ICU 72). The
// first call takes tens of milliseconds, later ones copy its result.
// Thread-safe. Errors: kInternal when ICU's data cannot be loaded.
absl::StatusOr<UnicodeTables> BuildUnicodeTables();

}  // namespace qeff

#endif  // QEFF_TOKENIZER_UNICODE_TABLES_ICU_H_
