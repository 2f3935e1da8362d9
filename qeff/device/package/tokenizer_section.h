// SPDX-License-Identifier: Apache-2.0
//
// Tokenizer tables as the bytes of a package's section, and back.

#ifndef QEFF_DEVICE_PACKAGE_TOKENIZER_SECTION_H_
#define QEFF_DEVICE_PACKAGE_TOKENIZER_SECTION_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/tokenizer/tables.h"

namespace qeff {

// All of `tables`; a field that is added to them does not compile here until it
// has its place. The same tables always give the same bytes.
std::string EncodeTokenizerTables(const TokenizerTables& tables);

// The inverse. Errors: kInvalidArgument, naming the field for what is of a
// length that is no number of elements, or no enumerator; and for any bytes
// that EncodeTokenizerTables would not write. Whether the tables fit together
// is PortableTokenizer::Create's matter.
// Cost: three copies; memory stays within about five times `bytes` and 64 MiB.
absl::StatusOr<TokenizerTables> DecodeTokenizerTables(
    absl::Span<const uint8_t> bytes);

}  // namespace qeff

#endif  // QEFF_DEVICE_PACKAGE_TOKENIZER_SECTION_H_
