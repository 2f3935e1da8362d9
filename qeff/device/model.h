// SPDX-License-Identifier: Apache-2.0
//
// A model as the device engine runs it: the description and the weights of
// every block, without names or files. qeff/compile makes one from a
// checkpoint.

#ifndef QEFF_DEVICE_MODEL_H_
#define QEFF_DEVICE_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "qeff/kernels/matmul_bf16/packed_bf16_layout.h"
#include "qeff/kernels/matmul_int/packed_int_layout.h"
#include "qeff/kernels/matvec/matvec.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/tensor/dtype.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Row after row of float32, bf16 or f16.
struct FloatRows {
  DType dtype = DType::kF32;
};

// Where the elements of a matrix are: rows as a checkpoint has them, at any
// alignment, or packed for the integer or bf16 product, 64-byte aligned.
using WeightLayout = std::variant<FloatRows, PackedIntLayout, PackedBF16Layout>;

// A matrix of weights in memory that `owner` keeps alive: an array of its own
// or a mapped file. Copies share the bytes. Thread-compatible; the bytes are
// never written.
struct DeviceMatrix {
  WeightLayout layout;
  int64_t rows = 0;
  int64_t cols = 0;
  absl::Span<const uint8_t> bytes;
  std::shared_ptr<const void> owner;
  // What the codes of its inputs are multiples of (QuantizeActivationsFixed); 0
  // for a scale of each token. With PackedIntLayout only.
  float input_scale = 0;

  bool empty() const { return bytes.empty(); }
  bool has_float_rows() const {
    return std::holds_alternative<FloatRows>(layout);
  }
  // All rows, for MatVec. Precondition: has_float_rows().
  WeightRows view() const {
    return WeightRows{std::get<FloatRows>(layout).dtype, bytes.data(), rows,
                      cols, cols};
  }
};

// Takes over a float32 matrix.
DeviceMatrix OwnedMatrix(Matrix<float> matrix);

// "F32", "BF16 packed", "int4 in groups of 32": how weights are kept.
std::string WeightLayoutName(const WeightLayout& layout);

// y = W x + b with W [out_features, in_features]; an empty bias is zero.
struct DeviceLinear {
  DeviceMatrix weight;
  std::vector<float> bias;
};

// An empty bias is zero.
struct DeviceNorm {
  std::vector<float> weight;
  std::vector<float> bias;
};

// What an int8 cache does to a key k of the block, as it is after norm and
// rotation, before it is rounded with one scale: (k - mean) / scale, for each
// channel [kv_size]; queries are multiplied by the scale. The mean changes all
// scores of a query by the same, which softmax does not see.
struct CachedKeys {
  std::vector<float> mean;
  std::vector<float> scale;

  bool empty() const { return mean.empty() && scale.empty(); }
  friend bool operator==(const CachedKeys& a, const CachedKeys& b) {
    return a.mean == b.mean && a.scale == b.scale;
  }
};

struct DeviceBlock {
  DeviceNorm attention_norm;
  DeviceNorm ffn_norm;
  std::vector<float> q_norm;  // [head_dim], with spec.qk_norm
  std::vector<float> k_norm;
  DeviceLinear q;          // [q_size, hidden_size]
  DeviceLinear k;          // [kv_size, hidden_size]
  DeviceLinear v;          // [kv_size, hidden_size]
  DeviceLinear o;          // [hidden_size, q_size]
  DeviceLinear gate;       // [ffn_size, hidden_size], with spec.gated_ffn
  DeviceLinear up;         // [ffn_size, hidden_size]
  DeviceLinear down;       // [hidden_size, ffn_size]
  CachedKeys cached_keys;  // empty: keys are rounded as they are
};

struct DeviceModel {
  TransformerSpec spec;
  DeviceMatrix token_embedding;  // [vocab_size, hidden_size] of FloatRows
  // [at least max_positions, hidden_size] of FloatRows, with
  // PositionKind::kLearned.
  DeviceMatrix position_embedding;
  std::vector<DeviceBlock> blocks;
  DeviceNorm final_norm;
  // [vocab_size, hidden_size]; empty where the token embedding serves as it
  // is, which spec.tied_lm_head allows.
  DeviceLinear lm_head;
};

// Checks the description (ValidateSpec) and that exactly the weights it asks
// for are there, in the right shapes and types and with as many bytes, and that
// norms, biases and cached_keys are finite. Values of matrices are not looked
// at. Errors: kInvalidArgument, naming the weight ("block 3 gate weight"),
// expected and found.
absl::Status ValidateModel(const DeviceModel& model);

}  // namespace qeff

#endif  // QEFF_DEVICE_MODEL_H_
