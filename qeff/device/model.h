// SPDX-License-Identifier: Apache-2.0
//
// A model as the device engine runs it: the description and the weights of
// every block, without names or files. qeff/compile makes one from a
// checkpoint.

#ifndef QEFF_DEVICE_MODEL_H_
#define QEFF_DEVICE_MODEL_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "qeff/kernels/matvec/matvec.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/tensor/dtype.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// A contiguous row-major matrix of float32, bf16 or f16 weights, in memory
// that `owner` keeps alive: an array of its own or a mapped file. Copies share
// the bytes. Thread-compatible; the bytes are never written.
struct DeviceMatrix {
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  absl::Span<const uint8_t> bytes;  // any alignment
  std::shared_ptr<const void> owner;

  bool empty() const { return bytes.empty(); }
  // All rows, for MatVec.
  WeightRows view() const {
    return WeightRows{dtype, bytes.data(), rows, cols, cols};
  }
};

// Takes over a float32 matrix.
DeviceMatrix OwnedMatrix(Matrix<float> matrix);

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

struct DeviceBlock {
  DeviceNorm attention_norm;
  DeviceNorm ffn_norm;
  std::vector<float> q_norm;  // [head_dim], with spec.qk_norm
  std::vector<float> k_norm;
  DeviceLinear q;     // [q_size, hidden_size]
  DeviceLinear k;     // [kv_size, hidden_size]
  DeviceLinear v;     // [kv_size, hidden_size]
  DeviceLinear o;     // [hidden_size, q_size]
  DeviceLinear gate;  // [ffn_size, hidden_size], with spec.gated_ffn
  DeviceLinear up;    // [ffn_size, hidden_size]
  DeviceLinear down;  // [hidden_size, ffn_size]
};

struct DeviceModel {
  TransformerSpec spec;
  DeviceMatrix token_embedding;  // [vocab_size, hidden_size]
  // [at least max_positions, hidden_size], with PositionKind::kLearned.
  DeviceMatrix position_embedding;
  std::vector<DeviceBlock> blocks;
  DeviceNorm final_norm;
  // [vocab_size, hidden_size]; empty with spec.tied_lm_head, which uses the
  // token embedding.
  DeviceLinear lm_head;
};

// Checks the description (ValidateSpec) and that exactly the weights it asks
// for are there, in the right shapes and types and with as many bytes. Values
// are not looked at. Errors: kInvalidArgument, naming the weight ("block 3
// gate weight"), expected and found.
absl::Status ValidateModel(const DeviceModel& model);

}  // namespace qeff

#endif  // QEFF_DEVICE_MODEL_H_
