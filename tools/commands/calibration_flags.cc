// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/calibration_flags.h"

#include <algorithm>
#include <memory>

#include "qeff/base/qeff_base_model.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/util/partial_folder.h"
#include "qeff/util/status.h"
#include "tools/commands/text_tokens.h"

namespace qeff {
namespace {

constexpr int64_t kDefaultSequenceLength = 2048;

}  // namespace

void CalibrationFlags::DeclareText(bool required, FlagTable* flags) {
  flags->BeginSection("Calibration");
  constexpr char kText[] = "UTF-8 text that is like what the model will read.";
  if (required) {
    flags->AddRequired("calibration", &text_, "FILE", kText);
  } else {
    flags->Add("calibration", &text_, "FILE", kText);
  }
  flags->Add("calibration_tokens", &sample_.tokens, "N",
             "Tokens that are drawn from it.");
  flags->Add("sequence_length", &sample_.sequence_length, "N",
             "Tokens of a calibration sequence, BOS included; 0 is the longest "
             "of the model, at most 2048.");
  flags->Add("seed", &sample_.seed, "N",
             "Which pieces are drawn, and what else is random.");
  sanity_.Declare(flags);
  flags->BeginSection("Flags");
}

void CalibrationFlags::DeclareRun(FlagTable* flags) {
  flags->BeginSection("Long runs");
  flags->Add("memory_limit", &memory_limit_, "BYTES",
             "Resident memory to stay within; what does not fit lies in files "
             "beside the output. 0 is no limit.");
  flags->Add("resume", &resume_, "",
             "Goes on with what an interrupted run left in OUTPUT.partial.");
  flags->Add("restart", &restart_, "", "Discards it and begins anew.");
  flags->BeginSection("Flags");
}

absl::Status CalibrationFlags::CheckStrict() const {
  if (!sanity_.strict() || has_text()) return absl::OkStatus();
  return UsageError("--strict needs --calibration");
}

absl::Status CalibrationFlags::CheckSample() const {
  if (sample_.tokens < 1) {
    return InvalidInputError("--calibration_tokens: expected at least 1");
  }
  if (sample_.sequence_length < 0) {
    return InvalidInputError("--sequence_length: expected at least 0");
  }
  return absl::OkStatus();
}

absl::Status CalibrationFlags::CheckRun() const {
  if (!resume_ || !restart_) return absl::OkStatus();
  return UsageError("--resume and --restart exclude each other");
}

absl::StatusOr<TokenSample> CalibrationFlags::Sample(
    const Transformer& model) const {
  QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                        LoadTokenizer(model));
  SampleOptions options = sample_;
  if (options.sequence_length == 0) {
    options.sequence_length =
        std::min(model.spec().max_positions, kDefaultSequenceLength);
  }
  return SampleTextTokens(text_, *tokenizer, options);
}

void CalibrationFlags::Apply(CalibratedRunOptions* options) const {
  options->memory_limit_bytes = memory_limit_;
  options->unfinished = resume_    ? PartialWork::kResume
                        : restart_ ? PartialWork::kRestart
                                   : PartialWork::kRefuse;
}

}  // namespace qeff
