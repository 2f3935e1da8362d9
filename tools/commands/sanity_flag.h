// SPDX-License-Identifier: Apache-2.0
//
// --strict, for commands that work on a model with a text: whether a model that
// makes no sense of the text is a warning or an error.

#ifndef QEFF_TOOLS_COMMANDS_SANITY_FLAG_H_
#define QEFF_TOOLS_COMMANDS_SANITY_FLAG_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/eval/model_sanity.h"
#include "qeff/tokenizer/portable_tokenizer.h"
#include "qeff/transformer/transformer.h"
#include "tools/command.h"
#include "tools/flags.h"

namespace qeff {

class SanityFlag {
 public:
  void Declare(FlagTable* flags);

  bool strict() const { return strict_; }

  // Measures `model` (MeasureSanity) on sequences of `text`, a file. When it is
  // not sane: kInvalidArgument with --strict, and otherwise a warning on stderr
  // (of several processes, the first one's).
  absl::Status Check(const std::shared_ptr<const Transformer>& model,
                     absl::Span<const std::vector<int32_t>> sequences,
                     const std::string& text, const CommandEnv& env) const;

  // The same with the beginning of `text`, of which no more is read. Returns
  // what was measured. Errors also: those of reading and of the tokenizer.
  absl::StatusOr<ModelSanity> CheckBeginning(
      const std::shared_ptr<const Transformer>& model,
      const PortableTokenizer& tokenizer, const std::string& text,
      const CommandEnv& env) const;

 private:
  absl::Status Judge(const ModelSanity& sanity, const Transformer& model,
                     const std::string& text, const CommandEnv& env) const;

  bool strict_ = false;
};

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_SANITY_FLAG_H_
