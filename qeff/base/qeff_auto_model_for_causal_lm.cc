// SPDX-License-Identifier: Apache-2.0

#include "qeff/base/qeff_auto_model_for_causal_lm.h"

#include <algorithm>
#include <utility>

#include "qeff/util/status.h"

namespace qeff {

absl::StatusOr<std::unique_ptr<QEFFAutoModelForCausalLM>>
QEFFAutoModelForCausalLM::FromPretrained(const std::string& folder,
                                         ThreadPool* pool) {
  QEFF_ASSIGN_OR_RETURN(std::shared_ptr<const Transformer> model,
                        LoadTransformer(folder));
  return std::unique_ptr<QEFFAutoModelForCausalLM>(
      new QEFFAutoModelForCausalLM(std::move(model), pool));
}

void QEFFAutoModelForCausalLM::OnModelChanged() {
  forward_.reset();
  device_model_.reset();
}

absl::StatusOr<const Tokenizer*> QEFFAutoModelForCausalLM::tokenizer() {
  if (tokenizer_ == nullptr) {
    QEFF_ASSIGN_OR_RETURN(tokenizer_, LoadTokenizer(transformer()));
  }
  return tokenizer_.get();
}

absl::StatusOr<GenerateResult> QEFFAutoModelForCausalLM::Generate(
    absl::string_view prompt, const GenerationConfig& config,
    std::function<absl::Status(absl::string_view)> on_text) {
  QEFF_ASSIGN_OR_RETURN(const Tokenizer* const tokenizer, this->tokenizer());
  QEFF_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens,
                        tokenizer->Encode(prompt, /*add_special_tokens=*/true));
  const int64_t prompt_tokens = static_cast<int64_t>(tokens.size());
  if (prompt_tokens == 0) {
    return InvalidInputError(
        "prompt: is empty, and the model has no token to "
        "begin a text with");
  }
  if (prompt_tokens >= spec().max_positions) {
    return InvalidInputError("prompt: has ", prompt_tokens,
                             " tokens, expected fewer than the model's ",
                             spec().max_positions, " positions");
  }
  // Rows of the embedding beyond the tokenizer's tokens are padding.
  QEFF_ASSIGN_OR_RETURN(
      Sampler sampler,
      Sampler::Create(config.sampling, tokenizer->vocab_size()));
  EngineOptions engine_options = config.engine;
  if (engine_options.context_length == 0) {
    engine_options.context_length =
        prompt_tokens + std::min(std::max<int64_t>(config.max_new_tokens, 1),
                                 spec().max_positions - prompt_tokens);
  }
  engine_options.activations = config.compile.activations;
  QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                        CreateEngine(config.compile, engine_options));

  GenerateOptions options;
  options.max_new_tokens = config.max_new_tokens;
  options.eos_token_ids = spec().eos_token_ids;
  options.stop_strings = config.stop_strings;
  StreamDecoder decoder(tokenizer, /*skip_special_tokens=*/true);
  GenerateCallbacks callbacks;
  callbacks.decode = [&](int32_t token) { return decoder.Append(token); };
  callbacks.flush = [&] { return decoder.Flush(); };
  callbacks.on_text = std::move(on_text);
  return qeff::Generate(tokens, options, callbacks, engine.get(), &sampler);
}

absl::StatusOr<std::unique_ptr<Engine>> QEFFAutoModelForCausalLM::CreateEngine(
    const CompileOptions& compile, const EngineOptions& options) {
  if (device_model_ == nullptr || !(compiled_with_ == compile)) {
    QEFF_ASSIGN_OR_RETURN(device_model_,
                          CompileInMemory(transformer(), compile, pool()));
    compiled_with_ = compile;
  }
  return Engine::Create(device_model_, pool(), options);
}

absl::StatusOr<Matrix<float>> QEFFAutoModelForCausalLM::Logits(
    absl::Span<const int32_t> tokens) {
  if (forward_ == nullptr) {
    QEFF_ASSIGN_OR_RETURN(forward_,
                          HostForward::Create(shared_transformer(), pool()));
  }
  return forward_->LogitsOf(tokens);
}

}  // namespace qeff
