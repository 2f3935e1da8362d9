// SPDX-License-Identifier: Apache-2.0
//
// A language model: load, change, save, generate.
//
//   auto pool = CreateThreadPool(2);
//   auto model = QEFFAutoModelForCausalLM::FromPretrained(folder, pool->get());
//   GenerationConfig config;
//   config.max_new_tokens = 100;
//   auto result = (*model)->Generate("Once upon a time", config);
//   std::cout << result->text;

#ifndef QEFF_BASE_QEFF_AUTO_MODEL_FOR_CAUSAL_LM_H_
#define QEFF_BASE_QEFF_AUTO_MODEL_FOR_CAUSAL_LM_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "qeff/base/qeff_base_model.h"
#include "qeff/compile/compile_in_memory.h"
#include "qeff/device/engine.h"
#include "qeff/device/model.h"
#include "qeff/device/text_generate.h"
#include "qeff/tensor/tensor.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/transformer/host_forward.h"

namespace qeff {

class QEFFAutoModelForCausalLM;
struct AicCompileOptions;  // qeff/export/aic/compile_aic.h
struct AicCompileResult;

struct GenerationConfig {
  int64_t max_new_tokens = 128;
  SamplerOptions sampling;  // greedy by default
  // Generation ends before the first of these would be shown.
  std::vector<std::string> stop_strings;
  CompileOptions compile;  // how the engine gets the weights
  // How it runs them: batch_size prompts side by side. context_length 0: as
  // long as prompts and new tokens need, up to max_positions. Activations are
  // those of `compile`.
  EngineOptions engine;
  // Speculative decoding (qeff/device/speculative_generate.h): a smaller model
  // with the same tokens, which must outlive Generate, proposes draft_tokens at
  // a time. It is run as this one, and prompts one after another.
  QEFFAutoModelForCausalLM* draft = nullptr;
  int64_t draft_tokens = 4;
};

class QEFFAutoModelForCausalLM : public QEFFBaseModel {
 public:
  // Loads a folder. The tokenizer is read when a text is first given. `pool`
  // must outlive the model.
  static absl::StatusOr<std::unique_ptr<QEFFAutoModelForCausalLM>>
  FromPretrained(const std::string& folder, ThreadPool* pool);

  // Continues `prompt` on the device engine until max_new_tokens, an
  // end-of-sequence token, a stop string or max_positions. `on_text`, unless
  // null, gets the text as it grows. The first call, and one with other
  // CompileOptions, packs the model for the engine. Errors: kInvalidArgument
  // for an empty prompt of a model without BOS, or a prompt that fills
  // max_positions; those of Generate.
  absl::StatusOr<GenerateResult> Generate(
      absl::string_view prompt, const GenerationConfig& config,
      std::function<absl::Status(absl::string_view)> on_text = nullptr);

  // The same for several prompts (continuous batching, GenerateTexts): for each
  // in order what Generate gives for it alone, or its error, which does not end
  // the others. Errors for all, before anything is generated: a prompt that
  // Generate refuses (numbered from 1), those of tokenizer and CreateEngine;
  // with a draft model those of its CreateDraftEngine and of
  // SpeculativeGenerator::Create.
  absl::StatusOr<std::vector<absl::StatusOr<GenerateResult>>> Generate(
      absl::Span<const std::string> prompts, const GenerationConfig& config,
      const TextCallbacks& callbacks = {});

  // An engine for this model, packed with `compile` unless it already is: the
  // next call with other options lets go of what only older engines use.
  // Errors: those of CompileInMemory and Engine::Create.
  absl::StatusOr<std::unique_ptr<Engine>> CreateEngine(
      const CompileOptions& compile, const EngineOptions& options);

  // An engine of this model that drafts for one that runs with `options` and
  // has the tokens of `tokenizer`. Errors, which begin with "draft": those of
  // CreateEngine; kInvalidArgument naming what differs when this model has
  // other tokens, and for max_positions below options.context_length.
  absl::StatusOr<std::unique_ptr<Engine>> CreateDraftEngine(
      const PortableTokenizer& tokenizer, const CompileOptions& compile,
      const EngineOptions& options);

  // Logits at every position, [tokens, vocab_size], by the host forward.
  absl::StatusOr<Matrix<float>> Logits(absl::Span<const int32_t> tokens);

  // Writes the ONNX graph that Compile takes by default into the cache of
  // exports below `cache_root`, or finds it there, and returns its path. Errors
  // as ExportAic. Export and Compile are defined in :qeff_cloud_ai, on which
  // those who call them depend: whoever generates does not link exporters.
  absl::StatusOr<std::string> Export(const std::string& cache_root);

  // Exports the graph for options.settings.shapes and compiles it for Cloud AI,
  // or makes what the SDK's compiler needs. Errors as ExportAic and CompileAic.
  absl::StatusOr<AicCompileResult> Compile(const std::string& cache_root,
                                           const AicCompileOptions& options);

  // Errors as Tokenizer::FromFolder, and kInvalidArgument when the tokenizer
  // has more tokens than the model's embedding has rows.
  absl::StatusOr<const Tokenizer*> tokenizer();

 protected:
  void OnModelChanged() override;

 private:
  using QEFFBaseModel::QEFFBaseModel;

  absl::StatusOr<std::vector<absl::StatusOr<GenerateResult>>> GenerateAll(
      absl::Span<const std::string> prompts, const GenerationConfig& config,
      const TextCallbacks& callbacks);
  // The tokens of a prompt, which leaves room for one; errors call it `name`.
  absl::StatusOr<std::vector<int32_t>> EncodePrompt(absl::string_view prompt,
                                                    absl::string_view name);
  absl::StatusOr<std::vector<std::vector<int32_t>>> EncodePrompts(
      absl::Span<const std::string> prompts);
  // How the engine runs for these prompts.
  EngineOptions OptionsFor(absl::Span<const std::vector<int32_t>> prompts,
                           const GenerationConfig& config) const;

  std::unique_ptr<HostForward> forward_;             // made on first use
  std::unique_ptr<Tokenizer> tokenizer_;             // made on first use
  std::shared_ptr<const DeviceModel> device_model_;  // made on first use
  CompileOptions compiled_with_;                     // what it was made with
};

}  // namespace qeff

#endif  // QEFF_BASE_QEFF_AUTO_MODEL_FOR_CAUSAL_LM_H_
