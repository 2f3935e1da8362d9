// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/onnx/decoder_graph.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "qeff/export/onnx/decoder_blocks.h"
#include "qeff/export/onnx/onnx_functions.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

using Value = OnnxGraph::Value;

std::string CacheName(const char* what, int64_t block) {
  return absl::StrCat("past_", what, ".", block);
}

}  // namespace

std::vector<std::string> CacheNames(const TransformerSpec& spec) {
  std::vector<std::string> names;
  for (int64_t block = 0; block < spec.num_layers; ++block) {
    names.push_back(CacheName("key", block));
    names.push_back(CacheName("value", block));
  }
  return names;
}

absl::Status BuildCausalLm(const Transformer& model,
                           const CausalLmOptions& options, OnnxGraph* graph,
                           OnnxData* data,
                           std::vector<std::string>* names_dequantized) {
  const TransformerSpec& spec = model.spec();
  const bool aic = options.variant == OnnxVariant::kAic;
  const bool slots = options.continuous_batching;
  graph->AddInput("input_ids", DType::kI64, {"batch_size", "seq_len"});
  graph->AddInput("position_ids", DType::kI64, {"batch_size", "seq_len"});
  const std::vector<OnnxDim> cache_dims = {
      slots ? "full_batch_size" : "batch_size", spec.num_kv_heads, "ctx_len",
      spec.head_dim};
  for (const std::string& name : CacheNames(spec)) {
    graph->AddInput(name, DType::kF32, cache_dims);
  }
  if (slots) graph->AddInput("batch_index", DType::kI64, {"batch_size", 1});
  if (options.compute_context_lengths) {
    graph->AddInput("comp_ctx_lengths", DType::kI64, {"comp_ctx_lengths"});
  }
  if (options.speculative_target) {
    graph->AddInput("num_logits_to_keep", DType::kI64,
                    {"num_logits_to_keep", 1});
  }

  // Slots 0 .. context - 1, and which of them nothing was written to.
  const Value shape =
      options.compute_context_lengths
          ? graph->Node("Shape", {"comp_ctx_lengths"}, "/cache/Shape")
          : graph->Node("Shape", {CacheNames(spec)[0]}, "/cache/Shape");
  const Value length = graph->Node(
      "Gather", {shape, graph->Int(options.compute_context_lengths ? 0 : 2)},
      "/cache/length");
  const Value range = graph->Node(
      "Range", {graph->Int(0), length, graph->Int(1)}, "/cache/Range");
  const Value all = Unsqueeze(graph, range, {0}, "/cache/all");  // [1, C]
  onnx::NodeProto* node;
  const Value last =
      graph->Node("ReduceMax", {"position_ids"}, "/cache/last", &node);
  SetAttribute("axes", absl::Span<const int64_t>({1}), node);
  SetAttribute("keepdims", int64_t{1}, node);
  const Value empty = graph->Node("Greater", {all, last}, "/cache/empty");
  constexpr int64_t kSkipped = std::numeric_limits<int32_t>::max();
  const Value indices = graph->Node(
      "Where", {empty, graph->Int(aic ? kSkipped : 0), all}, "/cache/Where");
  const Value gathered =
      Unsqueeze(graph, indices, {1}, "/cache/indices");  // [B, 1, C]
  const Value no_value =
      Unsqueeze(graph, empty, {1, 3}, "/cache/no_value");  // [B, 1, C, 1]
  Value written = "position_ids";
  if (slots) {
    const Value padding =
        graph->Node("Less", {written, graph->Int(0)}, "/cache/padding");
    written = graph->Node("Where",
                          {padding, graph->Int(aic ? kSkipped : -1), written},
                          "/cache/written");
  }

  DecoderBlocks decoder(&model, graph, data);
  decoder.SetPositions("position_ids", all, "");
  QEFF_ASSIGN_OR_RETURN(Value x, decoder.Embed("input_ids", "position_ids"));
  const auto scatter = [&](const Value& past, const Value& now,
                           const std::string& scope) {
    return slots ? graph->Node(kCacheDomain, "CtxScatterCB",
                               {past, "batch_index", written, now},
                               scope + "/CtxScatterCB")
                 : graph->Node(kCacheDomain, "CtxScatter", {past, written, now},
                               scope + "/CtxScatter");
  };
  const auto gather = [&](const Value& cache, const std::string& scope) {
    return slots ? graph->Node(kCacheDomain, "CtxGatherCB",
                               {cache, "batch_index", gathered},
                               scope + "/CtxGatherCB")
                 : graph->Node(kCacheDomain, "CtxGather", {cache, gathered},
                               scope + "/CtxGather");
  };
  std::vector<Value> retained;
  const auto see = [&](const Value& k, const Value& v, int64_t block,
                       const std::string& scope) {
    const auto write = [&](const char* what, const Value& now) {
      const std::string past = CacheName(what, block);
      const Value cache = graph->Rename(
          scatter(past, now, absl::StrCat(scope, "/attention/", what)),
          past + "_RetainedState");
      retained.push_back(cache);
      return gather(cache, absl::StrCat(scope, "/attention/", what));
    };
    DecoderBlocks::Seen seen;
    seen.keys = write("key", k);
    seen.values =
        graph->Node("Where", {no_value, graph->Float(0), write("value", v)},
                    scope + "/attention/value/Where");
    return seen;
  };
  for (int64_t block = 0; block < spec.num_layers; ++block) {
    QEFF_ASSIGN_OR_RETURN(x, decoder.Block(block, x, see));
  }

  // The row of the largest position, and those before it.
  Value row = graph->Node("ArgMax", {"position_ids"}, "/logits/ArgMax", &node);
  SetAttribute("axis", int64_t{1}, node);
  SetAttribute("keepdims", int64_t{1}, node);
  if (options.speculative_target) {
    const Value count_shape =
        graph->Node("Shape", {"num_logits_to_keep"}, "/logits/Shape");
    const Value count =
        graph->Node("Gather", {count_shape, graph->Int(0)}, "/logits/count");
    const Value back = graph->Node(
        "Range",
        {graph->Node("Sub", {graph->Int(1), count}, "/logits/first"),
         graph->Int(1), graph->Int(1)},
        "/logits/Range");
    row = graph->Node(
        "Max", {graph->Node("Add", {row, back}, "/logits/Add"), graph->Int(0)},
        "/logits/Max");
  }
  row = Unsqueeze(graph, row, {2}, "/logits/rows");  // [B, n, 1]
  x = graph->Node("GatherND", {x, row}, "/logits/GatherND", &node);
  SetAttribute("batch_dims", int64_t{1}, node);
  QEFF_ASSIGN_OR_RETURN(x, decoder.FinalNorm(x));
  QEFF_ASSIGN_OR_RETURN(x, decoder.LmHead(x));
  graph->AddOutput(graph->Rename(x, "logits"), DType::kF32,
                   {"batch_size",
                    options.speculative_target ? OnnxDim("num_logits_to_keep")
                                               : OnnxDim(int64_t{1}),
                    spec.vocab_size});
  for (const Value& cache : retained) {
    graph->AddOutput(cache, DType::kF32, cache_dims);
  }
  *names_dequantized = decoder.dequantized();
  return absl::OkStatus();
}

