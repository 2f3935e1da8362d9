// SPDX-License-Identifier: Apache-2.0
//
// Scales of channels, AWQ's or SmoothQuant's, folded into a block: where they
// are searched, what is divided by them and what is multiplied. The pairs
// follow from the TransformerSpec:
//   first norm -> q, k, v      always
//   v -> o                     unless q, k and v are clipped; with grouped
//                              queries the heads of a group share their scales
//   second norm -> gate, up    always
//   up -> down                 with a gate: only there is down's input linear
//                              in up

#ifndef QEFF_QUANT_AWQ_FOLDS_H_
#define QEFF_QUANT_AWQ_FOLDS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/calibration/input_statistics.h"
#include "qeff/calibration/layer_solver.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/observer.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/hash_map.h"

namespace qeff {

// Which search gives the scales.
enum class FoldSearch : uint8_t { kAwq, kSmoothQuant };

struct FoldOptions {
  FoldSearch search = FoldSearch::kAwq;
  Observer observer = Observer::kMse;  // SmoothQuantOptions::observer
};

// Of one block at a time. Borrows its arguments. Not thread-safe.
class AwqFolds {
 public:
  AwqFolds(const Transformer& model, const QuantizePlan& plan, ThreadPool& pool,
           const FoldOptions& options = {});

  // What Search needs.
  StatisticsOptions Wanted() const;

  // Searches the scales of block `block`, whose inputs are `inputs`, and
  // divides `norms` by theirs, rounded to the type that they are stored in: the
  // scales follow, so that the fold is exact but for float32's rounding. Takes
  // the Hessians, if it wants them. A pair whose inputs are not finite is left
  // alone. Errors: those of reading the model.
  absl::Status Search(int64_t block, BlockInputs* inputs, BlockWeights* norms);

  // Whether `module`, of that block, was left alone because of its inputs.
  bool Skipped(const std::string& module) const {
    return skipped_.contains(module);
  }

  // Multiplies the columns of `layer`, of that block, and divides its rows and
  // bias.
  void Apply(CalibratedLinear* layer) const;

  // Tensors that the folds change besides quantized weights: norms of all
  // blocks, and biases of v and up. They are written with what Changed gives.
  bool Changes(const std::string& tensor) const {
    return changes_.contains(tensor);
  }

  // The tensors of the block, with their bytes in the type of the model's.
  struct ChangedTensor {
    std::string name;
    std::vector<uint8_t> bytes;
  };
  // Of the block that was searched last, once all its layers went through
  // Apply.
  absl::StatusOr<std::vector<ChangedTensor>> Changed(
      const BlockWeights& norms) const;

  // Names of what Changed gives for `block`.
  std::vector<std::string> NamesOf(int64_t block) const;

 private:
  struct Factors {
    std::vector<float> columns;  // empty: 1
    std::vector<float> rows;     // that rows are divided by; empty: 1
  };

  absl::StatusOr<std::vector<float>> SearchPair(
      const std::vector<LinearRole>& consumers,
      const std::vector<int64_t>& channel_of, int64_t channels,
      InputStatistics* inputs);
  void FoldNorm(const std::string& name, std::vector<float>* scales,
                NormWeights* norm) const;
  const LinearModule* Find(LinearRole role) const;
  absl::StatusOr<ChangedTensor> Store(const std::string& name,
                                      const std::vector<float>& values) const;

  const Transformer& model_;
  ThreadPool& pool_;
  const FoldOptions options_;
  HashMap<std::string, const PlannedTensor*> planned_;  // by module
  HashMap<std::string, int64_t> changes_;               // tensor -> block
  int64_t block_ = -1;
  HashSet<std::string> skipped_;  // modules of the block
  HashMap<LinearRole, Factors> factors_;
  mutable HashMap<std::string, std::vector<float>> biases_;
};

}  // namespace qeff

#endif  // QEFF_QUANT_AWQ_FOLDS_H_
