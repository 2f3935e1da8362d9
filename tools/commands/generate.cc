// SPDX-License-Identifier: Apache-2.0

#include <string>

#include "qeff/base/qeff_auto_model_for_causal_lm.h"
#include "qeff/util/status.h"
#include "tools/commands/commands.h"
#include "tools/commands/engine_flags.h"

namespace qeff {
namespace {

class GenerateCommand : public Command {
 public:
  absl::string_view name() const override { return "generate"; }
  absl::string_view summary() const override { return "Continues a prompt."; }
  absl::string_view description() const override {
    return "Prints the prompt and its continuation as it is made, then four "
           "lines of statistics in the form of QEfficient's.\n\n"
           "The choice is greedy unless --temperature is above 0. Filters "
           "apply in the order repetition penalty, temperature, top-k, top-p, "
           "min-p. The same seed gives the same text for any number of "
           "threads.";
  }
  void DeclareFlags(FlagTable* flags) override {
    SamplerOptions& sampling = config_.sampling;
    flags->AddRequired("model", &model_, "DIR", "The model's folder.");
    flags->AddRequired("prompt", &prompt_, "STRING", "The text to continue.");
    flags->Add("max_new_tokens", &config_.max_new_tokens, "N",
               "Tokens to make at most.");
    flags->Add("temperature", &sampling.temperature, "X",
               "Divides the logits; 0 always takes the most probable token.");
    flags->Add("top_k", &sampling.top_k, "K",
               "Chooses among the K most probable tokens; 0 is all.");
    flags->Add("top_p", &sampling.top_p, "P",
               "Chooses among the fewest tokens of total probability P.");
    flags->Add("min_p", &sampling.min_p, "P",
               "Drops tokens less than P times as probable as the first.");
    flags->Add("seed", &sampling.seed, "N", "Seed of the random choice.");
    flags->Add("repetition_penalty", &sampling.repetition_penalty, "X",
               "Divides the logits of tokens that occurred; 1 is off.");
    flags->Add("stop", &stop_, "STRING",
               "Ends before this text would be printed.");
    engine_flags_.Declare(flags);
  }
  absl::StatusOr<Json> Run(const CommandEnv& env,
                           const FlagTable& flags) override {
    if (flags.WasGiven("stop")) config_.stop_strings = {stop_};
    QEFF_ASSIGN_OR_RETURN(config_.compile, engine_flags_.Compile());
    engine_flags_.Apply(&config_.engine);
    QEFF_ASSIGN_OR_RETURN(
        const std::unique_ptr<QEFFAutoModelForCausalLM> model,
        QEFFAutoModelForCausalLM::FromPretrained(model_, env.pool));
    std::fwrite(prompt_.data(), 1, prompt_.size(), env.out);
    std::fflush(env.out);
    const auto print = [&](absl::string_view text) {
      std::fwrite(text.data(), 1, text.size(), env.out);
      std::fflush(env.out);
      return absl::OkStatus();
    };
    QEFF_ASSIGN_OR_RETURN(const GenerateResult result,
                          model->Generate(prompt_, config_, print));
    std::fprintf(env.out, "\n\n%s", FormatPerformance(result.timing).c_str());
    const GenerateTiming& timing = result.timing;
    return Json{
        {"prompt", prompt_},
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

 private:
  std::string model_;
  std::string prompt_;
  std::string stop_;
  GenerationConfig config_;
  EngineFlags engine_flags_;
};

}  // namespace

std::unique_ptr<Command> MakeGenerateCommand() {
  return std::make_unique<GenerateCommand>();
}

}  // namespace qeff
