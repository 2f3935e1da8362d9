// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/engine_flags.h"

#include "absl/strings/str_cat.h"
#include "tools/command.h"

namespace qeff {

void EngineFlags::Declare(FlagTable* flags) {
  flags->AddChoice("activations", &activations_, {"fast", "f32"},
                   "What inputs of linear layers are rounded to on the engine. "
                   "fast: 8 bits with integer weights, bf16 with bf16 weights, "
                   "else float32; f32: float32, slowly.");
  flags->Add("lm_head", &lm_head_, "auto|keep|SCHEME",
             "How the engine gets lm_head. auto: int8 when other layers are "
             "quantized, else keep, as the model has it.");
  flags->AddChoice("kv_cache", &kv_cache_, {"f32", "f16", "int8"},
                   "Type of cached keys and values.");
}

absl::StatusOr<CompileOptions> EngineFlags::Compile() const {
  CompileOptions options;
  options.activations =
      activations_ == "f32" ? Activations::kFloat32 : Activations::kFast;
  const absl::Status status = ParseLmHead(lm_head_, &options);
  if (!status.ok()) return UsageError(absl::StrCat("--", status.message()));
  return options;
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
