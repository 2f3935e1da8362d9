// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "qeff/base/qeff_auto_model_for_causal_lm.h"
#include "qeff/device/speculative_generate.h"
#include "qeff/device/text_generate.h"
#include "qeff/util/status.h"
#include "tools/commands/commands.h"
#include "tools/commands/engine_flags.h"
#include "tools/commands/model_folder.h"
#include "tools/commands/package_source.h"
#include "tools/commands/prompt_list.h"

namespace qeff {
namespace {

using Results = std::vector<absl::StatusOr<GenerateResult>>;

// More slots than these make a step longer, but hardly a token cheaper.
constexpr int64_t kMaxDefaultSlots = 8;

// Prints what is generated: of one prompt as it is made, of several in their
// order, each as soon as it and all before it have ended.
class Printer {
 public:
  Printer(const std::vector<std::string>& prompts, FILE* out)
      : prompts_(prompts), out_(out), texts_(prompts.size()) {}

  TextCallbacks Callbacks() {
    TextCallbacks callbacks;
    if (prompts_.size() == 1) {
      Print(prompts_[0]);
      callbacks.on_text = [this](size_t, absl::string_view text) {
        Print(text);
        return absl::OkStatus();
      };
    } else {
      callbacks.on_done = [this](size_t i,
                                 const absl::StatusOr<GenerateResult>& result) {
        texts_[i] = result.ok()
                        ? absl::StrCat("Completion : ", result->text)
                        : absl::StrCat("Error : ", result.status().message());
        PrintEnded();
      };
    }
    return callbacks;
  }

 private:
  void Print(absl::string_view text) {
    std::fwrite(text.data(), 1, text.size(), out_);
    std::fflush(out_);
  }

  void PrintEnded() {
    for (; next_ < texts_.size() && !texts_[next_].empty(); ++next_) {
      Print(absl::StrCat("Prompt : ", prompts_[next_], "\n", texts_[next_],
                         "\n\n"));
      texts_[next_].clear();
    }
  }

