// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/package_source.h"

#include <utility>

#include "qeff/util/status.h"

namespace qeff {

void DeclareModelOrPackage(std::string* model, std::string* package,
                           FlagTable* flags) {
  flags->Add("model", model, "DIR", "The model's folder, or a GGUF file.");
  flags->Add("package", package, "FILE",
             "Instead of --model: a package that compile made. It runs as it "
             "says unless a flag is given.");
}

absl::Status CheckModelOrPackage(const FlagTable& flags) {
  const bool has_package = flags.WasGiven("package");
  if (flags.WasGiven("model") == has_package) {
    return UsageError("expected either --model=DIR or --package=FILE");
  }
  if (has_package && flags.WasGiven("lm_head")) {
    return UsageError(
        "--lm_head has no meaning with --package: its weights are packed "
        "already");
  }
  if (has_package && flags.WasGiven("calibration")) {
    return UsageError(
        "--calibration has no meaning with --package: compile takes it");
  }
  return absl::OkStatus();
}

absl::StatusOr<PackageWithTokenizer> OpenPackageWithTokenizer(
    const std::string& path) {
  QEFF_ASSIGN_OR_RETURN(DevicePackage package, DevicePackage::Open(path));
  if (!package.header().tokenizer.has_value()) {
    return InvalidInputError(path,
                             ": tokenizer: the package has none, so it takes "
                             "token ids only (qeff_device run --tokens)");
  }
  QEFF_ASSIGN_OR_RETURN(TokenizerTables tables, package.ReadTokenizer());
  QEFF_ASSIGN_OR_RETURN(std::unique_ptr<PortableTokenizer> tokenizer,
                        PortableTokenizer::Create(std::move(tables)), path);
  const int64_t vocab_size = package.header().spec.vocab_size;
  if (tokenizer->vocab_size() > vocab_size) {
    return InvalidInputError(path, ": tokenizer: expected at most ", vocab_size,
                             " tokens as the model has, found ",
                             tokenizer->vocab_size());
  }
  return PackageWithTokenizer{std::move(package), std::move(tokenizer)};
}

}  // namespace qeff
