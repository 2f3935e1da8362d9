// SPDX-License-Identifier: Apache-2.0
//
// A model's graph in the cache, to be compiled for Cloud AI.
//
//   AicCompileOptions options;
//   options.settings.shapes.ctx_len = 2048;
//   auto exported = ExportAic(*model, options.settings.shapes, "1.0", cache);
//   auto program = CompileAic(exported->graph, options);  // program->folder

#ifndef QEFF_EXPORT_AIC_EXPORT_AIC_H_
#define QEFF_EXPORT_AIC_EXPORT_AIC_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/export/aic/bundle.h"
#include "qeff/export/aic/specializations.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

struct AicExport {
  AicGraph graph;
  bool from_cache = false;
  // Layers whose codes no operator takes (empty from the cache).
  std::vector<std::string> dequantized;
};

// Makes ROOT/ARCHITECTURE/ARCHITECTURE-HASH/ARCHITECTURE.onnx with its weights,
// or finds it there, complete. Of `shapes` only what the graph has inputs for
// counts: continuous batching, a target of speculative decoding, computed
// contexts. The hash is of that, of config and all weights, and of the versions
// of qeff and of this layout; reading the weights for it is the cost of a hit.
// Errors: those of ExportCausalLmOnnx, EntryBuilder and ReadAicGraph;
// kInvalidArgument when the model has no positions for ctx_len tokens.
absl::StatusOr<AicExport> ExportAic(const Transformer& model,
                                    const AicShapes& shapes,
                                    const std::string& qeff_version,
                                    const std::string& root);

}  // namespace qeff

#endif  // QEFF_EXPORT_AIC_EXPORT_AIC_H_
