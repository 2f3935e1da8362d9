// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/onnx/onnx_functions.h"

#include <cstdint>
#include <initializer_list>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "qeff/export/onnx/onnx_graph.h"

namespace qeff {
namespace {

// A function under construction. Values are called by what they hold.
class Body {
 public:
  Body(absl::string_view domain, absl::string_view name,
       std::initializer_list<const char*> inputs) {
    function_.set_domain(std::string(domain));
    function_.set_name(std::string(name));
    for (const char* input : inputs) function_.add_input(input);
    function_.add_output("output");
    onnx::OperatorSetIdProto* const opset = function_.add_opset_import();
    opset->set_domain("");
    opset->set_version(kOnnxOpset);
  }

  onnx::NodeProto* Add(const char* op,
                       std::initializer_list<const char*> inputs,
                       const char* output) {
    onnx::NodeProto* const node = function_.add_node();
    // A compiler that makes the body part of the graph calls it CALL/nI.
    node->set_name(absl::StrCat("n", function_.node_size() - 1));
    node->set_op_type(op);
    for (const char* input : inputs) node->add_input(input);
    node->add_output(output);
    return node;
  }
  void Scalar(int64_t value, const char* output) {
    SetAttribute("value_int", value, Add("Constant", {}, output));
  }
  void Ints(absl::Span<const int64_t> values, const char* output) {
    SetAttribute("value_ints", values, Add("Constant", {}, output));
  }
  // output = [size of `axis` of the shape `shape`].
  void Size(const char* shape, const char* axis, const char* output) {
    Add("Gather", {shape, axis}, output);
  }
  // 0 .. size - 1 along `axes` new axes.
  void Range(const char* size, absl::Span<const int64_t> axes,
             const std::string& output) {
    const std::string count = output + "_count", line = output + "_line",
                      where = output + "_axes";
    Add("Squeeze", {size}, count.c_str());
    Add("Range", {"zero", count.c_str(), "one"}, line.c_str());
    Ints(axes, where.c_str());
    Add("Unsqueeze", {line.c_str(), where.c_str()}, output.c_str());
  }
  void Scalars() {
    Scalar(0, "zero");
    Scalar(1, "one");
    Ints({0}, "axis_0");
    Ints({1}, "axis_1");
    Ints({2}, "axis_2");
  }
  // output = [shape..., 3] of (batch, head, context) indices.
  void Indices(const char* shape, const char* batch, const char* context,
               const char* output) {
    Add("Expand", {batch, shape}, "batch_all");
    Add("Expand", {"heads", shape}, "heads_all");
    Add("Expand", {context, shape}, "context_all");
    SetAttribute(
        "axis", int64_t{3},
        Add("Concat", {"batch_all", "heads_all", "context_all"}, output));
  }

  onnx::FunctionProto& function() { return function_; }

 private:
  onnx::FunctionProto function_;
};

// `batches` names the tensor whose first axis is the batch.
onnx::FunctionProto Scatter(Body body, bool slots) {
  body.Scalars();
  body.Add("Shape", {"data"}, "data_shape");
  body.Add("Shape", {"position_ids"}, "ids_shape");
  body.Size("ids_shape", "axis_0", "batch_size");
  body.Size("data_shape", "axis_1", "num_heads");
  body.Size("ids_shape", "axis_1", "seq_len");
  SetAttribute(
      "axis", int64_t{0},
      body.Add("Concat", {"batch_size", "num_heads", "seq_len", "axis_1"},
               "indices_shape"));
  if (slots) {
    body.Ints({2, 3}, "slot_axes");
    body.Add("Unsqueeze", {"batch_index", "slot_axes"}, "batches");
  } else {
    body.Range("batch_size", {1, 2, 3}, "batches");
  }
  body.Range("num_heads", {0, 2, 3}, "heads");
  body.Ints({1, 3}, "position_axes");
  body.Add("Unsqueeze", {"position_ids", "position_axes"}, "positions");
  body.Indices("indices_shape", "batches", "positions", "indices");
  body.Add("ScatterND", {"data", "indices", "updates"}, "output");
  return body.function();
}

}  // namespace

onnx::FunctionProto CtxScatterFunction() {
  return Scatter(
      Body(kCacheDomain, "CtxScatter", {"data", "position_ids", "updates"}),
      /*slots=*/false);
}

onnx::FunctionProto CtxScatterCBFunction() {
  return Scatter(Body(kCacheDomain, "CtxScatterCB",
                      {"data", "batch_index", "position_ids", "updates"}),
                 /*slots=*/true);
}

onnx::FunctionProto CtxGatherFunction() {
  Body body(kCacheDomain, "CtxGather", {"data", "ctx_indices"});
  body.Scalars();
  body.Add("Shape", {"data"}, "data_shape");
  body.Add("Shape", {"ctx_indices"}, "ctx_shape");
  body.Size("data_shape", "axis_0", "batch_size");
  body.Size("data_shape", "axis_1", "num_heads");
  body.Size("ctx_shape", "axis_2", "count");
  SetAttribute(
      "axis", int64_t{0},
      body.Add("Concat", {"batch_size", "num_heads", "count"}, "shape"));
  body.Add("Expand", {"ctx_indices", "shape"}, "expanded");
  body.Ints({3}, "last_axis");
  body.Add("Unsqueeze", {"expanded", "last_axis"}, "indices");
  SetAttribute("batch_dims", int64_t{2},
               body.Add("GatherND", {"data", "indices"}, "output"));
  return body.function();
}

onnx::FunctionProto CtxGatherCBFunction() {
  Body body(kCacheDomain, "CtxGatherCB",
            {"data", "batch_index", "ctx_indices"});
  body.Scalars();
  body.Add("Shape", {"data"}, "data_shape");
  body.Add("Shape", {"ctx_indices"}, "ctx_shape");
  body.Size("ctx_shape", "axis_0", "batch_size");
  body.Size("data_shape", "axis_1", "num_heads");
  body.Size("ctx_shape", "axis_2", "count");
  SetAttribute(
      "axis", int64_t{0},
      body.Add("Concat", {"batch_size", "num_heads", "count", "axis_1"},
               "shape"));
  body.Ints({2, 3}, "slot_axes");
  body.Add("Unsqueeze", {"batch_index", "slot_axes"}, "batches");
  body.Range("num_heads", {0, 2, 3}, "heads");
  body.Ints({3}, "last_axis");
  body.Add("Unsqueeze", {"ctx_indices", "last_axis"}, "contexts");
  body.Indices("shape", "batches", "contexts", "indices");
  body.Add("GatherND", {"data", "indices"}, "output");
  return body.function();
}

onnx::FunctionProto CustomRMSNormFunction() {
  Body body(kNormDomain, "CustomRMSNorm", {"hidden_states", "weight"});
  body.function().add_attribute("epsilon");
  onnx::AttributeProto* const epsilon =
      body.Add("Constant", {}, "epsilon_value")->add_attribute();
  epsilon->set_name("value_float");
  epsilon->set_type(onnx::AttributeProto::FLOAT);
  epsilon->set_ref_attr_name("epsilon");
  body.Add("Mul", {"hidden_states", "hidden_states"}, "squares");
  SetAttribute("axes", absl::Span<const int64_t>({-1}),
               body.Add("ReduceMean", {"squares"}, "mean"));
  body.Add("Add", {"mean", "epsilon_value"}, "variance");
  body.Add("Sqrt", {"variance"}, "root");
  body.Add("Div", {"hidden_states", "root"}, "normalized");
  body.Add("Mul", {"weight", "normalized"}, "output");
  return body.function();
}

}  // namespace qeff
