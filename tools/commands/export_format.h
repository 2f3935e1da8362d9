// SPDX-License-Identifier: Apache-2.0
//
// What `export --format` chooses from: one class a family of formats, each in
// a file of its own.

#ifndef QEFF_TOOLS_COMMANDS_EXPORT_FORMAT_H_
#define QEFF_TOOLS_COMMANDS_EXPORT_FORMAT_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/json.h"
#include "tools/command.h"
#include "tools/flags.h"

namespace qeff {

// The object holds the values of its flags.
class ExportFormat {
 public:
  virtual ~ExportFormat() = default;

  // The values of --format that it stands for.
  virtual std::vector<std::string> names() const = 0;
  // One paragraph for `qeff help export`.
  virtual std::string description() const = 0;
  // The flags that go with these formats only; DeclareFlags declares them.
  virtual std::vector<std::string> flag_names() const { return {}; }
  virtual void DeclareFlags(FlagTable*) {}
  // As Command::Check.
  virtual absl::Status Check() const { return absl::OkStatus(); }

  // Writes `model` as `format` (one of names()) to the path `output` and
  // returns what --json writes. Whatever the format cannot hold is an error
  // before anything is written.
  virtual absl::StatusOr<Json> Run(const CommandEnv& env,
                                   const Transformer& model,
                                   const std::string& format,
                                   const std::string& output) = 0;
};

std::unique_ptr<ExportFormat> MakeGgufFormat();
std::unique_ptr<ExportFormat> MakeOnnxFormat();
std::unique_ptr<ExportFormat> MakeFolderFormat();
std::unique_ptr<ExportFormat> MakeSparseFormat();

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_EXPORT_FORMAT_H_
