// SPDX-License-Identifier: Apache-2.0
//
// `compile` for Cloud AI: --target=aic100 and aic200. Flags are QEfficient's.

#ifndef QEFF_TOOLS_COMMANDS_COMPILE_AIC_H_
#define QEFF_TOOLS_COMMANDS_COMPILE_AIC_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/export/aic/bundle.h"
#include "qeff/export/aic/compile_aic.h"
#include "tools/command.h"
#include "tools/flags.h"

namespace qeff {

// The object holds the values of its flags.
class AicTarget {
 public:
  // The values of --target that it stands for.
  static std::vector<std::string> names() { return {"aic100", "aic200"}; }

  // The flags that go with these targets only; Declare declares them.
  static std::vector<std::string> flag_names();
  void Declare(FlagTable* flags);

  // As Command::Check. Usage errors name the flag.
  absl::Status Check(const FlagTable& flags, const std::string& target,
                     int64_t batch_size) const {
    return Options(flags, target, batch_size).status();
  }

  // Exports the model in `folder` into the cache, or below the folder `output`,
  // unless that is empty, and compiles it there. Returns what --json writes.
  absl::StatusOr<Json> Run(const CommandEnv& env, const FlagTable& flags,
                           const std::string& target, const std::string& folder,
                           const std::string& output, int64_t batch_size);

 private:
  absl::StatusOr<AicCompileOptions> Options(const FlagTable& flags,
                                            const std::string& target,
                                            int64_t batch_size) const;

  AicSettings settings_;
  bool mxint8_kv_cache_ = false;
  std::string num_speculative_tokens_;
  std::string comp_ctx_lengths_prefill_;
  std::string comp_ctx_lengths_decode_;
  std::vector<std::string> compiler_options_;
  std::string compiler_ = kDefaultAicCompiler;
  std::string sdk_version_;
  double compile_timeout_seconds_ = 0;  // 0: none
  bool artifact_only_ = false;
};

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_COMPILE_AIC_H_
