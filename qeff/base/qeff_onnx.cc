// SPDX-License-Identifier: Apache-2.0

#include <string>

#include "qeff/base/qeff_auto_model.h"
#include "qeff/export/onnx/export_onnx.h"
#include "qeff/util/memory_guard.h"

namespace qeff {
namespace {

OnnxPooling PoolingOf(Pooling pooling) {
  switch (pooling) {
    case Pooling::kMean:
      return OnnxPooling::kMean;
    case Pooling::kLast:
      return OnnxPooling::kLast;
    case Pooling::kCls:
      return OnnxPooling::kCls;
  }
  return OnnxPooling::kNone;  // not reached
}

}  // namespace

absl::Status QEFFAutoModel::Export(Pooling pooling,
                                   const std::string& path) const {
  return GuardMemory([&] {
    return ExportHiddenStatesOnnx(transformer(), PoolingOf(pooling), path)
        .status();
  });
}

}  // namespace qeff
