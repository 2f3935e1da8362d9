// SPDX-License-Identifier: Apache-2.0
//
// Everything that the Cloud AI compiler reads beside the graph, as files in
// memory, and the hash that names them. Paths are relative to the folder that
// the files go to, so that it can be moved and sent: bundle and graph together
// are all that a machine with the SDK needs.
//
//   qaic-compile.sh              runs the compiler, from anywhere
//   specializations.json         specializations.h
//   custom_io.yaml               custom_io.h
//   mdp_ts_D.json                partition.h, for D devices
//   mdp_disagg_Dd_Pp.json        a pipeline of P stages
//   hashed_compile_params.json   what the hash is of
//   qconfig.json                 the model and all settings, for people

#ifndef QEFF_EXPORT_AIC_BUNDLE_H_
#define QEFF_EXPORT_AIC_BUNDLE_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/export/aic/compiler_options.h"
#include "qeff/export/aic/custom_io.h"
#include "qeff/export/aic/partition.h"
#include "qeff/export/aic/sdk_version.h"
#include "qeff/export/aic/specializations.h"
#include "qeff/util/json.h"

namespace qeff {

// An exported graph, as the compiler and its settings see it.
struct AicGraph {
  std::string onnx_path;
  // What tells the graph with its weights from any other: the export's hash.
  std::string identity;
  int64_t layers = 0;
  std::vector<AicNode> nodes;           // partition.h; for pipelines only
  std::vector<std::string> inputs;      // all names
  std::vector<std::string> outputs;     // all names
  std::vector<std::string> kv_inputs;   // past_key.0, past_value.0, ...
  std::vector<std::string> transforms;  // of the graph, in order
  Json model_config;                    // config.json
};

struct AicSettings {
  AicShapes shapes;
  KvPrecision kv_precision = KvPrecision::kFloat16;
  bool mxfp6_matmul = false;
  int64_t num_cores = 16;
  int64_t num_devices = 1;  // more than one: tensors are sliced
  int64_t stages = 1;       // more than one: a pipeline
  std::string hardware = "ai100";
  std::vector<CompilerOption> options;
  SdkVersions sdk;  // of the compiler; decides on file formats
  std::string qeff_version;
};

struct AicBundle {
  std::string hash;
  std::map<std::string, std::string> files;  // name -> content
  std::vector<std::string> arguments;        // of the compiler, in the folder
};

// Where the compiler writes, inside the bundle.
inline constexpr char kProgramFolder[] = "qpc";
inline constexpr char kProgramFile[] = "qpc/programqpc.bin";

// The bundle for `graph`, whose file lies in the folder above the bundle's. The
// same on every machine and in every folder. Errors: those of
// MakeSpecializations, Pipeline and FormOfSdk; kInvalidArgument naming what
// the graph lacks: an input that a shape needs, or the retained state of a
// cache input; for numbers of cores and devices below 1, and for options that
// name an unreadable file or a second partition.
absl::StatusOr<AicBundle> MakeAicBundle(const AicGraph& graph,
                                        const AicSettings& settings);

}  // namespace qeff

#endif  // QEFF_EXPORT_AIC_BUNDLE_H_
