// SPDX-License-Identifier: Apache-2.0
//
// For commands that run a model folder (--model) or a device package
// (--package).

#ifndef QEFF_TOOLS_COMMANDS_PACKAGE_SOURCE_H_
#define QEFF_TOOLS_COMMANDS_PACKAGE_SOURCE_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/device/package/device_package.h"
#include "qeff/tokenizer/portable_tokenizer.h"
#include "tools/flags.h"

namespace qeff {

// Declares --model and --package.
void DeclareModelOrPackage(std::string* model, std::string* package,
                           FlagTable* flags);

// Usage errors: neither or both of them were given, or --lm_head with
// --package, whose weights are packed already. Flags of how it is run
// (activations, context, slots, chunk, cache) go before what the package says.
absl::Status CheckModelOrPackage(const FlagTable& flags);

struct PackageWithTokenizer {
  DevicePackage package;
  std::unique_ptr<PortableTokenizer> tokenizer;
};

// Errors: those of DevicePackage::Open; kInvalidArgument naming the file when
// it has no tokenizer, more tokens than logits, or damaged tables.
absl::StatusOr<PackageWithTokenizer> OpenPackageWithTokenizer(
    const std::string& path);

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_PACKAGE_SOURCE_H_
