// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/prompt_list.h"

#include <cstdint>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/status.h"

namespace qeff {

absl::StatusOr<std::vector<std::string>> ReadPromptList(
    const std::string& path) {
  constexpr uint64_t kMaxBytes = uint64_t{1} << 30;
  QEFF_ASSIGN_OR_RETURN(const std::string text,
                        ReadFileToString(path, kMaxBytes));
  std::vector<std::string> prompts;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    line = absl::StripSuffix(line, "\r");
    if (!line.empty()) prompts.emplace_back(line);
  }
  if (prompts.empty()) return InvalidInputError(path, ": no prompts in it");
  return prompts;
}

}  // namespace qeff
