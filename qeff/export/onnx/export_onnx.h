// SPDX-License-Identifier: Apache-2.0
//
// A model as an ONNX file, with QEfficient's inputs and outputs
// (decoder_graph.h), and the weights beside it.

#ifndef QEFF_EXPORT_ONNX_EXPORT_ONNX_H_
#define QEFF_EXPORT_ONNX_EXPORT_ONNX_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/export/onnx/decoder_graph.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// A node of the graph, in topological order, and the block that it belongs to;
// -1: to none.
struct OnnxNodePlace {
  std::string name;
  int64_t block;
};

struct OnnxReport {
  // The weights are those of the checkpoint's own files.
  bool in_place = false;
  uint64_t graph_bytes = 0;
  uint64_t data_bytes = 0;  // of the file beside it; 0: there is none
  // Layers whose codes no operator takes: float32 in the file.
  std::vector<std::string> dequantized;
  std::vector<OnnxNodePlace> nodes;
  // How many nodes there are of each operator that is not a standard one: what
  // became of attention's cache, of norms and of quantized layers.
  std::map<std::string, int64_t> operators;
};

// Writes `path` and, for what the checkpoint's files do not hold as it is
// needed, `path`.data. Where `path` is in the model's own folder, whose weights
// are files and not symbolic links (which ONNX Runtime refuses), the graph
// refers to them; elsewhere they are copied. What was written is read back and
// compared before the files get their names. A graph alone replaces an old one
// at once. Of two files `path` goes first and comes last: it is complete or,
// for the moment in which the data is renamed, absent.
//
// Errors: those of Build*, kUnavailable of writing, and when what is read back
// is something else. Memory does not grow with the model.
absl::StatusOr<OnnxReport> ExportCausalLmOnnx(const Transformer& model,
                                              const CausalLmOptions& options,
                                              const std::string& path);
absl::StatusOr<OnnxReport> ExportHiddenStatesOnnx(const Transformer& model,
                                                  OnnxPooling pooling,
                                                  const std::string& path);

}  // namespace qeff

#endif  // QEFF_EXPORT_ONNX_EXPORT_ONNX_H_
