// SPDX-License-Identifier: Apache-2.0
//
// What a driver needs beside a model's blocks to run them.

#ifndef QEFF_PRUNE_STRUCTURED_MODEL_RUN_H_
#define QEFF_PRUNE_STRUCTURED_MODEL_RUN_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/host_block.h"
#include "qeff/transformer/host_scratch.h"
#include "qeff/transformer/rope.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// A HostBlockContext and what it borrows, for sequences as long as the
// sample's. Not thread-safe, not movable. `spec` and `scratch`, which several
// may share that do not run at once, must outlive it.
class ModelRun {
 public:
  ModelRun(const TransformerSpec& spec, const TokenSample& sample,
           HostScratch* scratch, ThreadPool* pool);
  ModelRun(const ModelRun&) = delete;
  ModelRun& operator=(const ModelRun&) = delete;

  const HostBlockContext& context() const { return context_; }
  HostScratch& scratch() const { return *context_.scratch; }
  const RopeTable& rope() const { return rope_; }
  const std::vector<float>& alibi() const { return alibi_; }

 private:
  RopeTable rope_;
  std::vector<float> alibi_;
  HostBlockContext context_;
};

// The inputs of the first block: [sample.tokens, hidden_size]. Errors: as
// Transformer::Embed.
absl::StatusOr<Matrix<float>> EmbedRows(const Transformer& model,
                                        const TokenSample& sample);

Matrix<float> CopyOf(MatrixView<const float> from);

}  // namespace qeff

#endif  // QEFF_PRUNE_STRUCTURED_MODEL_RUN_H_
