// SPDX-License-Identifier: Apache-2.0

#include <string>

#include "qeff/base/qeff_auto_model_for_causal_lm.h"
#include "qeff/export/aic/compile_aic.h"
#include "qeff/export/aic/export_aic.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Who makes what is in the cache when nobody says.
constexpr char kLibrary[] = "library";

}  // namespace

absl::StatusOr<std::string> QEFFAutoModelForCausalLM::Export(
    const std::string& cache_root) {
  return GuardMemory([&]() -> absl::StatusOr<std::string> {
    AicShapes shapes;
    shapes.ctx_len = 1;  // any: the graph is the same
    QEFF_ASSIGN_OR_RETURN(
        const AicExport exported,
        ExportAic(transformer(), shapes, kLibrary, cache_root));
    return exported.graph.onnx_path;
  });
}

absl::StatusOr<AicCompileResult> QEFFAutoModelForCausalLM::Compile(
    const std::string& cache_root, const AicCompileOptions& options) {
  return GuardMemory([&]() -> absl::StatusOr<AicCompileResult> {
    const AicSettings& settings = options.settings;
    QEFF_ASSIGN_OR_RETURN(
        const AicExport exported,
        ExportAic(
            transformer(), settings.shapes,
            settings.qeff_version.empty() ? kLibrary : settings.qeff_version,
            cache_root));
    return CompileAic(exported.graph, options);
  });
}

}  // namespace qeff
