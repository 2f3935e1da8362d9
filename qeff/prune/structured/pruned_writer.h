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

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/prune/structured/pruned_config.h"
#include "qeff/prune/structured/structured_plan.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/model_writer.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/hash_map.h"

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

  // Of the tensors of the result: what they have in the model.
  absl::StatusOr<HashMap<std::string, DType>> Types() const;
  // Writes the rows of tensor `name` without the channels that go.
  absl::Status WriteEmbedding(
      const std::string& name,
      absl::Status (ModelWriter::*write)(int64_t, absl::Span<const float>));
  absl::Status WriteLmHead(MatrixView<const float> projection,
                           ThreadPool& pool);

  const Transformer& model_;
  const StructuredPlan& plan_;
  const PrunedConfig& config_;
  absl::optional<ModelWriter> writer_;
};

}  // namespace qeff

#endif  // QEFF_PRUNE_STRUCTURED_PRUNED_WRITER_H_
