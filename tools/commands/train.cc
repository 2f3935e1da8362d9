// SPDX-License-Identifier: Apache-2.0

#include <memory>
#include <string>
#include <utility>

#include "qeff/base/qeff_base_model.h"
#include "qeff/distill/training.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/util/status.h"
#include "tools/commands/commands.h"
#include "tools/commands/training_flags.h"

namespace qeff {
namespace {

class TrainCommand : public Command {
 public:
  absl::string_view name() const override { return "train"; }
  absl::string_view summary() const override {
    return "Trains a model on text, from scratch or on.";
  }
  absl::string_view description() const override {
    return "Minimizes the cross-entropy of the next token, in float32. With "
           "--config the weights begin random, with --model they are those of "
           "a model, whose zeros stay where they are a mask of pruning.\n\n"
           "The state is saved every --save_every steps: a run that was ended, "
           "by whatever, goes on with --resume and writes the same bytes. A "
           "step whose loss or gradient is not finite is left out; after five "
           "in a row the run ends.";
  }
  absl::string_view examples() const override {
    return "train --config=shape.json --tokenizer=tokenizer --data=book.txt "
           "--text=held_out.txt --steps=600 --output=llama\n"
           "train --model=llama --data=book.txt --lora_rank=8 --output=tuned\n";
  }
  void DeclareFlags(FlagTable* flags) override {
    flags->Add("model", &model_, "DIR", "The model to train on.");
    flags->Add("config", &config_, "DIR",
               "Instead: the shape of a new one: a config.json, its folder, or "
               "a shape of synth.");
    flags->Add("tokenizer", &tokenizer_, "DIR",
               "With --config: the folder of its tokenizer.");
    training_.Declare(flags);
  }
  absl::StatusOr<Json> Run(const CommandEnv& env,
                           const FlagTable& flags) override {
    if (flags.WasGiven("model") == flags.WasGiven("config")) {
      return UsageError("expected either --model=DIR or --config=DIR");
    }
    if (flags.WasGiven("tokenizer") != flags.WasGiven("config")) {
      return UsageError("--tokenizer=DIR belongs to --config, which needs it");
    }
    if (training_.strict() && flags.WasGiven("config")) {
      return UsageError("--strict belongs to --model: new weights are random");
    }
    QEFF_ASSIGN_OR_RETURN(TrainingOptions options, training_.Options());
    options.distill.loss.logits.ce = 1;
    std::unique_ptr<Tokenizer> tokenizer;
    Student student;
    if (flags.WasGiven("model")) {
      QEFF_ASSIGN_OR_RETURN(const auto model, LoadTransformer(model_));
      QEFF_ASSIGN_OR_RETURN(tokenizer, LoadTokenizer(*model));
      QEFF_RETURN_IF_ERROR(training_.CheckModel(model, *tokenizer, env));
      QEFF_ASSIGN_OR_RETURN(student, StudentOf(*model));
    } else {
      QEFF_ASSIGN_OR_RETURN(const Json shape, ReadShape(config_));
      QEFF_ASSIGN_OR_RETURN(tokenizer, Tokenizer::FromFolder(tokenizer_));
      QEFF_ASSIGN_OR_RETURN(
          student, NewStudentWithTokenizer(shape, config_, tokenizer_,
                                           *tokenizer, training_.seed()));
    }
    const InterruptScope interrupt;
    return training_.Run(std::move(student), {}, *tokenizer, std::move(options),
                         interrupt, env);
  }

 private:
  std::string model_;
  std::string config_;
  std::string tokenizer_;
  TrainingFlags training_;
};

}  // namespace

std::unique_ptr<Command> MakeTrainCommand() {
  return std::make_unique<TrainCommand>();
}

}  // namespace qeff
