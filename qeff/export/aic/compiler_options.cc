// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/compiler_options.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "qeff/util/atomic_folder.h"
#include "qeff/util/check.h"
#include "qeff/util/nearest_name.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

struct KnownOption {
  const char* name;
  OptionKind kind;
};

// Those that QEfficient's documentation names and those of the SDK's "qaic-exec
// options" that concern a language model.
constexpr KnownOption kKnown[] = {
    {"aic_depth_first_mem", OptionKind::kInt},
    {"aic_enable_depth_first", OptionKind::kSwitch},
    {"aic_perf_metrics", OptionKind::kSwitch},
    {"aic_perf_warnings", OptionKind::kSwitch},
    {"allocator_dealloc_delay", OptionKind::kInt},
    {"allow_mxint8_mdp_io", OptionKind::kSwitch},
    {"ddr_stats", OptionKind::kSwitch},
    {"io_encrypt", OptionKind::kText},
    {"mdp_dump_partition_config", OptionKind::kOutputFile},
    {"mdp_load_partition_config", OptionKind::kInputFile},
    {"mos", OptionKind::kInt},
    {"multicast_weights", OptionKind::kSwitch},
    {"node_precision_info", OptionKind::kInputFile},
    {"ols", OptionKind::kInt},
    {"qpc_crc", OptionKind::kSwitch},
    {"size_split_granularity", OptionKind::kInt},
    {"stats_batchsize", OptionKind::kInt},
    {"stats_level", OptionKind::kInt},
    {"time_passes", OptionKind::kSwitch},
    {"vtcm_working_set_limit_ratio", OptionKind::kNumber},
};

constexpr char kUserPartition[] = "mdp_load_partition_config";

// Names that are no option here, and why.
struct OtherName {
  const char* name;
  const char* instead;
};
constexpr OtherName kElsewhere[] = {
    {"aic_binary_dir", "follows from the output"},
    {"aic_hw", "is always given"},
    {"aic_hw_version", "follows from the target"},
    {"aic_num_cores", "is num_cores"},
    {"compile_only", "is what the compiler does"},
    {"convert_to_fp16", "is always given"},
    {"custom_IO_list_file", "is written"},
    {"device_group", "QEfficient's old name of num_devices"},
    {"m", "follows from the model"},
    {"mxfp6", "QEfficient's old name of mxfp6_matmul"},
    {"mxfp6_matmul", "has a flag of its own"},
    {"mxint8", "QEfficient's old name of mxint8_kv_cache"},
    {"mxint8_kv_cache", "has a flag of its own"},
    {"network_specialization_config", "is written"},
    {"num_cores", "has a flag of its own"},
    {"num_devices", "has a flag of its own"},
    {"retained_state", "is always given"},
};

const KnownOption* FindKnown(absl::string_view name) {
  const auto* found =
      std::find_if(std::begin(kKnown), std::end(kKnown),
                   [name](const KnownOption& one) { return name == one.name; });
  return found == std::end(kKnown) ? nullptr : found;
}

absl::Status UnknownOption(const std::string& name) {
  for (const OtherName& other : kElsewhere) {
    if (absl::EqualsIgnoreCase(name, other.name)) {
      return InvalidInputError("compiler option ", name,
                               ": not given here, it ", other.instead);
    }
  }
  std::vector<std::string> names;
  for (const KnownOption& known : kKnown) names.push_back(known.name);
  return InvalidInputError("unknown compiler option ", name,
                           DidYouMean(name, names));
}

// What is wrong with `value`; "" when nothing is.
std::string Expected(OptionKind kind, const std::string& value) {
  int64_t integer;
  double number;
  switch (kind) {
    case OptionKind::kSwitch:
      return value.empty() ? "" : "no value, or true";
    case OptionKind::kInt:
      return absl::SimpleAtoi(value, &integer) ? "" : "an integer";
    case OptionKind::kNumber:
      return absl::SimpleAtod(value, &number) && std::isfinite(number)
                 ? ""
                 : "a number";
    case OptionKind::kText:
    case OptionKind::kInputFile:
      return value.empty() ? "a value" : "";
    case OptionKind::kOutputFile:
      return IsPlainFileName(value) ? "" : "a file name without a folder";
  }
  return "";
}

std::string Argument(const CompilerOption& option) {
  const std::string name =
      absl::StrCat("-", absl::StrReplaceAll(option.name, {{"_", "-"}}));
  return option.value.empty() ? name : absl::StrCat(name, "=", option.value);
}

}  // namespace

absl::StatusOr<CompilerOption> ParseCompilerOption(absl::string_view text) {
  while (absl::ConsumePrefix(&text, "-")) {
  }
  const size_t equals = text.find('=');
  CompilerOption option;
  option.name = absl::StrReplaceAll(text.substr(0, equals), {{"-", "_"}});
  if (equals != absl::string_view::npos) {
    option.value = std::string(text.substr(equals + 1));
  }
  const KnownOption* known = FindKnown(option.name);
  if (known == nullptr) return UnknownOption(option.name);
  if (known->kind == OptionKind::kSwitch && option.value == "true") {
    option.value.clear();
  }
  const std::string expected = Expected(known->kind, option.value);
  if (!expected.empty()) {
    return InvalidInputError("compiler option ", option.name, ": expected ",
                             expected, ", found '", option.value, "'");
  }
  return option;
}

absl::StatusOr<std::vector<CompilerOption>> ParseCompilerOptions(
    const std::vector<std::string>& texts) {
  std::vector<CompilerOption> options;
  for (const std::string& text : texts) {
    QEFF_ASSIGN_OR_RETURN(CompilerOption option, ParseCompilerOption(text));
    for (const CompilerOption& earlier : options) {
      if (earlier.name == option.name) {
        return InvalidInputError("compiler option ", option.name,
                                 " is given twice");
      }
    }
    options.push_back(std::move(option));
  }
  return options;
}

OptionKind KindOf(const CompilerOption& option) {
  const KnownOption* known = FindKnown(option.name);
  QEFF_CHECK(known != nullptr);
  return known->kind;
}

std::vector<std::string> CompilerArguments(const CompilerCommand& command) {
  std::vector<std::string> arguments = {
      "-aic-hw", absl::StrCat("-aic-hw-version=", command.hardware),
      absl::StrCat("-m=", command.onnx)};
  const auto add = [&arguments](const char* name, const std::string& value) {
    if (!value.empty()) arguments.push_back(absl::StrCat(name, value));
  };
  for (const CompilerOption& option : command.options) {
    if (option.name == kUserPartition) arguments.push_back(Argument(option));
  }
  add("-mdp-load-partition-config=", command.pipeline_partition);
  arguments.push_back("-retained-state");
  if (command.convert_to_fp16) arguments.push_back("-convert-to-fp16");
  if (command.mxfp6_matmul) arguments.push_back("-mxfp6-matmul");
  arguments.push_back(absl::StrCat("-aic-num-cores=", command.num_cores));
  for (const CompilerOption& option : command.options) {
    if (option.name != kUserPartition) arguments.push_back(Argument(option));
  }
  add("-mdp-load-partition-config=", command.slicing_partition);
  add("-network-specialization-config=", command.specializations);
  add("-custom-IO-list-file=", command.custom_io);
  add("-aic-binary-dir=", command.output_folder);
  return arguments;
}

}  // namespace qeff
