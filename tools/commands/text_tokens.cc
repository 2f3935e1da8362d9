// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/text_tokens.h"

#include "qeff/util/status.h"
#include "qeff/util/text_file.h"

namespace qeff {

absl::StatusOr<absl::optional<int32_t>> LeadingToken(
    const PortableTokenizer& tokenizer) {
  QEFF_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                        tokenizer.Encode("", /*add_special_tokens=*/true));
  if (ids.empty() || ids.front() == tokenizer.eos_id()) {
    return absl::optional<int32_t>();
  }
  return absl::optional<int32_t>(ids.front());
}

absl::StatusOr<std::vector<int32_t>> ReadTextTokens(
    const std::string& path, const PortableTokenizer& tokenizer) {
  QEFF_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  QEFF_ASSIGN_OR_RETURN(std::vector<int32_t> tokens,
                        tokenizer.Encode(text, /*add_special_tokens=*/false),
                        path);
  return tokens;
}

absl::StatusOr<std::vector<int32_t>> ReadFirstTokens(
    const std::string& path, const PortableTokenizer& tokenizer) {
  constexpr uint64_t kBytes = uint64_t{16} << 10;
  QEFF_ASSIGN_OR_RETURN(const std::string text,
                        ReadTextBeginning(path, kBytes));
  QEFF_ASSIGN_OR_RETURN(const absl::optional<int32_t> bos,
                        LeadingToken(tokenizer));
  QEFF_ASSIGN_OR_RETURN(std::vector<int32_t> tokens,
                        tokenizer.Encode(text, /*add_special_tokens=*/false),
                        path);
  if (bos.has_value()) tokens.insert(tokens.begin(), *bos);
  return tokens;
}

absl::StatusOr<TokenSample> SampleTextTokens(const std::string& path,
                                             const PortableTokenizer& tokenizer,
                                             const SampleOptions& options) {
  QEFF_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens,
                        ReadTextTokens(path, tokenizer));
  QEFF_ASSIGN_OR_RETURN(const absl::optional<int32_t> bos,
                        LeadingToken(tokenizer));
  QEFF_ASSIGN_OR_RETURN(TokenSample sample, SampleTokens(tokens, bos, options),
                        path);
  return sample;
}

}  // namespace qeff
