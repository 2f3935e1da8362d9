// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/bundle.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "qeff/export/aic/param_hash.h"
#include "qeff/export/aic/param_json.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/sha256.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr int kHashSchema = 1;
constexpr uint64_t kMaxOptionFileBytes = 256 << 20;

std::string FileName(absl::string_view path) {
  const size_t slash = path.rfind('/');
  return std::string(slash == absl::string_view::npos ? path
                                                      : path.substr(slash + 1));
}

bool Contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

absl::Status CheckGraph(const AicGraph& graph, const AicShapes& shapes) {
  for (const std::string& input : InputsNeeded(shapes)) {
    if (!Contains(graph.inputs, input)) {
      return InvalidInputError(graph.onnx_path, ": expected an input ", input,
                               ", which these shapes need, found none");
    }
  }
  for (const std::string& input : graph.kv_inputs) {
    const std::string output = absl::StrCat(input, kRetainedStateSuffix);
    if (!Contains(graph.inputs, input) || !Contains(graph.outputs, output)) {
      return InvalidInputError(graph.onnx_path, ": expected input ", input,
                               " and output ", output);
    }
  }
  return absl::OkStatus();
}

// Reads the files that options name into the bundle, and names them there.
absl::StatusOr<std::vector<CompilerOption>> TakeInputFiles(
    const std::vector<CompilerOption>& options,
    std::map<std::string, std::string>* files) {
  std::vector<CompilerOption> taken;
  for (CompilerOption option : options) {
    if (KindOf(option) == OptionKind::kInputFile) {
      // The option's name, so that files of the same name do not meet.
      const std::string path = option.value;
      const size_t point = FileName(path).rfind('.');
      option.value = absl::StrCat(
          option.name,
          point == std::string::npos ? "" : FileName(path).substr(point));
      QEFF_ASSIGN_OR_RETURN((*files)[option.value],
                            ReadFileToString(path, kMaxOptionFileBytes),
                            absl::StrCat("compiler option ", option.name));
    }
    taken.push_back(std::move(option));
  }
  return taken;
}

// The partition of several devices, if the user has given none: its file, which
// goes into the command too.
absl::Status AddPartition(const AicGraph& graph, const AicSettings& settings,
                          CompilerCommand* command,
                          std::map<std::string, std::string>* files) {
  if (settings.num_devices < 1 || settings.num_cores < 1) {
    return InvalidInputError("num_devices and num_cores: expected at least 1");
  }
  const auto given = [&command](absl::string_view name) {
    return std::any_of(
        command->options.begin(), command->options.end(),
        [name](const CompilerOption& option) { return option.name == name; });
  };
  if (settings.stages != 1) {
    if (given("mdp_load_partition_config")) {
      return InvalidInputError(
          "compiler option mdp_load_partition_config: not together with a "
          "pipeline, which is a partition");
    }
    QEFF_ASSIGN_OR_RETURN(const Json pipeline,
                          Pipeline(graph.nodes, graph.layers, settings.stages,
                                   settings.num_devices, settings.num_cores));
    command->pipeline_partition = absl::StrCat(
        "mdp_disagg_", settings.num_devices, "d_", settings.stages, "p.json");
    (*files)[command->pipeline_partition] = IndentedJson(pipeline);
    return absl::OkStatus();
  }
  // A dump is of the partition that the compiler finds by itself.
  if (settings.num_devices == 1 || given("mdp_load_partition_config") ||
      given("mdp_dump_partition_config")) {
    return absl::OkStatus();
  }
  command->slicing_partition =
      absl::StrCat("mdp_ts_", settings.num_devices, ".json");
  (*files)[command->slicing_partition] =
      IndentedJson(TensorSlicing(settings.num_devices, settings.num_cores));
  return absl::OkStatus();
}

Json NamedValues(const AicSettings& settings) {
  Json options = Json::object();
  for (const CompilerOption& option : settings.options) {
    options[option.name] =
        option.value.empty() ? Json(true) : Json(option.value);
  }
  options["aic_num_cores"] = settings.num_cores;
  options["mxfp6_matmul"] = settings.mxfp6_matmul;
  options["mxint8_kv_cache"] = settings.kv_precision == KvPrecision::kMxint8;
  return options;
}

