// SPDX-License-Identifier: Apache-2.0
//
// The flags of commands that run a model on the device engine.

#ifndef QEFF_TOOLS_COMMANDS_ENGINE_FLAGS_H_
#define QEFF_TOOLS_COMMANDS_ENGINE_FLAGS_H_

#include <string>

#include "absl/status/statusor.h"
#include "qeff/compile/compile_in_memory.h"
#include "qeff/device/engine_options.h"
#include "tools/flags.h"

namespace qeff {

class EngineFlags {
 public:
  void Declare(FlagTable* flags);

  // Usage errors name the flag.
  absl::StatusOr<CompileOptions> Compile() const;

  // The flags among these; the rest of `options` stays.
  void Apply(EngineOptions* options) const;

 private:
  std::string activations_ = "fast";
  std::string lm_head_ = "auto";
  std::string kv_cache_ = "f32";
};

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_ENGINE_FLAGS_H_
