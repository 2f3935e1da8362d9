// SPDX-License-Identifier: Apache-2.0
//
// The tensors of a DeviceModel by number, in the order of a package: first
// every vector, then every matrix. The vectors are copied when a package is
// opened and so lie together; matrices stay where they are.

#ifndef QEFF_DEVICE_PACKAGE_MODEL_TENSORS_H_
#define QEFF_DEVICE_PACKAGE_MODEL_TENSORS_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "qeff/device/model.h"

namespace qeff {

// What a tensor is for. The numbers are part of the package format.
enum class TensorRole : uint8_t {
  kTokenEmbedding = 1,
  kPositionEmbedding = 2,
  kAttentionNormWeight = 3,
  kAttentionNormBias = 4,
  kFfnNormWeight = 5,
  kFfnNormBias = 6,
  kQNorm = 7,
  kKNorm = 8,
  kQWeight = 9,
  kQBias = 10,
  kKWeight = 11,
  kKBias = 12,
  kVWeight = 13,
  kVBias = 14,
  kOWeight = 15,
  kOBias = 16,
  kGateWeight = 17,
  kGateBias = 18,
  kUpWeight = 19,
  kUpBias = 20,
  kDownWeight = 21,
  kDownBias = 22,
  kFinalNormWeight = 23,
  kFinalNormBias = 24,
  kLmHeadWeight = 25,
  kLmHeadBias = 26,
  kCachedKeyMean = 27,
  kCachedKeyScale = 28,
};
inline constexpr int kMaxTensorRole = 28;

struct TensorId {
  TensorRole role;
  int64_t block;  // -1 outside of blocks
};

inline bool operator==(const TensorId& a, const TensorId& b) {
  return a.role == b.role && a.block == b.block;
}

// Whether tensors of this role belong to a block.
bool IsInBlock(TensorRole role);

// "block 3 gate weight", "token embedding".
std::string TensorName(const TensorId& id);

// Calls visit(id, &vector) for every vector that a model may have, in order.
// `Model` is DeviceModel or const DeviceModel.
template <class Model, class Visit>
void VisitVectors(Model* model, Visit visit) {
  using Role = TensorRole;
  for (size_t i = 0; i < model->blocks.size(); ++i) {
    auto& block = model->blocks[i];
    const int64_t b = static_cast<int64_t>(i);
    visit(TensorId{Role::kAttentionNormWeight, b},
          &block.attention_norm.weight);
    visit(TensorId{Role::kAttentionNormBias, b}, &block.attention_norm.bias);
    visit(TensorId{Role::kFfnNormWeight, b}, &block.ffn_norm.weight);
    visit(TensorId{Role::kFfnNormBias, b}, &block.ffn_norm.bias);
    visit(TensorId{Role::kQNorm, b}, &block.q_norm);
    visit(TensorId{Role::kKNorm, b}, &block.k_norm);
    visit(TensorId{Role::kQBias, b}, &block.q.bias);
    visit(TensorId{Role::kKBias, b}, &block.k.bias);
    visit(TensorId{Role::kVBias, b}, &block.v.bias);
    visit(TensorId{Role::kOBias, b}, &block.o.bias);
    visit(TensorId{Role::kGateBias, b}, &block.gate.bias);
    visit(TensorId{Role::kUpBias, b}, &block.up.bias);
    visit(TensorId{Role::kDownBias, b}, &block.down.bias);
    visit(TensorId{Role::kCachedKeyMean, b}, &block.cached_keys.mean);
    visit(TensorId{Role::kCachedKeyScale, b}, &block.cached_keys.scale);
  }
  visit(TensorId{Role::kFinalNormWeight, -1}, &model->final_norm.weight);
  visit(TensorId{Role::kFinalNormBias, -1}, &model->final_norm.bias);
  visit(TensorId{Role::kLmHeadBias, -1}, &model->lm_head.bias);
}

// Calls visit(id, &matrix) for every matrix that a model may have, in order.
template <class Model, class Visit>
void VisitMatrices(Model* model, Visit visit) {
  using Role = TensorRole;
  visit(TensorId{Role::kTokenEmbedding, -1}, &model->token_embedding);
  visit(TensorId{Role::kPositionEmbedding, -1}, &model->position_embedding);
  for (size_t i = 0; i < model->blocks.size(); ++i) {
    auto& block = model->blocks[i];
    const int64_t b = static_cast<int64_t>(i);
    visit(TensorId{Role::kQWeight, b}, &block.q.weight);
    visit(TensorId{Role::kKWeight, b}, &block.k.weight);
    visit(TensorId{Role::kVWeight, b}, &block.v.weight);
    visit(TensorId{Role::kOWeight, b}, &block.o.weight);
    visit(TensorId{Role::kGateWeight, b}, &block.gate.weight);
    visit(TensorId{Role::kUpWeight, b}, &block.up.weight);
    visit(TensorId{Role::kDownWeight, b}, &block.down.weight);
  }
  visit(TensorId{Role::kLmHeadWeight, -1}, &model->lm_head.weight);
}

}  // namespace qeff

#endif  // QEFF_DEVICE_PACKAGE_MODEL_TENSORS_H_
