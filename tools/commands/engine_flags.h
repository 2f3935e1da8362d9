// SPDX-License-Identifier: Apache-2.0
//
// The flags of commands that run a model on the device engine.

#ifndef QEFF_TOOLS_COMMANDS_ENGINE_FLAGS_H_
#define QEFF_TOOLS_COMMANDS_ENGINE_FLAGS_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/compile/compile_in_memory.h"
#include "qeff/device/engine_options.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tokenizer/portable_tokenizer.h"
#include "qeff/transformer/transformer.h"
#include "tools/flags.h"

namespace qeff {

class EngineFlags {
 public:
  // `lm_head` is the default of that flag.
  explicit EngineFlags(std::string lm_head = "auto")
      : lm_head_(std::move(lm_head)) {}

  void Declare(FlagTable* flags);

  // Usage errors name the flag.
  absl::StatusOr<CompileOptions> Compile() const;

  // With --calibration: measures on its text what an int8 cache does to keys.
  // Errors: those of reading the text and of CalibrateCachedKeys.
  absl::Status CalibrateKeys(std::shared_ptr<const Transformer> model,
                             const PortableTokenizer& tokenizer,
                             ThreadPool* pool, CompileOptions* options) const;

  // The flags that EngineOptions has too; the rest of `options` stays.
  void Apply(EngineOptions* options) const;

  // As Apply, of those flags that were given.
  void ApplyGiven(const FlagTable& flags, EngineOptions* options) const;

  // The name of the type of the cache.
  const std::string& kv_cache() const { return kv_cache_; }

 private:
  std::string activations_ = "fast";
  std::string lm_head_;
  std::string kv_cache_ = "f32";
  std::string calibration_;
};

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_ENGINE_FLAGS_H_
