// SPDX-License-Identifier: Apache-2.0
//
// The flags of commands that change or measure a model with calibration text.

#ifndef QEFF_TOOLS_COMMANDS_CALIBRATION_FLAGS_H_
#define QEFF_TOOLS_COMMANDS_CALIBRATION_FLAGS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/calibration/calibrated_run.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/transformer/transformer.h"
#include "tools/command.h"
#include "tools/commands/sanity_flag.h"
#include "tools/flags.h"

namespace qeff {

class CalibrationFlags {
 public:
  CalibrationFlags() { sample_.sequence_length = 0; }

  // --calibration, --calibration_tokens, --sequence_length, --seed, --strict.
  void DeclareText(bool required, FlagTable* flags);
  // --memory_limit, --resume, --restart.
  void DeclareRun(FlagTable* flags);

  bool has_text() const { return !text_.empty(); }
  uint64_t seed() const { return sample_.seed; }
  bool limits_memory() const { return memory_limit_ != 0; }
  bool resumes() const { return resume_; }
  // Whether any flag of DeclareRun says something.
  bool has_run() const { return resume_ || restart_ || limits_memory(); }

  // Usage error of --strict without a text.
  absl::Status CheckStrict() const;
  // kInvalidArgument for numbers that no sample has.
  absl::Status CheckSample() const;
  // Usage errors of flags that exclude each other.
  absl::Status CheckRun() const;

  // What --calibration gives for `model`. Precondition: has_text. Errors: those
  // of LoadTokenizer and SampleTextTokens.
  absl::StatusOr<TokenSample> Sample(const Transformer& model) const;

  // Whether `model` makes sense of the sample: SanityFlag::Check.
  absl::Status CheckModel(const std::shared_ptr<const Transformer>& model,
                          const TokenSample& sample,
                          const CommandEnv& env) const {
    return sanity_.Check(model, sample.sequences, text_, env);
  }

  // Sets what DeclareRun's flags say; the rest of `options` stays.
  void Apply(CalibratedRunOptions* options) const;

 private:
  std::string text_;  // a file
  SampleOptions sample_;
  SanityFlag sanity_;
  uint64_t memory_limit_ = 0;
  bool resume_ = false;
  bool restart_ = false;
};

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_CALIBRATION_FLAGS_H_
