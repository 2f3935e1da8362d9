// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/sanity_flag.h"

#include <algorithm>
#include <cstdio>

#include "qeff/train/agreement.h"
#include "qeff/util/status.h"
#include "tools/commands/text_tokens.h"

namespace qeff {

void SanityFlag::Declare(FlagTable* flags) {
  flags->Add("strict", &strict_, "",
             "Ends with an error, before anything is written, when the model's "
             "perplexity on the text is near that of guessing, as with weights "
             "in a wrong layout; otherwise that is a warning.");
}

absl::Status SanityFlag::Check(const std::shared_ptr<const Transformer>& model,
                               absl::Span<const std::vector<int32_t>> sequences,
                               const std::string& text,
                               const CommandEnv& env) const {
  QEFF_ASSIGN_OR_RETURN(const ModelSanity sanity,
                        MeasureSanity(model, sequences, env.pool), text);
  return Judge(sanity, *model, text, env);
}

absl::StatusOr<ModelSanity> SanityFlag::CheckBeginning(
    const std::shared_ptr<const Transformer>& model,
    const PortableTokenizer& tokenizer, const std::string& text,
    const CommandEnv& env) const {
  QEFF_ASSIGN_OR_RETURN(std::vector<int32_t> tokens,
                        ReadFirstTokens(text, tokenizer));
  tokens.resize(std::min(tokens.size(),
                         static_cast<size_t>(model->spec().max_positions)));
  QEFF_ASSIGN_OR_RETURN(const ModelSanity sanity,
                        MeasureSanity(model, {tokens}, env.pool), text);
  QEFF_RETURN_IF_ERROR(Judge(sanity, *model, text, env));
  return sanity;
}

absl::Status SanityFlag::Judge(const ModelSanity& sanity,
                               const Transformer& model,
                               const std::string& text,
                               const CommandEnv& env) const {
  if (sanity.sane()) return absl::OkStatus();
  const std::string message =
      FormatSanity(sanity, model.checkpoint().folder(), text);
  if (strict_) return InvalidInputError(message);
  if (IsFirst(env.reducer)) {
    std::fprintf(stderr, "warning: %s\n", message.c_str());
  }
  return absl::OkStatus();
}

}  // namespace qeff