  const std::vector<std::string>& prompts_;
  FILE* const out_;
  std::vector<std::string> texts_;  // of what has ended but was not printed
  size_t next_ = 0;
};

Json SpeculationJson(const Speculation& speculation) {
  return Json{{"proposed", speculation.proposed},
              {"accepted", speculation.accepted},
              {"acceptance_rate", speculation.acceptance_rate()},
              {"passes", speculation.passes},
              {"tokens_per_pass", speculation.tokens_per_pass()}};
}

Json ResultJson(const std::string& prompt, const GenerateResult& result) {
  const GenerateTiming& timing = result.timing;
  return Json{
      {"prompt", prompt},
      {"text", result.text},
      {"tokens", result.tokens},
      {"finish_reason", std::string(FinishReasonName(result.finish_reason))},
      {"prompt_tokens", timing.prompt_tokens},
      {"generated_tokens", timing.generated_tokens},
      {"prefill_seconds", timing.prefill_seconds()},
      {"decode_tokens_per_second", timing.decode_tokens_per_second()},
      {"total_tokens_per_second", timing.total_tokens_per_second()},
      {"total_seconds", timing.total_seconds()},
  };
}

class GenerateCommand : public Command {
 public:
  absl::string_view name() const override { return "generate"; }
  absl::string_view summary() const override { return "Continues prompts."; }
  absl::string_view description() const override {
    return "Prints the prompt and its continuation as it is made, then four "
           "lines of statistics in the form of QEfficient's.\n\n"
           "Several prompts (--prompt more than once, or --prompt_file) run "
           "side by side in --batch_size slots; the next takes the slot of one "
           "that has ended. They are printed in their order, and the "
           "statistics are of all: the mean time to the first token, and "
           "tokens of all prompts a second. The error of one does not end the "
           "others, but the command.\n\n"
           "The choice is greedy unless --temperature is above 0. Filters "
           "apply in the order repetition penalty, temperature, top-k, top-p, "
           "min-p. The same seed gives the same text for any number of "
           "threads and slots, and whatever the other prompts are.\n\n"
           "With --draft a smaller model with the same tokenizer proposes "
           "--draft_tokens tokens at a time, which one pass of the model "
           "verifies (speculative decoding). Greedy text is the same, faster; "
           "sampled text has the same distribution, but another text for the "
           "same seed. Prompts then run one after another, since side by side "
           "they read the weights together already. A fifth line says what "
           "part of the proposals was accepted, and how many tokens a pass "
           "gave.";
  }
  absl::string_view examples() const override {
    return "generate --model=llama --prompt=\"Once upon a time\" "
           "--max_new_tokens=100\n"
           "generate --package=llama.qeff --prompt_file=prompts.txt "
           "--temperature=0.8 --top_p=0.95 --seed=7\n";
  }
  void DeclareFlags(FlagTable* flags) override {
    SamplerOptions& sampling = config_.sampling;
    DeclareModelOrPackage(&model_, &package_, flags);
    flags->AddRepeated("prompt", &prompts_, "STRING",
                       "The text to continue. May be repeated.");
    flags->Add("prompt_file", &prompt_file_, "FILE",
               "Instead of --prompt: prompts, one a line.");
    flags->Add("max_new_tokens", &config_.max_new_tokens, "N",
               "Tokens to make at most, of each prompt.");
    flags->BeginSection("Choosing tokens");
    flags->Add("temperature", &sampling.temperature, "X",
               "Divides the logits; 0 always takes the most probable token.");
    flags->Add("top_k", &sampling.top_k, "K",
               "Chooses among the K most probable tokens; 0 is all.");
    flags->Add("top_p", &sampling.top_p, "P",
               "Chooses among the fewest tokens of total probability P.");
    flags->Add("min_p", &sampling.min_p, "P",
               "Drops tokens less than P times as probable as the first.");
    flags->Add("seed", &sampling.seed, "N",
               "Seed of the random choice, the same for each prompt.");
    flags->Add("repetition_penalty", &sampling.repetition_penalty, "X",
               "Divides the logits of tokens that occurred; 1 is off.");
    flags->BeginSection("Flags");
    flags->Add("stop", &stop_, "STRING",
               "Ends before this text would be printed.");
    flags->BeginSection("The engine");
    flags->Add("context_length", &engine_.context_length, "N",
               "Tokens of a sequence, prompt included; 0 is what the package "
               "says, or what prompts and new tokens of a model need.");
    flags->Add("batch_size", &engine_.batch_size, "N",
               "Prompts that run side by side; 0 is what the package says, or "
               "for a model all, at most 8.");
    flags->Add("prefill_chunk", &engine_.prefill_chunk, "N",
               "Tokens that go through a layer together; 0 is what the package "
               "says, or 32 for a model.");
    flags->BeginSection("Speculative decoding");
    flags->Add("draft", &draft_, "DIR",
               "The folder, or GGUF file, of a smaller model that proposes "
               "tokens.");
    flags->Add("draft_tokens", &config_.draft_tokens, "N",
               "Tokens that it proposes at a time.");
    engine_flags_.Declare(flags);
  }
  absl::StatusOr<Json> Run(const CommandEnv& env,
                           const FlagTable& flags) override {
    QEFF_RETURN_IF_ERROR(CheckModelOrPackage(flags));
    if (flags.WasGiven("prompt") == flags.WasGiven("prompt_file")) {
      return UsageError(
          "expected either --prompt=STRING or "
          "--prompt_file=FILE");
    }
    QEFF_RETURN_IF_ERROR(CheckDraft(flags));
    if (flags.WasGiven("stop")) config_.stop_strings = {stop_};
    QEFF_ASSIGN_OR_RETURN(config_.compile, engine_flags_.Compile());
    if (flags.WasGiven("prompt_file")) {
      QEFF_ASSIGN_OR_RETURN(prompts_, ReadPromptList(prompt_file_));
    }
    QEFF_RETURN_IF_ERROR(LoadDraft(env));
    Results results;
    if (flags.WasGiven("package")) {
      QEFF_ASSIGN_OR_RETURN(results, RunPackage(env, flags));
    } else {
      QEFF_ASSIGN_OR_RETURN(results, RunModel(env));
    }
    return Report(results, env);
  }