absl::Status BuildHiddenStates(const Transformer& model, OnnxPooling pooling,
                               OnnxGraph* graph, OnnxData* data,
                               std::vector<std::string>* names_dequantized) {
  const TransformerSpec& spec = model.spec();
  graph->AddInput("input_ids", DType::kI64, {"batch_size", "seq_len"});
  graph->AddInput("attention_mask", DType::kI64, {"batch_size", "seq_len"});
  const Value shape = graph->Node("Shape", {"input_ids"}, "/input/Shape");
  const Value length =
      graph->Node("Gather", {shape, graph->Int(1)}, "/input/length");
  const Value range = graph->Node(
      "Range", {graph->Int(0), length, graph->Int(1)}, "/input/Range");
  const Value row = Unsqueeze(graph, range, {0}, "/input/row");  // [1, S]
  const Value positions =
      graph->Node("Expand", {row, shape}, "/input/positions");
  const Value padding =
      graph->Node("Equal", {"attention_mask", graph->Int(0)}, "/input/padding");
  const Value hidden = Unsqueeze(graph, padding, {1}, "/input/hidden");

  DecoderBlocks decoder(&model, graph, data);
  decoder.SetPositions(positions, row, hidden);
  QEFF_ASSIGN_OR_RETURN(Value x, decoder.Embed("input_ids", positions));
  const auto see = [](const Value& k, const Value& v, int64_t,
                      const std::string&) {
    return DecoderBlocks::Seen{k, v};
  };
  for (int64_t block = 0; block < spec.num_layers; ++block) {
    QEFF_ASSIGN_OR_RETURN(x, decoder.Block(block, x, see));
  }
  QEFF_ASSIGN_OR_RETURN(x, decoder.FinalNorm(x));

  std::vector<OnnxDim> dims = {"batch_size", spec.hidden_size};
  onnx::NodeProto* node;
  switch (pooling) {
    case OnnxPooling::kNone:
      dims.insert(dims.begin() + 1, "seq_len");
      break;
    case OnnxPooling::kMean: {
      const Value mask =
          Cast(graph, "attention_mask", DType::kF32, "/pooling/mask");
      const Value column = Unsqueeze(graph, mask, {2}, "/pooling/column");
      const Value kept = graph->Node("Mul", {x, column}, "/pooling/kept");
      const Value sum = graph->Node("ReduceSum", {kept, graph->Ints({1})},
                                    "/pooling/sum", &node);
      SetAttribute("keepdims", int64_t{0}, node);
      const Value count = graph->Node("ReduceSum", {column, graph->Ints({1})},
                                      "/pooling/count", &node);
      SetAttribute("keepdims", int64_t{0}, node);
      x = graph->Node("Div", {sum, count}, "/pooling/Div");
      break;
    }
    case OnnxPooling::kLast: {
      const Value count =
          graph->Node("ReduceSum", {"attention_mask", graph->Ints({1})},
                      "/pooling/count", &node);
      SetAttribute("keepdims", int64_t{1}, node);
      const Value last =
          graph->Node("Sub", {count, graph->Int(1)}, "/pooling/last");
      x = graph->Node("GatherND", {x, last}, "/pooling/GatherND", &node);
      SetAttribute("batch_dims", int64_t{1}, node);
      break;
    }
    case OnnxPooling::kCls:
      x = graph->Node("Gather", {x, graph->Int(0)}, "/pooling/Gather", &node);
      SetAttribute("axis", int64_t{1}, node);
      break;
  }
  graph->AddOutput(graph->Rename(x, "output"), DType::kF32, dims);
  *names_dequantized = decoder.dequantized();
  return absl::OkStatus();
}

}  // namespace qeff
