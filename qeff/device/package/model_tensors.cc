// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/package/model_tensors.h"

#include "absl/strings/str_cat.h"

namespace qeff {
namespace {

absl::string_view RoleName(TensorRole role) {
  static constexpr absl::string_view kNames[] = {"token embedding",
                                                 "position embedding",
                                                 "attention norm weight",
                                                 "attention norm bias",
                                                 "ffn norm weight",
                                                 "ffn norm bias",
                                                 "q norm",
                                                 "k norm",
                                                 "q weight",
                                                 "q bias",
                                                 "k weight",
                                                 "k bias",
                                                 "v weight",
                                                 "v bias",
                                                 "o weight",
                                                 "o bias",
                                                 "gate weight",
                                                 "gate bias",
                                                 "up weight",
                                                 "up bias",
                                                 "down weight",
                                                 "down bias",
                                                 "final norm weight",
                                                 "final norm bias",
                                                 "lm_head weight",
                                                 "lm_head bias",
                                                 "cached key mean",
                                                 "cached key scale"};
  static_assert(sizeof(kNames) / sizeof(kNames[0]) == kMaxTensorRole);
  return kNames[static_cast<int>(role) - 1];
}

}  // namespace

bool IsInBlock(TensorRole role) {
  return (role >= TensorRole::kAttentionNormWeight &&
          role <= TensorRole::kDownBias) ||
         role == TensorRole::kCachedKeyMean ||
         role == TensorRole::kCachedKeyScale;
}

std::string TensorName(const TensorId& id) {
  if (id.block < 0) return std::string(RoleName(id.role));
  return absl::StrCat("block ", id.block, " ", RoleName(id.role));
}

}  // namespace qeff
