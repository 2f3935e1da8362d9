// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/engine_flags.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "qeff/calibration/cached_keys.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/util/status.h"
#include "tools/command.h"
#include "tools/commands/text_tokens.h"

namespace qeff {
namespace {

// Means and scales of channels need few tokens.
constexpr int64_t kCalibrationTokens = 8192;
constexpr int64_t kCalibrationLength = 512;

}  // namespace

void EngineFlags::Declare(FlagTable* flags) {
  flags->BeginSection("The engine");
  flags->AddChoice("activations", &activations_, {"fast", "f32"},
                   "What inputs of linear layers are rounded to on the engine. "
                   "fast: 8 bits with integer weights, bf16 with bf16 weights, "
                   "else float32; f32: float32, slowly.");
  flags->Add("lm_head", &lm_head_, "auto|keep|SCHEME",
             "How the engine gets lm_head. auto: int8 when other layers are "
             "quantized, else keep, as the model has it.");
  flags->AddChoice("kv_cache", &kv_cache_, {"f32", "f16", "int8"},
                   "Type of cached keys and values.");
  flags->Add("calibration", &calibration_, "FILE",
             "Text that is like what the model will read, for "
             "--kv_cache=int8: channels of keys are evened out by what they "
             "are on it, so that rounding them loses less.");
}

absl::StatusOr<CompileOptions> EngineFlags::Compile() const {
  CompileOptions options;
  options.activations =
      activations_ == "f32" ? Activations::kFloat32 : Activations::kFast;
  const absl::Status status = ParseLmHead(lm_head_, &options);
  if (!status.ok()) return UsageError(absl::StrCat("--", status.message()));
  if (!calibration_.empty() && kv_cache_ != "int8") {
    return UsageError("--calibration is for --kv_cache=int8");
  }
  return options;
}

absl::Status EngineFlags::CalibrateKeys(
    std::shared_ptr<const Transformer> model,
    const PortableTokenizer& tokenizer, ThreadPool* pool,
    CompileOptions* options) const {
  if (calibration_.empty()) return absl::OkStatus();
  SampleOptions sampling;
  sampling.tokens = kCalibrationTokens;
  sampling.sequence_length =
      std::min(model->spec().max_positions, kCalibrationLength);
  QEFF_ASSIGN_OR_RETURN(const TokenSample sample,
                        SampleTextTokens(calibration_, tokenizer, sampling));
  QEFF_ASSIGN_OR_RETURN(options->cached_keys,
                        CalibrateCachedKeys(std::move(model), sample, *pool));
  return absl::OkStatus();
}

void EngineFlags::Apply(EngineOptions* options) const {
  options->activations =
      activations_ == "f32" ? Activations::kFloat32 : Activations::kFast;
  options->kv_cache = kv_cache_ == "f16"    ? DType::kF16
                      : kv_cache_ == "int8" ? DType::kI8
                                            : DType::kF32;
}

void EngineFlags::ApplyGiven(const FlagTable& flags,
                             EngineOptions* options) const {
  EngineOptions all;
  Apply(&all);
  if (flags.WasGiven("activations")) options->activations = all.activations;
  if (flags.WasGiven("kv_cache")) options->kv_cache = all.kv_cache;
}

}  // namespace qeff
