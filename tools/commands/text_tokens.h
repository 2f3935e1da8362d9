// SPDX-License-Identifier: Apache-2.0
//
// Texts that commands score or calibrate on, as tokens.

#ifndef QEFF_TOOLS_COMMANDS_TEXT_TOKENS_H_
#define QEFF_TOOLS_COMMANDS_TEXT_TOKENS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/tokenizer/portable_tokenizer.h"

namespace qeff {

// The token that a text begins with, if the tokenizer adds one.
absl::StatusOr<absl::optional<int32_t>> LeadingToken(
    const PortableTokenizer& tokenizer);

// The file `path`, at most 1 GiB, without special tokens. Errors: those of
// reading; kInvalidArgument for an empty file and one with a NUL byte; those of
// the tokenizer.
absl::StatusOr<std::vector<int32_t>> ReadTextTokens(
    const std::string& path, const PortableTokenizer& tokenizer);

// The first 16 KiB of that file, which may be longer than 1 GiB, with the token
// that texts begin with. Errors: as ReadTextTokens.
absl::StatusOr<std::vector<int32_t>> ReadFirstTokens(
    const std::string& path, const PortableTokenizer& tokenizer);

// SampleTokens of that file, with the token that texts begin with. Errors:
// those of both; the message names the file.
absl::StatusOr<TokenSample> SampleTextTokens(const std::string& path,
                                             const PortableTokenizer& tokenizer,
                                             const SampleOptions& options);

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_TEXT_TOKENS_H_
