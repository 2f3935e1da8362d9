// SPDX-License-Identifier: Apache-2.0
//
// Building the graph of an ONNX model, node by node. Every node has one
// output, named after the node.
//
//   OnnxGraph graph("model");
//   graph.AddInput("x", DType::kF32, {"batch", 8});
//   const std::string y = graph.Node("Relu", {"x"}, "/relu");
//   graph.AddOutput(graph.Rename(y, "y"), DType::kF32, {"batch", 8});

#ifndef QEFF_EXPORT_ONNX_ONNX_GRAPH_H_
#define QEFF_EXPORT_ONNX_ONNX_GRAPH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "onnx/onnx.pb.h"
#include "qeff/tensor/dtype.h"
#include "qeff/util/hash_map.h"

namespace qeff {

// The version of the standard operators that graphs here use.
inline constexpr int64_t kOnnxOpset = 17;

// A dimension: a number, or the name of one that is known when the graph runs.
struct OnnxDim {
  OnnxDim(int64_t value) : value(value) {}  // NOLINT: a dim by intent
  OnnxDim(const char* name) : value(-1), name(name) {}  // NOLINT
  int64_t value;
  std::string name;
};

// ONNX's number for an element type.
int OnnxType(DType dtype);

// Sets an attribute of `node`, which has none of that name.
void SetAttribute(absl::string_view name, int64_t value, onnx::NodeProto* node);
void SetAttribute(absl::string_view name, float value, onnx::NodeProto* node);
void SetAttribute(absl::string_view name, absl::Span<const int64_t> values,
                  onnx::NodeProto* node);

// Where the bytes of an initializer lie.
struct OnnxExternalData {
  std::string file;  // beside the model
  uint64_t offset_bytes = 0;
  uint64_t size_bytes = 0;
};

// Not thread-safe. Names of nodes, inputs and initializers must be unique
// (checked).
class OnnxGraph {
 public:
  // A value is known by its name.
  using Value = std::string;
  using Values = std::initializer_list<Value>;

  explicit OnnxGraph(absl::string_view name);

  void AddInput(absl::string_view name, DType dtype,
                absl::Span<const OnnxDim> dims);
  // Declares `value` an output of the graph.
  void AddOutput(const Value& value, DType dtype,
                 absl::Span<const OnnxDim> dims);

  // Adds a node of operator `op` and returns its output. "" stands for an
  // optional input that is left out. The node may be changed through `node`
  // until the next is added. Precondition: every input exists.
  Value Node(absl::string_view op, Values inputs, absl::string_view name,
             onnx::NodeProto** node = nullptr);
  // The same of an operator of another domain, which OnnxModel declares.
  Value Node(absl::string_view domain, absl::string_view op, Values inputs,
             absl::string_view name, onnx::NodeProto** node = nullptr);

  // Gives `value`, the output of the node that was added last, a name.
  Value Rename(const Value& value, absl::string_view name);

  // Constants inside the file: the same one for the same numbers.
  Value Int(int64_t value);                      // scalar
  Value Ints(absl::Span<const int64_t> values);  // [values.size()]
  Value Float(float value);                      // scalar

  // A tensor outside the file.
  Value External(absl::string_view name, DType dtype,
                 absl::Span<const int64_t> dims, const OnnxExternalData& data);
  // A tensor inside it.
  Value Internal(absl::string_view name, DType dtype,
                 absl::Span<const int64_t> dims,
                 absl::Span<const uint8_t> bytes);

  // Nodes added from now on belong to this block of the model; -1: to none.
  void SetBlock(int64_t block) { block_ = block; }
  // The block of every node, in order.
  const std::vector<int64_t>& blocks() const { return blocks_; }

  const onnx::GraphProto& proto() const { return graph_; }
  onnx::GraphProto* mutable_proto() { return &graph_; }

 private:
  void Declare(const Value& name);
  void CheckDeclared(const Value& name) const;

  onnx::GraphProto graph_;
  std::vector<int64_t> blocks_;
  int64_t block_ = -1;
  HashMap<std::string, bool> declared_;
  HashMap<std::string, Value> constants_;  // by their bytes
};

// Shorthands for what graphs are full of.
OnnxGraph::Value Cast(OnnxGraph* graph, const OnnxGraph::Value& x, DType to,
                      absl::string_view name);
OnnxGraph::Value Transpose(OnnxGraph* graph, const OnnxGraph::Value& x,
                           absl::Span<const int64_t> permutation,
                           absl::string_view name);
OnnxGraph::Value Concat(OnnxGraph* graph, OnnxGraph::Values parts, int64_t axis,
                        absl::string_view name);
OnnxGraph::Value Reshape(OnnxGraph* graph, const OnnxGraph::Value& x,
                         absl::Span<const int64_t> shape,
                         absl::string_view name);
OnnxGraph::Value Unsqueeze(OnnxGraph* graph, const OnnxGraph::Value& x,
                           absl::Span<const int64_t> axes,
                           absl::string_view name);

// The parts [0, sizes[0]), ... of `x` along `axis`, by Slice: a node has one
// output here.
std::vector<OnnxGraph::Value> SplitInto(OnnxGraph* graph,
                                        const OnnxGraph::Value& x, int64_t axis,
                                        absl::Span<const int64_t> sizes,
                                        absl::string_view name);

}  // namespace qeff

#endif  // QEFF_EXPORT_ONNX_ONNX_GRAPH_H_
