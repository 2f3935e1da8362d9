// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/read_graph.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "onnx/onnx.pb.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// What the compiler makes part of the graph that calls it.
constexpr int kMaxInlinedNodes = 99;

using Names = HashSet<std::string>;
using Functions = HashMap<std::string, const onnx::FunctionProto*>;

// The functions that are inlined. These two the compiler knows itself.
Functions InlinedFunctions(const onnx::ModelProto& model) {
  Functions inlined;
  for (const onnx::FunctionProto& function : model.functions()) {
    if (function.node_size() <= kMaxInlinedNodes &&
        function.name() != "CustomRMSNorm" &&
        function.name() != "CastToUInt4") {
      inlined[absl::StrCat(function.domain(), "::", function.name())] =
          &function;
    }
  }
  return inlined;
}

// Whether the compiler computes `node` beforehand, given what is constant.
bool IsFolded(const onnx::NodeProto& node, const Names& constants) {
  static constexpr absl::string_view kNever[] = {"Loop", "Const", "Identity",
                                                 "If", "DequantizeLinear"};
  return node.input_size() > 0 &&
         std::find(std::begin(kNever), std::end(kNever), node.op_type()) ==
             std::end(kNever) &&
         std::all_of(node.input().begin(), node.input().end(),
                     [&constants](const std::string& input) {
                       return input.empty() || constants.contains(input);
                     });
}

// -1 when the name says nothing of a block.
int64_t BlockOf(absl::string_view name) {
  for (absl::string_view part : absl::StrSplit(name, '/')) {
    for (const char* word : {"blocks.", "layers.", "h.", "layer_"}) {
      absl::string_view number = part;
      int32_t block;
      if (absl::ConsumePrefix(&number, word) &&
          absl::SimpleAtoi(number, &block) && block >= 0) {
        return block;
      }
    }
  }
  return -1;
}

void AddNode(const onnx::NodeProto& node, const Functions& inlined,
             std::vector<AicNode>* nodes) {
  if (node.name().empty()) return;
  const int64_t block = BlockOf(node.name());
  const auto function =
      inlined.find(absl::StrCat(node.domain(), "::", node.op_type()));
  if (function == inlined.end()) {
    nodes->push_back({node.name(), block});
    return;
  }
  for (const onnx::NodeProto& inner : function->second->node()) {
    if (inner.name().empty()) continue;
    nodes->push_back({absl::StrCat(node.name(), "/", inner.name()), block});
  }
}

absl::Status ReadNodes(const onnx::ModelProto& model, const std::string& path,
                       AicGraph* read) {
  Names known, constants;
  for (const auto& input : model.graph().input()) known.insert(input.name());
  for (const auto& weight : model.graph().initializer()) {
    constants.insert(weight.name());
    known.insert(weight.name());
  }
  const Functions inlined = InlinedFunctions(model);
  for (const onnx::NodeProto& node : model.graph().node()) {
    for (const std::string& input : node.input()) {
      if (input.empty() || known.contains(input)) continue;
      return InvalidInputError(path, ": node ", node.name(),
                               ": expected input ", input,
                               " from a node before it");
    }
    const bool folded = IsFolded(node, constants);
    for (const std::string& output : node.output()) {
      known.insert(output);
      if (folded || node.op_type() == "Constant") constants.insert(output);
    }
    if (!folded) AddNode(node, inlined, &read->nodes);
  }
  for (const AicNode& node : read->nodes) {
    read->layers = std::max(read->layers, node.block + 1);
  }
  return absl::OkStatus();
}

absl::StatusOr<onnx::ModelProto> ReadModel(const std::string& path) {
  QEFF_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
  onnx::ModelProto model;
  if (file->size_bytes() > std::numeric_limits<int>::max() ||
      !model.ParseFromArray(file->bytes().data(),
                            static_cast<int>(file->size_bytes())) ||
      model.graph().node().empty()) {
    return InvalidInputError(path,
                             ": expected an ONNX file below 2 GB, found "
                             "something else of ",
                             file->size_bytes(), " bytes");
  }
  return model;
}

}  // namespace

absl::StatusOr<AicGraph> ReadAicGraph(const std::string& path) {
  QEFF_ASSIGN_OR_RETURN(const onnx::ModelProto model, ReadModel(path));
  AicGraph read;
  read.onnx_path = path;
  for (const auto& input : model.graph().input()) {
    read.inputs.push_back(input.name());
  }
  for (const auto& output : model.graph().output()) {
    read.outputs.push_back(output.name());
    absl::string_view name = output.name();
    if (absl::ConsumeSuffix(&name, kRetainedStateSuffix)) {
      read.kv_inputs.emplace_back(name);
    }
  }
  QEFF_RETURN_IF_ERROR(ReadNodes(model, path, &read));
  return read;
}

}  // namespace qeff
