// SPDX-License-Identifier: Apache-2.0
//
// Options of the Cloud AI compiler by name: those that qeff knows, checked
// before hours of compiling, and the command line that they become.
//
//   ParseCompilerOption("mos=1")          // {"mos", "1"}
//   ParseCompilerOption("moss=1")         // error: did you mean ...?

#ifndef QEFF_EXPORT_AIC_COMPILER_OPTIONS_H_
#define QEFF_EXPORT_AIC_COMPILER_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace qeff {

// What stands after the name of an option.
enum class OptionKind {
  kSwitch,  // nothing
  kInt,     // an integer
  kNumber,
  kText,
  kInputFile,   // a file to read
  kOutputFile,  // the plain name of a file to write
};

struct CompilerOption {
  std::string name;   // with '_' between words, as QEfficient's keywords
  std::string value;  // "" of a switch

  bool operator==(const CompilerOption& other) const {
    return name == other.name && value == other.value;
  }
};

// "NAME=VALUE", or "NAME" of a switch, which NAME=true is too; dashes may stand
// for '_' and before the name. Errors: kInvalidArgument for an unknown name,
// with the nearest, for one that qeff sets itself, with what to use instead,
// and for a value of another kind.
absl::StatusOr<CompilerOption> ParseCompilerOption(absl::string_view text);

// Parses all; kInvalidArgument also when a name occurs twice.
absl::StatusOr<std::vector<CompilerOption>> ParseCompilerOptions(
    const std::vector<std::string>& texts);

// Kind of an option that ParseCompilerOption has returned.
OptionKind KindOf(const CompilerOption& option);

// What a compilation is told, beside files that are always there.
struct CompilerCommand {
  std::string hardware = "ai100";  // or "ai200"
  std::string onnx;                // path of the graph
  bool convert_to_fp16 = true;
  bool mxfp6_matmul = false;
  int64_t num_cores = 16;
  std::vector<CompilerOption> options;  // in their order
  std::string pipeline_partition;       // file, or ""
  std::string slicing_partition;        // file, or ""
  std::string specializations;          // file
  std::string custom_io;                // file
  std::string output_folder;            // where programqpc.bin goes
};

// Arguments after the name of the program, in QEfficient's order. A partition
// among the options stands where QEfficient puts one of the user's, before all
// others. Source: QEfficient 1.23, QEFFBaseModel._compile.
std::vector<std::string> CompilerArguments(const CompilerCommand& command);

}  // namespace qeff

#endif  // QEFF_EXPORT_AIC_COMPILER_OPTIONS_H_
