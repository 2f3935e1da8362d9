// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/write_model.h"

#include <cstdint>
#include <utility>

#include "qeff/transformer/model_writer.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

const char* TorchName(DType dtype) {
  return dtype == DType::kF32   ? "float32"
         : dtype == DType::kF16 ? "float16"
                                : "bfloat16";
}

std::vector<TensorInfo> TensorsOf(const ModelMap& map, WriteTypes types) {
  HashSet<std::string> matrices;
  for (const BlockNames& block : map.blocks) {
    for (const LinearModule& linear : block.linears) {
      matrices.insert(linear.module + ".weight");
    }
  }
  return ModelTensors(map, [&](const std::string& name) {
    return matrices.contains(name) ? types.matrices : types.rest;
  });
}

}  // namespace

absl::Status WriteModel(const ModelMap& map, const ModelWeights& weights,
                        WriteTypes types, const Json& config,
                        const std::vector<CheckpointWriter::ExtraFile>& files,
                        std::shared_ptr<OutputFolder> folder) {
  QEFF_ASSIGN_OR_RETURN(
      std::unique_ptr<CheckpointWriter> checkpoint,
      CheckpointWriter::CreateIn(std::move(folder), TensorsOf(map, types)));
  ModelWriter writer(map, TensorsOf(map, types), std::move(checkpoint));
  for (size_t i = 0; i < weights.blocks.size(); ++i) {
    QEFF_RETURN_IF_ERROR(
        writer.WriteBlock(static_cast<int64_t>(i), weights.blocks[i]));
  }
  QEFF_RETURN_IF_ERROR(writer.WriteFinalNorm(weights.final_norm));
  QEFF_RETURN_IF_ERROR(writer.WriteTokens(0, weights.tokens.span()));
  if (!weights.positions.empty()) {
    QEFF_RETURN_IF_ERROR(writer.WritePositions(0, weights.positions.span()));
  }
  if (!weights.lm_head.empty()) {
    QEFF_RETURN_IF_ERROR(writer.WriteLmHead(0, weights.lm_head.span()));
  }
  Json with_type = config;
  with_type["torch_dtype"] = TorchName(types.rest);
  return writer.Commit(with_type, files);
}

}  // namespace qeff
