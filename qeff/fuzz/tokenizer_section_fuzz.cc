// SPDX-License-Identifier: Apache-2.0
//
// The tokenizer of a device package, as it is behind its checksum.

#include "qeff/device/package/tokenizer_section.h"
#include "qeff/fuzz/fuzz_input.h"
#include "qeff/fuzz/use_tokenizer.h"
#include "qeff/util/output_file.h"
#include "qeff/util/status.h"

namespace qeff {

absl::Status ReadFuzzInput(absl::string_view bytes) {
  QEFF_ASSIGN_OR_RETURN(TokenizerTables tables,
                        DecodeTokenizerTables(AsBytes(bytes)));
  QEFF_ASSIGN_OR_RETURN(const auto tokenizer,
                        PortableTokenizer::Create(std::move(tables)));
  UseTokenizer(*tokenizer);
  return absl::OkStatus();
}

}  // namespace qeff
