// SPDX-License-Identifier: Apache-2.0
//
// Writes a structurally pruned model block by block: whoever makes the blocks
// may change their weights before they are written.

#ifndef QEFF_PRUNE_STRUCTURED_PRUNED_WRITER_H_
#define QEFF_PRUNE_STRUCTURED_PRUNED_WRITER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/io/checkpoint_writer.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/prune/structured/pruned_config.h"
#include "qeff/prune/structured/structured_plan.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// Tensors keep the type that they are stored in (float32 where that is no
// F32, F16 or BF16). Not thread-safe. Errors of all functions: those of
// CheckpointWriter and of reading the model.
class PrunedWriter {
 public:
  // Begins the new folder `output`; nothing of it is left unless Commit
  // succeeds. `model`, `plan` (checked) and `config` must outlive the writer.
  static absl::StatusOr<std::unique_ptr<PrunedWriter>> Create(
      const Transformer& model, const StructuredPlan& plan,
      const PrunedConfig& config, const std::string& output);

  // Layer `layer` of the result, once each. Precondition (checked): weights
  // have the shapes of the result.
  absl::Status WriteBlock(int64_t layer, const BlockWeights& weights);

  // What stands before and behind the blocks, streamed. lm_head's rows are
  // multiplied by `projection` [hidden_size, kept channels], or, where that is
  // empty, lose the other channels; a tied one follows the embedding, which
  // does so always.
  absl::Status WriteEnds(const NormWeights& final_norm,
                         MatrixView<const float> projection, ThreadPool& pool);

  // Adds config.json and the other files of the model's folder, and gives the
  // folder its name. Errors: kUnavailable also when the model changed.
  absl::Status Commit();

 private:
  PrunedWriter(const Transformer& model, const StructuredPlan& plan,
               const PrunedConfig& config)
      : model_(model), plan_(plan), config_(config) {}

  absl::Status Declare(const std::string& name, const std::string& source,
                       const Shape& shape, std::vector<TensorInfo>* tensors);
  absl::Status DeclareNorm(const NormNames& names, const NormNames& sources,
                           int64_t size, std::vector<TensorInfo>* tensors);
  absl::StatusOr<std::vector<TensorInfo>> Tensors();
  absl::Status WriteNorm(const NormNames& names, const NormWeights& norm);
  absl::Status WriteLinear(const LinearModule& module,
                           const BlockWeights& weights);
  absl::Status WriteEmbedding(const std::string& name);
  absl::Status WriteLmHead(MatrixView<const float> projection,
                           ThreadPool& pool);
  absl::Status Write(const std::string& name, int64_t first_elem,
                     absl::Span<const float> values);

  const Transformer& model_;
  const StructuredPlan& plan_;
  const PrunedConfig& config_;
  std::unique_ptr<CheckpointWriter> writer_;
  absl::flat_hash_map<std::string, DType> types_;  // of the tensors
  std::vector<uint8_t> stored_;
};

}  // namespace qeff

#endif  // QEFF_PRUNE_STRUCTURED_PRUNED_WRITER_H_
