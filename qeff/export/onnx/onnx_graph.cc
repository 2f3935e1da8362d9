// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/onnx/onnx_graph.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "qeff/util/check.h"
#include "qeff/util/output_file.h"

namespace qeff {
namespace {

void SetType(DType dtype, absl::Span<const OnnxDim> dims,
             onnx::ValueInfoProto* info) {
  onnx::TypeProto::Tensor* const type =
      info->mutable_type()->mutable_tensor_type();
  type->set_elem_type(OnnxType(dtype));
  for (const OnnxDim& dim : dims) {
    auto* const to = type->mutable_shape()->add_dim();
    if (dim.name.empty()) {
      to->set_dim_value(dim.value);
    } else {
      to->set_dim_param(dim.name);
    }
  }
}

onnx::AttributeProto* AddAttribute(absl::string_view name,
                                   onnx::AttributeProto::AttributeType type,
                                   onnx::NodeProto* node) {
  onnx::AttributeProto* const attribute = node->add_attribute();
  attribute->set_name(std::string(name));
  attribute->set_type(type);
  return attribute;
}

}  // namespace

int OnnxType(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return onnx::TensorProto::FLOAT;
    case DType::kF16:
      return onnx::TensorProto::FLOAT16;
    case DType::kBF16:
      return onnx::TensorProto::BFLOAT16;
    case DType::kF64:
      return onnx::TensorProto::DOUBLE;
    case DType::kI8:
      return onnx::TensorProto::INT8;
    case DType::kU8:
      return onnx::TensorProto::UINT8;
    case DType::kI16:
      return onnx::TensorProto::INT16;
    case DType::kI32:
      return onnx::TensorProto::INT32;
    case DType::kI64:
      return onnx::TensorProto::INT64;
    case DType::kBool:
      return onnx::TensorProto::BOOL;
    // Of a later version of the format.
    case DType::kF8E4M3:
    case DType::kF8E5M2:
      break;
  }
  QEFF_CHECK(false);
  return 0;
}

void SetAttribute(absl::string_view name, int64_t value,
                  onnx::NodeProto* node) {
  AddAttribute(name, onnx::AttributeProto::INT, node)->set_i(value);
}

void SetAttribute(absl::string_view name, float value, onnx::NodeProto* node) {
  AddAttribute(name, onnx::AttributeProto::FLOAT, node)->set_f(value);
}

void SetAttribute(absl::string_view name, absl::Span<const int64_t> values,
                  onnx::NodeProto* node) {
  onnx::AttributeProto* const attribute =
      AddAttribute(name, onnx::AttributeProto::INTS, node);
  for (const int64_t value : values) attribute->add_ints(value);
}

OnnxGraph::OnnxGraph(absl::string_view name) {
  graph_.set_name(std::string(name));
}

void OnnxGraph::Declare(const Value& name) {
  QEFF_CHECK(!name.empty() && declared_.emplace(name, true).second);
}

void OnnxGraph::CheckDeclared(const Value& name) const {
  QEFF_CHECK(name.empty() || declared_.contains(name));
}

void OnnxGraph::AddInput(absl::string_view name, DType dtype,
                         absl::Span<const OnnxDim> dims) {
  onnx::ValueInfoProto* const info = graph_.add_input();
  info->set_name(std::string(name));
  Declare(info->name());
  SetType(dtype, dims, info);
}

void OnnxGraph::AddOutput(const Value& value, DType dtype,
                          absl::Span<const OnnxDim> dims) {
  CheckDeclared(value);
  onnx::ValueInfoProto* const info = graph_.add_output();
  info->set_name(value);
  SetType(dtype, dims, info);
}

OnnxGraph::Value OnnxGraph::Node(absl::string_view op, Values inputs,
                                 absl::string_view name,
                                 onnx::NodeProto** node) {
  return Node("", op, inputs, name, node);
}

OnnxGraph::Value OnnxGraph::Node(absl::string_view domain, absl::string_view op,
                                 Values inputs, absl::string_view name,
                                 onnx::NodeProto** node) {
  onnx::NodeProto* const added = graph_.add_node();
  added->set_name(std::string(name));
  if (!domain.empty()) added->set_domain(std::string(domain));
  added->set_op_type(std::string(op));
  for (const Value& input : inputs) {
    CheckDeclared(input);
    added->add_input(input);
  }
  added->add_output(absl::StrCat(name, "_output_0"));
  Declare(added->output(0));
  blocks_.push_back(block_);
  if (node != nullptr) *node = added;
  return added->output(0);
}

OnnxGraph::Value OnnxGraph::Rename(const Value& value, absl::string_view name) {
  onnx::NodeProto* const last = graph_.mutable_node(graph_.node_size() - 1);
  QEFF_CHECK(last->output(0) == value);
  declared_.erase(value);
  last->set_output(0, std::string(name));
  Declare(last->output(0));
  return last->output(0);
}

