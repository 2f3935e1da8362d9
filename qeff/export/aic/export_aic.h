// SPDX-License-Identifier: Apache-2.0
//
// A model's graph in the cache, to be compiled for Cloud AI.

#ifndef QEFF_EXPORT_AIC_EXPORT_AIC_H_
#define QEFF_EXPORT_AIC_EXPORT_AIC_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/export/aic/bundle.h"
#include "qeff/export/onnx/decoder_graph.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

struct AicExport {
  AicGraph graph;
  bool from_cache = false;
  // Layers whose codes no operator takes (empty from the cache).
  std::vector<std::string> dequantized;
};

// The graph that can be compiled for `shapes`.
CausalLmOptions GraphFor(const AicShapes& shapes);

// Makes ROOT/ARCHITECTURE/ARCHITECTURE-HASH/ARCHITECTURE.onnx with its weights,
// or finds it there, complete. The hash is of config, all weights, `options`
// (but for the variant, which is the card's) and the versions of qeff and of
// this layout; reading the weights for it is the cost of a hit. Errors: those
// of ExportCausalLmOnnx, EntryBuilder and ReadAicGraph; kInvalidArgument when
// the architecture in config.json is no name for a folder.
absl::StatusOr<AicExport> ExportAic(const Transformer& model,
                                    const CausalLmOptions& options,
                                    const std::string& qeff_version,
                                    const std::string& root);

}  // namespace qeff

#endif  // QEFF_EXPORT_AIC_EXPORT_AIC_H_