 private:
  static absl::Status CheckDraft(const FlagTable& flags) {
    if (flags.WasGiven("draft_tokens") && !flags.WasGiven("draft")) {
      return UsageError("--draft_tokens is for --draft=DIR");
    }
    if (flags.WasGiven("draft") && flags.WasGiven("batch_size")) {
      return UsageError(
          "--batch_size has no meaning with --draft: prompts run one after "
          "another");
    }
    return absl::OkStatus();
  }

  absl::Status LoadDraft(const CommandEnv& env) {
    if (draft_.empty()) return absl::OkStatus();
    QEFF_ASSIGN_OR_RETURN(ModelFolder folder, ModelFolder::Open(draft_),
                          "draft");
    draft_folder_.emplace(std::move(folder));
    QEFF_ASSIGN_OR_RETURN(draft_model_,
                          QEFFAutoModelForCausalLM::FromPretrained(
                              draft_folder_->path(), env.pool),
                          "draft");
    config_.draft = draft_model_.get();
    return absl::OkStatus();
  }

  // Where a flag is not 0, it replaces what stands in `options`.
  void ApplySizes(EngineOptions* options) const {
    if (engine_.context_length != 0) {
      options->context_length = engine_.context_length;
    }
    if (engine_.batch_size != 0) options->batch_size = engine_.batch_size;
    if (engine_.prefill_chunk != 0) {
      options->prefill_chunk = engine_.prefill_chunk;
    }
  }

  absl::StatusOr<Results> RunModel(const CommandEnv& env) {
    engine_flags_.Apply(&config_.engine);
    config_.engine.batch_size =
        std::min(static_cast<int64_t>(prompts_.size()), kMaxDefaultSlots);
    ApplySizes(&config_.engine);
    QEFF_ASSIGN_OR_RETURN(const ModelFolder folder, ModelFolder::Open(model_));
    QEFF_ASSIGN_OR_RETURN(
        const std::unique_ptr<QEFFAutoModelForCausalLM> model,
        QEFFAutoModelForCausalLM::FromPretrained(folder.path(), env.pool));
    QEFF_ASSIGN_OR_RETURN(const Tokenizer* const tokenizer, model->tokenizer());
    QEFF_RETURN_IF_ERROR(engine_flags_.CalibrateKeys(
        model->shared_transformer(), *tokenizer, env.pool, &config_.compile));
    Printer printer(prompts_, env.out);
    return model->Generate(prompts_, config_, printer.Callbacks());
  }

  absl::StatusOr<Results> RunPackage(const CommandEnv& env,
                                     const FlagTable& flags) {
    QEFF_ASSIGN_OR_RETURN(const PackageWithTokenizer source,
                          OpenPackageWithTokenizer(package_));
    EngineOptions engine_options = source.package.header().options;
    engine_flags_.ApplyGiven(flags, &engine_options);
    ApplySizes(&engine_options);
    QEFF_ASSIGN_OR_RETURN(
        const std::unique_ptr<Engine> engine,
        Engine::Create(source.package.model(), env.pool, engine_options));
    std::vector<std::vector<int32_t>> tokens(prompts_.size());
    for (size_t i = 0; i < prompts_.size(); ++i) {
      QEFF_ASSIGN_OR_RETURN(
          tokens[i],
          source.tokenizer->Encode(prompts_[i], /*add_special_tokens=*/true));
    }
    TextGenerateOptions options;
    options.generate.max_new_tokens = config_.max_new_tokens;
    options.generate.eos_token_ids = source.package.header().spec.eos_token_ids;
    options.generate.stop_strings = config_.stop_strings;
    options.sampling = config_.sampling;
    if (config_.draft != nullptr) {
      return RunPackageWithDraft(env, source, tokens, options, engine.get());
    }
    Printer printer(prompts_, env.out);
    return GenerateTexts(tokens, options, *source.tokenizer,
                         printer.Callbacks(), engine.get());
  }