OnnxGraph::Value OnnxGraph::Int(int64_t value) {
  const auto [it, added] =
      constants_.emplace(absl::StrCat("int ", value), Value());
  if (added) {
    it->second = Internal(absl::StrCat("int_", value), DType::kI64, {},
                          AsBytes(absl::MakeConstSpan(&value, 1)));
  }
  return it->second;
}

OnnxGraph::Value OnnxGraph::Ints(absl::Span<const int64_t> values) {
  std::string key = "ints";
  for (const int64_t value : values) absl::StrAppend(&key, "_", value);
  const auto [it, added] = constants_.emplace(key, Value());
  if (added) {
    it->second =
        Internal(key, DType::kI64, {static_cast<int64_t>(values.size())},
                 AsBytes(values));
  }
  return it->second;
}

OnnxGraph::Value OnnxGraph::Float(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const auto [it, added] =
      constants_.emplace(absl::StrCat("float ", bits), Value());
  if (added) {
    it->second =
        Internal(absl::StrCat("float_", absl::Hex(bits, absl::kZeroPad8)),
                 DType::kF32, {}, AsBytes(absl::MakeConstSpan(&value, 1)));
  }
  return it->second;
}

OnnxGraph::Value OnnxGraph::External(absl::string_view name, DType dtype,
                                     absl::Span<const int64_t> dims,
                                     const OnnxExternalData& data) {
  onnx::TensorProto* const tensor = graph_.add_initializer();
  tensor->set_name(std::string(name));
  Declare(tensor->name());
  tensor->set_data_type(OnnxType(dtype));
  for (const int64_t dim : dims) tensor->add_dims(dim);
  tensor->set_data_location(onnx::TensorProto::EXTERNAL);
  const auto add = [tensor](const char* key, std::string value) {
    onnx::StringStringEntryProto* const entry = tensor->add_external_data();
    entry->set_key(key);
    entry->set_value(std::move(value));
  };
  add("location", data.file);
  add("offset", absl::StrCat(data.offset_bytes));
  add("length", absl::StrCat(data.size_bytes));
  return tensor->name();
}

OnnxGraph::Value OnnxGraph::Internal(absl::string_view name, DType dtype,
                                     absl::Span<const int64_t> dims,
                                     absl::Span<const uint8_t> bytes) {
  onnx::TensorProto* const tensor = graph_.add_initializer();
  tensor->set_name(std::string(name));
  Declare(tensor->name());
  tensor->set_data_type(OnnxType(dtype));
  for (const int64_t dim : dims) tensor->add_dims(dim);
  tensor->set_raw_data(bytes.data(), bytes.size());
  return tensor->name();
}

OnnxGraph::Value Cast(OnnxGraph* graph, const OnnxGraph::Value& x, DType to,
                      absl::string_view name) {
  onnx::NodeProto* node;
  const OnnxGraph::Value y = graph->Node("Cast", {x}, name, &node);
  SetAttribute("to", int64_t{OnnxType(to)}, node);
  return y;
}

OnnxGraph::Value Transpose(OnnxGraph* graph, const OnnxGraph::Value& x,
                           absl::Span<const int64_t> permutation,
                           absl::string_view name) {
  onnx::NodeProto* node;
  const OnnxGraph::Value y = graph->Node("Transpose", {x}, name, &node);
  SetAttribute("perm", permutation, node);
  return y;
}

OnnxGraph::Value Concat(OnnxGraph* graph, OnnxGraph::Values parts, int64_t axis,
                        absl::string_view name) {
  onnx::NodeProto* node;
  const OnnxGraph::Value y = graph->Node("Concat", parts, name, &node);
  SetAttribute("axis", axis, node);
  return y;
}

OnnxGraph::Value Reshape(OnnxGraph* graph, const OnnxGraph::Value& x,
                         absl::Span<const int64_t> shape,
                         absl::string_view name) {
  return graph->Node("Reshape", {x, graph->Ints(shape)}, name);
}

OnnxGraph::Value Unsqueeze(OnnxGraph* graph, const OnnxGraph::Value& x,
                           absl::Span<const int64_t> axes,
                           absl::string_view name) {
  return graph->Node("Unsqueeze", {x, graph->Ints(axes)}, name);
}

std::vector<OnnxGraph::Value> SplitInto(OnnxGraph* graph,
                                        const OnnxGraph::Value& x, int64_t axis,
                                        absl::Span<const int64_t> sizes,
                                        absl::string_view name) {
  std::vector<OnnxGraph::Value> parts;
  int64_t begin = 0;
  for (const int64_t size : sizes) {
    parts.push_back(graph->Node(
        "Slice",
        {x, graph->Ints({begin}), graph->Ints({begin + size}),
         graph->Ints({axis})},
        parts.empty() ? name : absl::StrCat(name, "_", parts.size())));
    begin += size;
  }
  return parts;
}

}  // namespace qeff
