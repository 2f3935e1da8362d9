// SPDX-License-Identifier: Apache-2.0
//
// Writes the weights of a model that is in memory, or that somebody makes
// block by block, to a checkpoint: under the names, and in the layout, that its
// family has for them.

#ifndef QEFF_TRANSFORMER_MODEL_WRITER_H_
#define QEFF_TRANSFORMER_MODEL_WRITER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "qeff/io/checkpoint_writer.h"
#include "qeff/tensor/dtype.h"
#include "qeff/transformer/model_map.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/hash_map.h"

namespace qeff {

// The layers that make up a stored layer of `role`, by rows: q, k and v of a
// fused matrix, otherwise one. Precondition: not kLmHead.
std::vector<const LinearWeights*> PartsOfLinear(LinearRole role,
                                                const BlockWeights& weights);

// The tensors of a model without quantized layers, of the types that
// type_of(name) says.
std::vector<TensorInfo> ModelTensors(
    const ModelMap& map,
    absl::FunctionRef<DType(const std::string& name)> type_of);

// Values are rounded to the type of their tensor. Everything is written once;
// CheckpointWriter::Commit refuses what is incomplete. Errors of all functions:
// those of CheckpointWriter::Write. Preconditions (checked): the sizes. Not
// thread-safe.
class ModelWriter {
 public:
  // `tensors` are those of ModelTensors, of F32, F16 or BF16. `map` must
  // outlive the writer.
  ModelWriter(const ModelMap& map, const std::vector<TensorInfo>& tensors,
              std::unique_ptr<CheckpointWriter> writer);

  absl::Status WriteBlock(int64_t block, const BlockWeights& weights);
  absl::Status WriteFinalNorm(const NormWeights& norm);

  // Rows [begin, begin + rows.size() / hidden_size) of the token embedding, of
  // learned positions, of lm_head (precondition: not tied).
  absl::Status WriteTokens(int64_t begin, absl::Span<const float> rows);
  absl::Status WritePositions(int64_t begin, absl::Span<const float> rows);
  absl::Status WriteLmHead(int64_t begin, absl::Span<const float> rows);

  // CheckpointWriter::Commit.
  absl::Status Commit(const Json& config,
                      const std::vector<CheckpointWriter::ExtraFile>& extra) {
    return writer_->Commit(config, extra);
  }

 private:
  absl::Status WriteNorm(const NormNames& names, const NormWeights& norm);
  absl::Status WriteLinear(const LinearModule& module,
                           const BlockWeights& weights);
  absl::Status WriteRows(const std::string& name, int64_t begin,
                         absl::Span<const float> rows);
  absl::Status Write(const std::string& name, int64_t first_elem,
                     absl::Span<const float> values);

  const ModelMap& map_;
  std::unique_ptr<CheckpointWriter> writer_;
  HashMap<std::string, DType> types_;  // of the tensors
  std::vector<uint8_t> stored_;
};

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_MODEL_WRITER_H_