  absl::StatusOr<Results> RunPackageWithDraft(
      const CommandEnv& env, const PackageWithTokenizer& source,
      const std::vector<std::vector<int32_t>>& tokens,
      const TextGenerateOptions& options, Engine* engine) {
    config_.compile.activations = engine->options().activations;
    EngineOptions draft_options = engine->options();
    draft_options.batch_size = 1;
    QEFF_ASSIGN_OR_RETURN(
        const std::unique_ptr<Engine> draft,
        config_.draft->CreateDraftEngine(*source.tokenizer, config_.compile,
                                         draft_options));
    QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<SpeculativeGenerator> generator,
                          SpeculativeGenerator::Create(engine, draft.get(),
                                                       config_.draft_tokens));
    Printer printer(prompts_, env.out);
    const TextCallbacks callbacks = printer.Callbacks();
    const TextRequests requests(tokens, options, *source.tokenizer, callbacks,
                                engine->model().spec.vocab_size);
    return generator->GenerateEach(requests.requests());
  }

  absl::StatusOr<Json> Report(const Results& results,
                              const CommandEnv& env) const {
    const bool one = results.size() == 1;
    absl::Status first_error;
    std::vector<GenerateTiming> timings;
    Speculation speculation;
    Json all = Json::array();
    for (size_t i = 0; i < results.size(); ++i) {
      if (results[i].ok()) {
        timings.push_back(results[i]->timing);
        speculation.Add(results[i]->speculation);
        all.push_back(ResultJson(prompts_[i], *results[i]));
        if (config_.draft == nullptr) continue;
        all.back()["speculation"] = SpeculationJson(results[i]->speculation);
      } else {
        first_error.Update(one ? results[i].status()
                               : Annotate(results[i].status(),
                                          absl::StrCat("prompt ", i + 1)));
      }
    }
    if (one) QEFF_RETURN_IF_ERROR(first_error);
    const Performance performance = Summarize(timings);
    std::fprintf(env.out, one ? "\n\n%s" : "%s",
                 FormatPerformance(performance).c_str());
    if (config_.draft != nullptr) {
      std::fputs(FormatSpeculation(speculation).c_str(), env.out);
    }
    QEFF_RETURN_IF_ERROR(first_error);
    if (one) return all[0];
    Json result{
        {"results", all},
        {"prefill_seconds", performance.prefill_seconds},
        {"decode_tokens_per_second", performance.decode_tokens_per_second},
        {"total_tokens_per_second", performance.total_tokens_per_second},
        {"total_seconds", performance.total_seconds}};
    if (config_.draft != nullptr) {
      result["speculation"] = SpeculationJson(speculation);
    }
    return result;
  }

  std::string model_;
  std::string package_;
  std::vector<std::string> prompts_;
  std::string prompt_file_;
  std::string stop_;
  std::string draft_;
  GenerationConfig config_;
  EngineOptions engine_{/*context_length=*/0, /*batch_size=*/0,
                        /*prefill_chunk=*/0};
  EngineFlags engine_flags_;
  absl::optional<ModelFolder> draft_folder_;
  std::unique_ptr<QEFFAutoModelForCausalLM> draft_model_;
};

}  // namespace

std::unique_ptr<Command> MakeGenerateCommand() {
  return std::make_unique<GenerateCommand>();
}

}  // namespace qeff
