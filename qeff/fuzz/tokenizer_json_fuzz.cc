// SPDX-License-Identifier: Apache-2.0
//
// tokenizer.json, then tokenizer_config.json (or nothing, for {}).

#include "qeff/fuzz/fuzz_input.h"
#include "qeff/fuzz/use_tokenizer.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/util/status.h"

namespace qeff {

absl::Status ReadFuzzInput(absl::string_view bytes) {
  static const MemoryFolder folder;  // removed at the end
  const auto files = SplitFuzzInput(bytes, 2);
  folder.Write("tokenizer.json", files[0]);
  folder.Write("tokenizer_config.json", files[1].empty() ? "{}" : files[1]);
  QEFF_ASSIGN_OR_RETURN(const auto tokenizer,
                        Tokenizer::FromFolder(folder.path()));
  UseTokenizer(*tokenizer);
  return absl::OkStatus();
}

}  // namespace qeff
