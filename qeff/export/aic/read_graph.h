// SPDX-License-Identifier: Apache-2.0
//
// What a compilation must know of an ONNX file, read from the file itself: so
// that names are the graph's, whoever exported it and when.

#ifndef QEFF_EXPORT_AIC_READ_GRAPH_H_
#define QEFF_EXPORT_AIC_READ_GRAPH_H_

#include <string>

#include "absl/status/statusor.h"
#include "qeff/export/aic/bundle.h"

namespace qeff {

// Inputs, outputs, cache inputs (those with a retained state among the outputs,
// in the outputs' order) and nodes of the graph at `path`; its identity and
// model_config are the caller's. Nodes are as partition.h wants them: without
// those that the compiler folds, because all that they read is constant, calls
// of functions with less than 100 nodes as CALL/NODE, and nodes without a name
// left out. A node's block is the number in a part of its name like
// "blocks.7", "layers.7" or "h.7", and there are as many layers as the largest
// says. Weights are not read. Errors: kNotFound, kUnavailable; kInvalidArgument
// when the file is no ONNX file, too large for one, or not in topological
// order. Source for folding and functions: QEfficient 1.23,
// compile/mdp_generator.py.
absl::StatusOr<AicGraph> ReadAicGraph(const std::string& path);

}  // namespace qeff

#endif  // QEFF_EXPORT_AIC_READ_GRAPH_H_
