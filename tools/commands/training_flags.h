// SPDX-License-Identifier: Apache-2.0
//
// The flags of `train` and `distill`, and running what they say.

#ifndef QEFF_TOOLS_COMMANDS_TRAINING_FLAGS_H_
#define QEFF_TOOLS_COMMANDS_TRAINING_FLAGS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/distill/training.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/train/gradient_reducer.h"
#include "qeff/util/json.h"
#include "tools/command.h"
#include "tools/commands/sanity_flag.h"
#include "tools/flags.h"
#include "tools/interrupt.h"

namespace qeff {

class TrainingFlags {
 public:
  // --data, --text, --output, --steps and all others that both commands have.
  void Declare(FlagTable* flags);

  // Checks the values and fills in all of the options but distill. Usage
  // errors.
  absl::StatusOr<TrainingOptions> Options() const;

  const std::string& output() const { return output_; }
  const std::vector<std::string>& data() const { return data_; }
  uint64_t seed() const { return seed_; }
  bool strict() const { return sanity_.strict(); }

  // Whether `model`, which trains on or teaches, makes sense of the first text:
  // SanityFlag::CheckBeginning.
  absl::Status CheckModel(const std::shared_ptr<const Transformer>& model,
                          const Tokenizer& tokenizer,
                          const CommandEnv& env) const {
    return sanity_.CheckBeginning(model, tokenizer, data_.front(), env)
        .status();
  }

  // Trains and tells of it; returns the result for --json. `tokenizer` is the
  // student's. Errors: those of TrainModel and of `interrupt`.
  absl::StatusOr<Json> Run(Student student, const TeacherModel& teacher,
                           const Tokenizer& tokenizer, TrainingOptions options,
                           const InterruptScope& interrupt,
                           const CommandEnv& env) const;

 private:
  std::string output_;
  std::vector<std::string> data_, text_;
  std::string documents_ = "files";
  SanityFlag sanity_;
  TrainStepOptions step_;
  TrainRunOptions run_;
  TrainableOptions weights_;
  std::string schedule_ = "cosine";
  std::string optimizer_ = "adamw";
  std::string scheme_;
  std::string dtype_ = "bf16";
  int64_t held_out_tokens_ = 65536;
  uint64_t seed_ = 0;
  bool resume_ = false, restart_ = false;
};

// The config.json of --config=NAME: a known shape, a folder, or a file. Errors:
// those of reading, and kInvalidArgument with the known shapes when it is none
// of them.
absl::StatusOr<Json> ReadShape(const std::string& name);

// The student that is a model folder, or new in a shape. For a new one the
// files of `tokenizer_folder` beside config.json and weights are taken over,
// and vocab_size and the special tokens become the tokenizer's.
absl::StatusOr<Student> NewStudentWithTokenizer(
    const Json& shape, const std::string& context,
    const std::string& tokenizer_folder, const Tokenizer& tokenizer,
    uint64_t seed);

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_TRAINING_FLAGS_H_
