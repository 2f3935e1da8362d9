// SPDX-License-Identifier: Apache-2.0
//
// What an optimizer changes, and how the weights that a model runs with follow
// from it: the weights themselves, low-rank adapters beside them, rounded to a
// type or to a scheme, with a mask of zeros.

#ifndef QEFF_TRAIN_TRAINABLE_WEIGHTS_H_
#define QEFF_TRAIN_TRAINABLE_WEIGHTS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/train/learned_scales.h"
#include "qeff/train/model_weights.h"

namespace qeff {

struct TrainableOptions {
  // The model runs with weights rounded to BF16; float32 ones are kept and
  // changed.
  bool bf16_weights = false;

  // The matrices of the blocks are rounded to this scheme (RoundToScheme), and
  // gradients pass the rounding as if it were not there ("straight through",
  // Bengio et al. 2013, arXiv 1308.3432).
  absl::optional<QuantScheme> scheme;

  // With a scheme of symmetric integers: scales are trained, too
  // (LearnedScales), instead of following from the largest weights.
  bool learn_scales = false;

  // Above 0: the weights stay, and the matrices W of the blocks get adapters,
  // W + (alpha / rank) B A with B [out, rank] and A [rank, in], which alone are
  // trained. A begins random, B with zeros.
  // Source: Hu et al. 2021 (LoRA), arXiv 2106.09685.
  int64_t lora_rank = 0;
  double lora_alpha = 16;
  uint64_t seed = 0;

  // Whether zeros are a mask (see below). Not where they are codes: of two bits
  // a third of all weights is 0, and none of them was pruned.
  bool keep_zeros = true;
};

// Weights of the blocks' matrices that are exactly 0 at the beginning stay 0
// with keep_zeros where they are at least 5 % of their matrix: a mask, not an
// accident.
//
// Not thread-safe. Methods throw std::bad_alloc.
class TrainableWeights {
 public:
  // The scheme must fit every matrix of the blocks (kInvalidArgument naming the
  // matrix and why not), and with learn_scales be one that can.
  static absl::StatusOr<std::unique_ptr<TrainableWeights>> Create(
      ModelWeights weights, const TrainableOptions& options, ThreadPool& pool);

  // What is trained, and its gradients, one for one. Borrowed.
  const std::vector<Parameter>& parameters() const { return parameters_; }
  const std::vector<Parameter>& gradients() const { return gradients_; }

  // Sets weights() as the parameters say.
  void Project(ThreadPool& pool);

  // What the model runs with, since the last Project.
  const ModelWeights& weights() const {
    return has_working_ ? working_ : base_;
  }

  // The weights before they are rounded to a type or scheme, with adapters and
  // mask: what is written. With adapters weights() changes until the next
  // Project.
  const ModelWeights& unrounded(ThreadPool& pool);

  // With learn_scales, the codes of unrounded() for a block's matrix, which are
  // its weights() exactly. Precondition: there is such a matrix.
  const LearnedScales& scales(int64_t block, LinearRole role) const;

  // Where gradients in weights() are added up; ZeroGradient sets it to 0.
  ModelWeights& weight_gradient() { return weight_gradient_; }
  std::vector<Parameter>& weight_gradients() { return weight_gradients_; }
  void ZeroGradient(ThreadPool& pool);

  // From weight_gradient() to gradients().
  void BackProject(ThreadPool& pool);

 private:
  struct Adapter {
    size_t index;  // of the matrix among all_
    Matrix<float> a, b, da, db;
  };

  explicit TrainableWeights(const TrainableOptions& options)
      : options_(options) {}

  // Of the adapters' products.
  float factor() const {
    return static_cast<float>(options_.lora_alpha /
                              static_cast<double>(options_.lora_rank));
  }

  void AddAdapters();
  void AddScales(ThreadPool& pool);
  void FindMasks();
  // working_ = base_ with adapters.
  void Merge(ThreadPool& pool);

  const TrainableOptions options_;
  ModelWeights base_, working_, weight_gradient_;
  bool has_working_ = false;
  std::vector<Parameter> all_, working_all_, weight_gradients_;
  std::vector<std::vector<bool>> masks_;  // of all_; empty: none
  std::vector<Adapter> adapters_;
  // With learn_scales of those of all_ that are rounded, else null.
  std::vector<std::unique_ptr<LearnedScales>> scales_;
  std::vector<Parameter> parameters_, gradients_;
  SgemmScratch products_;
};

// The values of `weights` [out, in] in `scheme`, as quantization to nearest
// stores weights of float32: with the scale rule of the scheme for integers,
// with its search for codebooks and ggml's blocks. `weights` are finite. The
// same bits for any number of threads.
void RoundToScheme(const QuantScheme& scheme, MatrixView<float> weights,
                   ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_TRAIN_TRAINABLE_WEIGHTS_H_