// As QEfficient's, with paths inside the bundle.
Json QConfig(const AicGraph& graph, const AicSettings& settings,
             const std::string& onnx, const Json& specializations) {
  Json compiler = NamedValues(settings);
  compiler["enable_qnn"] = false;
  compiler["compile_dir"] = ".";
  compiler["specializations_file_path"] = "specializations.json";
  compiler["specializations"] = specializations;
  compiler["mdp_ts_num_devices"] = settings.num_devices;
  compiler["num_speculative_tokens"] =
      settings.shapes.num_speculative_tokens.empty()
          ? Json()
          : Json(settings.shapes.num_speculative_tokens);
  const auto version = [](const std::string& text) {
    return text.empty() ? Json() : Json(text);
  };
  return Json{
      {"huggingface_config", graph.model_config},
      {"qpc_config",
       {{"QEff_config",
         {{"qeff_version", settings.qeff_version},
          {"pytorch_transforms", Json::array()},
          {"onnx_transforms", graph.transforms},
          {"onnx_path", onnx}}},
        {"compiler_config", compiler},
        {"aic_sdk_config",
         {{"qaic_apps_version", version(settings.sdk.apps)},
          {"qaic_platform_version", version(settings.sdk.platform)}}}}}};
}

// `text` as one word of a shell.
std::string Quoted(const std::string& text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "'\\''"}}), "'");
}

std::string ReplayScript(const std::vector<std::string>& arguments) {
  std::string script = absl::StrCat(
      "#!/usr/bin/env bash\n"
      "# Compiles the graph beside this folder. COMPILER is the program,\n"
      "# if it is not where the SDK installs it.\n"
      "set -euo pipefail\n"
      "cd \"$(dirname \"${BASH_SOURCE[0]}\")\"\n"
      "rm -rf ",
      kProgramFolder,
      "\n"
      "exec \"${COMPILER:-",
      kDefaultAicCompiler, "}\"");
  for (const std::string& argument : arguments) {
    absl::StrAppend(&script, " \\\n  ", Quoted(argument));
  }
  return script + "\n";
}

}  // namespace

absl::StatusOr<AicBundle> MakeAicBundle(const AicGraph& graph,
                                        const AicSettings& settings) {
  QEFF_ASSIGN_OR_RETURN(const std::vector<Specialization> specializations,
                        MakeSpecializations(settings.shapes));
  QEFF_ASSIGN_OR_RETURN(const SpecializationForm form,
                        FormOfSdk(settings.sdk.apps));
  QEFF_RETURN_IF_ERROR(CheckGraph(graph, settings.shapes));
  const Json shapes = SpecializationsJson(specializations, form);
  AicBundle bundle;
  CompilerCommand command;
  command.hardware = settings.hardware;
  command.onnx = absl::StrCat("../", FileName(graph.onnx_path));
  command.convert_to_fp16 = settings.kv_precision != KvPrecision::kBfloat16;
  command.mxfp6_matmul = settings.mxfp6_matmul;
  command.num_cores = settings.num_cores;
  QEFF_ASSIGN_OR_RETURN(command.options,
                        TakeInputFiles(settings.options, &bundle.files));
  QEFF_RETURN_IF_ERROR(AddPartition(graph, settings, &command, &bundle.files));
  command.specializations = "specializations.json";
  bundle.files[command.specializations] = IndentedJson(shapes);
  if (!graph.kv_inputs.empty()) {
    command.custom_io = "custom_io.yaml";
    bundle.files[command.custom_io] =
        CustomIoYaml(graph.kv_inputs, settings.kv_precision);
  }
  command.output_folder = kProgramFolder;
  bundle.arguments = CompilerArguments(command);
  Json files = Json::object();
  for (const auto& [name, content] : bundle.files) {
    files[name] = Sha256Hex(content);
  }
  const Json params = {{"schema", kHashSchema},
                       {"graph", graph.identity},
                       {"command", bundle.arguments},
                       {"files", std::move(files)},
                       {"specializations", shapes["specializations"]},
                       {"qaic_apps_version", settings.sdk.apps},
                       {"qeff_version", settings.qeff_version}};
  QEFF_ASSIGN_OR_RETURN(bundle.hash, HashParams(params));
  bundle.files["hashed_compile_params.json"] = IndentedJson(params);
  bundle.files["qconfig.json"] = IndentedJson(
      QConfig(graph, settings, command.onnx, shapes["specializations"]));
  bundle.files["qaic-compile.sh"] = ReplayScript(bundle.arguments);
  return bundle;
}

}  // namespace qeff
