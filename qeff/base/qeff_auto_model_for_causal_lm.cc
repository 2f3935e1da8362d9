// SPDX-License-Identifier: Apache-2.0

#include "qeff/base/qeff_auto_model_for_causal_lm.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "qeff/device/speculative_generate.h"
#include "qeff/tokenizer/same_tokens.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/status.h"

namespace qeff {

absl::StatusOr<std::unique_ptr<QEFFAutoModelForCausalLM>>
QEFFAutoModelForCausalLM::FromPretrained(const std::string& folder,
                                         ThreadPool* pool) {
  using Result = absl::StatusOr<std::unique_ptr<QEFFAutoModelForCausalLM>>;
  return GuardMemory([&]() -> Result {
    QEFF_ASSIGN_OR_RETURN(std::shared_ptr<const Transformer> model,
                          LoadTransformer(folder));
    return std::unique_ptr<QEFFAutoModelForCausalLM>(
        new QEFFAutoModelForCausalLM(std::move(model), pool));
  });
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

absl::StatusOr<std::vector<int32_t>> QEFFAutoModelForCausalLM::EncodePrompt(
    absl::string_view prompt, absl::string_view name) {
  QEFF_ASSIGN_OR_RETURN(const Tokenizer* const tokenizer, this->tokenizer());
  QEFF_ASSIGN_OR_RETURN(std::vector<int32_t> tokens,
                        tokenizer->Encode(prompt, /*add_special_tokens=*/true),
                        name);
  const int64_t count = static_cast<int64_t>(tokens.size());
  if (count == 0) {
    return InvalidInputError(name,
                             ": is empty, and the model has no token to begin "
                             "a text with");
  }
  if (count >= spec().max_positions) {
    return InvalidInputError(name, ": has ", count,
                             " tokens, expected fewer than the model's ",
                             spec().max_positions, " positions");
  }
  return tokens;
}

absl::StatusOr<std::vector<std::vector<int32_t>>>
QEFFAutoModelForCausalLM::EncodePrompts(absl::Span<const std::string> prompts) {
  std::vector<std::vector<int32_t>> tokens(prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    const std::string name =
        prompts.size() == 1 ? "prompt" : absl::StrCat("prompt ", i + 1);
    QEFF_ASSIGN_OR_RETURN(tokens[i], EncodePrompt(prompts[i], name));
  }
  return tokens;
}

absl::StatusOr<GenerateResult> QEFFAutoModelForCausalLM::Generate(
    absl::string_view prompt, const GenerationConfig& config,
    std::function<absl::Status(absl::string_view)> on_text) {
  return GuardMemory([&]() -> absl::StatusOr<GenerateResult> {
    TextCallbacks callbacks;
    if (on_text) {
      callbacks.on_text = [&](size_t, absl::string_view text) {
        return on_text(text);
      };
    }
    QEFF_ASSIGN_OR_RETURN(std::vector<absl::StatusOr<GenerateResult>> results,
                          Generate({std::string(prompt)}, config, callbacks));
    return std::move(results[0]);
  });
}

absl::StatusOr<std::vector<absl::StatusOr<GenerateResult>>>
QEFFAutoModelForCausalLM::Generate(absl::Span<const std::string> prompts,
                                   const GenerationConfig& config,
                                   const TextCallbacks& callbacks) {
  return GuardMemory([&] { return GenerateAll(prompts, config, callbacks); });
}

absl::StatusOr<std::vector<absl::StatusOr<GenerateResult>>>
QEFFAutoModelForCausalLM::GenerateAll(absl::Span<const std::string> prompts,
                                      const GenerationConfig& config,
                                      const TextCallbacks& callbacks) {
  QEFF_ASSIGN_OR_RETURN(const Tokenizer* const tokenizer, this->tokenizer());
  QEFF_ASSIGN_OR_RETURN(const std::vector<std::vector<int32_t>> tokens,
                        EncodePrompts(prompts));
  if (prompts.empty()) return std::vector<absl::StatusOr<GenerateResult>>();
  const EngineOptions engine_options = OptionsFor(tokens, config);
  QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                        CreateEngine(config.compile, engine_options));
  TextGenerateOptions options;
  options.generate.max_new_tokens = config.max_new_tokens;
  options.generate.eos_token_ids = spec().eos_token_ids;
  options.generate.stop_strings = config.stop_strings;
  options.sampling = config.sampling;
  if (config.draft == nullptr) {
    return GenerateTexts(tokens, options, *tokenizer, callbacks, engine.get());
  }
  QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> draft,
                        config.draft->CreateDraftEngine(
                            *tokenizer, config.compile, engine_options));
  QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<SpeculativeGenerator> generator,
                        SpeculativeGenerator::Create(engine.get(), draft.get(),
                                                     config.draft_tokens));
  const TextRequests requests(tokens, options, *tokenizer, callbacks,
                              spec().vocab_size);
  return generator->GenerateEach(requests.requests());
}

EngineOptions QEFFAutoModelForCausalLM::OptionsFor(
    absl::Span<const std::vector<int32_t>> prompts,
    const GenerationConfig& config) const {
  EngineOptions options = config.engine;
  options.activations = config.compile.activations;
  if (config.draft != nullptr) options.batch_size = 1;
  if (options.context_length != 0) return options;
  for (const std::vector<int32_t>& prompt : prompts) {
    const int64_t count = static_cast<int64_t>(prompt.size());
    const int64_t new_tokens =
        std::min(std::max<int64_t>(config.max_new_tokens, 1),
                 spec().max_positions - count);
    options.context_length =
        std::max(options.context_length, count + new_tokens);
  }
  return options;
}

absl::StatusOr<std::unique_ptr<Engine>>
QEFFAutoModelForCausalLM::CreateDraftEngine(const PortableTokenizer& tokenizer,
                                            const CompileOptions& compile,
                                            const EngineOptions& options) {
  return GuardMemory([&]() -> absl::StatusOr<std::unique_ptr<Engine>> {
    QEFF_ASSIGN_OR_RETURN(const Tokenizer* const own, this->tokenizer(),
                          "draft");
    QEFF_RETURN_IF_ERROR(CheckSameTokens(tokenizer, *own), "draft");
    if (spec().max_positions < options.context_length) {
      return InvalidInputError(
          "draft: max_positions: expected at least ", options.context_length,
          " as the context has, found ", spec().max_positions);
    }
    CompileOptions own_compile = compile;
    own_compile.cached_keys.clear();  // they are of the other model's blocks
    QEFF_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine,
                          CreateEngine(own_compile, options), "draft");
    return engine;
  });
}

absl::StatusOr<std::unique_ptr<Engine>> QEFFAutoModelForCausalLM::CreateEngine(
    const CompileOptions& compile, const EngineOptions& options) {
  return GuardMemory([&]() -> absl::StatusOr<std::unique_ptr<Engine>> {
    if (device_model_ == nullptr || !(compiled_with_ == compile)) {
      CompileOptions with = compile;
      QEFF_ASSIGN_OR_RETURN(device_model_,
                            CompileInMemory(transformer(), compile, pool()));
      compiled_with_ = std::move(with);
    }
    return Engine::Create(device_model_, pool(), options);
  });
}

absl::StatusOr<Matrix<float>> QEFFAutoModelForCausalLM::Logits(
    absl::Span<const int32_t> tokens) {
  return GuardMemory([&]() -> absl::StatusOr<Matrix<float>> {
    if (forward_ == nullptr) {
      QEFF_ASSIGN_OR_RETURN(forward_,
                            HostForward::Create(shared_transformer(), pool()));
    }
    return forward_->LogitsOf(tokens);
  });
}

}  // namespace qeff
