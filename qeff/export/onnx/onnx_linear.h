// SPDX-License-Identifier: Apache-2.0
//
// Linear layers as ONNX computes them, by what the checkpoint holds:
//
//   F32, F16, BF16      Cast to float32, Transpose, MatMul
//   2, 4 or 8 bits,     MatMulNBits of com.microsoft (ONNX Runtime, and what
//   groups of 16k       QEfficient's graphs use): the codes as they are stored,
//                       groups (rows, too) in blocks of 16 to 256
//   w8a8_static         QuantizeLinear and DequantizeLinear of inputs and
//                       weights, Transpose, MatMul
//   all other codes     float32, dequantized when the file is written
//
// Inputs with a scale of each token are taken as they are.

#ifndef QEFF_EXPORT_ONNX_ONNX_LINEAR_H_
#define QEFF_EXPORT_ONNX_ONNX_LINEAR_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/export/onnx/onnx_data.h"
#include "qeff/export/onnx/onnx_graph.h"
#include "qeff/io/quantized_tensor.h"
#include "qeff/transformer/model_map.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/hash_map.h"

namespace qeff {

inline constexpr absl::string_view kMicrosoftDomain = "com.microsoft";

// Adds the weights of one model to one graph. Borrows all three. Not
// thread-safe.
class OnnxLinears {
 public:
  OnnxLinears(const Transformer* model, OnnxGraph* graph, OnnxData* data)
      : model_(model), graph_(graph), data_(data) {}

  // x W^T + b with the weights of `module`, nodes named after `scope`. Errors:
  // those of ReadQuantizedMatrix.
  absl::StatusOr<OnnxGraph::Value> Apply(const LinearModule& module,
                                         const OnnxGraph::Value& x,
                                         absl::string_view scope);

  // x E^T with the embedding's matrix: a tied lm_head.
  absl::StatusOr<OnnxGraph::Value> ApplyTied(const OnnxGraph::Value& x,
                                             absl::string_view scope);

  // The tensor `name` as float32.
  absl::StatusOr<OnnxGraph::Value> Tensor(const std::string& name);

  // Rows `ids` of the matrix `name` as float32.
  absl::StatusOr<OnnxGraph::Value> Rows(const std::string& name,
                                        const OnnxGraph::Value& ids,
                                        absl::string_view scope);

  // Names of the layers whose codes no operator takes, which are float32 in
  // the file.
  const std::vector<std::string>& dequantized() const { return dequantized_; }

 private:
  // The tensor as it is stored, which is floating.
  absl::StatusOr<OnnxGraph::Value> Stored(const std::string& name,
                                          DType* dtype);
  absl::StatusOr<OnnxGraph::Value> Quantized(const LinearModule& module,
                                             const OnnxGraph::Value& x,
                                             const std::string& scope);
  OnnxGraph::Value WithInputScale(float scale, const OnnxGraph::Value& x,
                                  const std::string& scope);
  OnnxGraph::Value MatMulNBits(
      const std::shared_ptr<const QuantizedMatrix>& matrix, int64_t block_elems,
      const OnnxGraph::Value& x, const std::string& scope);
  OnnxGraph::Value DequantizedRows(
      const std::shared_ptr<const QuantizedMatrix>& matrix,
      const std::string& scope);

  const Transformer* model_;
  OnnxGraph* graph_;
  OnnxData* data_;
  HashMap<std::string, OnnxGraph::Value> tensors_;
  HashMap<std::string, OnnxGraph::Value> as_float_;
  std::vector<std::string> dequantized_;
};

}  // namespace qeff

#endif  // QEFF_EXPORT_ONNX_ONNX_LINEAR_H_
