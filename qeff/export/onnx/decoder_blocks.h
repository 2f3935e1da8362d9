// SPDX-License-Identifier: Apache-2.0
//
// The parts that every graph of a decoder has: embedding, blocks, last norm
// and lm_head. What keys and values a block attends to is the caller's.

#ifndef QEFF_EXPORT_ONNX_DECODER_BLOCKS_H_
#define QEFF_EXPORT_ONNX_DECODER_BLOCKS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "qeff/export/onnx/onnx_data.h"
#include "qeff/export/onnx/onnx_graph.h"
#include "qeff/export/onnx/onnx_linear.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// Adds parts of one model to one graph, and its weights to `data`. Borrows all
// three. Nodes are named "/blocks.N/attention/q/MatMul" and so on. Errors of
// its members: those of OnnxLinears. Not thread-safe.
class DecoderBlocks {
 public:
  using Value = OnnxGraph::Value;

  // What a block attends to, each [batch, kv_heads, context, head_dim].
  struct Seen {
    Value keys;
    Value values;
  };
  // From the keys and values of the tokens, [batch, kv_heads, seq, head_dim],
  // what `block` attends to; nodes are named after `scope`.
  using See = absl::FunctionRef<Seen(const Value& keys, const Value& values,
                                     int64_t block, const std::string& scope)>;

  DecoderBlocks(const Transformer* model, OnnxGraph* graph, OnnxData* data)
      : model_(*model),
        spec_(model->spec()),
        graph_(*graph),
        data_(*data),
        linears_(model, graph, data) {}

  // Tokens `ids` at `positions`, both [batch, seq]: [batch, seq, hidden].
  absl::StatusOr<Value> Embed(const Value& ids, const Value& positions);

  // Says who sees whom in all blocks: a token at positions [batch, seq] keys at
  // key_positions [1, context] up to its own and within the model's window.
  // `hidden` [batch, 1, context] is true for keys that nobody sees; "": none.
  void SetPositions(const Value& positions, const Value& key_positions,
                    const Value& hidden);

  // Block `block` of x [batch, seq, hidden]. After SetPositions.
  absl::StatusOr<Value> Block(int64_t block, const Value& x, See see);

  absl::StatusOr<Value> FinalNorm(const Value& x);
  absl::StatusOr<Value> LmHead(const Value& x);

  // As OnnxLinears'.
  const std::vector<std::string>& dequantized() const {
    return linears_.dequantized();
  }

 private:
  struct Heads {
    Value q;  // [batch, heads, seq, head_dim]
    Value k;  // [batch, kv_heads, seq, head_dim]
    Value v;
  };

  // cos or sin of the positions, [batch, 1, seq, head_dim / 2].
  Value RopeRows(const char* name, bool sine, const Value& positions);
  absl::StatusOr<Value> Norm(const NormNames& names, const Value& x,
                             const std::string& scope);
  absl::StatusOr<Heads> Project(const BlockNames& names, const Value& x,
                                const std::string& scope);
  // [batch, seq, heads * head_dim] as [batch, seq, heads, head_dim].
  Value ToHeads(const Value& x, int64_t heads, const std::string& scope);
  Value Clipped(const Value& x, const std::string& name);
  Value Rotate(const Value& x, const std::string& scope);
  // [batch, seq, heads * head_dim].
  Value Attend(const Value& q, const Seen& seen, const std::string& scope);
  Value Activate(const Value& x, const std::string& scope);
  absl::StatusOr<Value> FeedForward(const BlockNames& names, const Value& x,
                                    const std::string& scope);

  const Transformer& model_;
  const TransformerSpec& spec_;
  OnnxGraph& graph_;
  OnnxData& data_;
  OnnxLinears linears_;
  Value masked_;  // [batch, 1, 1, seq, context]
  Value bias_;    // [batch, kv_heads, group, seq, context], or ""
  Value cos_;
  Value sin_;
};

}  // namespace qeff

#endif  // QEFF_EXPORT_ONNX_DECODER_BLOCKS_H_
