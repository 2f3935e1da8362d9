// SPDX-License-Identifier: Apache-2.0
//
// AutoRound as the solver of a walk: the layers of a block are solved by GPTQ,
// or rounded, first (gptq_solver.h), then tuned together (block_tuner.h), and
// only then written.

#ifndef QEFF_QUANT_AUTOROUND_SOLVER_H_
#define QEFF_QUANT_AUTOROUND_SOLVER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/calibration/layer_solver.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/io/checkpoint_writer.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/block_tuner.h"
#include "qeff/quant/gptq_solver.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/quant/quantize_report.h"
#include "qeff/transformer/model_map.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/json.h"

namespace qeff {

// What `best` tunes: with more bits a weight it has not been seen to gain, and
// more weights in blocks take longer than is bearable unasked, at about 20 s a
// million on two cores (README.md).
inline constexpr double kMostBitsForTuning = 4.6;
inline constexpr int64_t kMostWeightsForTuning = 30'000'000;

// Why layers of the blocks cannot be tuned, naming one: only those whose inputs
// stay in float can; empty when they can.
std::string WhyNotTuned(const ModelMap& map, const QuantizePlan& plan);

// Borrows its arguments. Not thread-safe. Precondition: WhyNotTuned is empty.
class AutoRoundSolver : public LayerSolver {
 public:
  // `first` solves the layers and writes lm_head; the rest is written here.
  AutoRoundSolver(const Transformer& model, const BlockTunerOptions& options,
                  GptqSolver* first, ThreadPool& pool);

  // As GptqSolver's.
  void set_writer(CheckpointWriter* writer);
  bool Writes(const std::string& name) const;
  uint64_t MemoryBytes(const TokenSample& sample) const;
  // Of tuning only.
  double Flops(const TokenSample& sample) const;

  // The blocks that are done, in order.
  const std::vector<BlockReport>& reports() const { return reports_; }

  bool Changes(const LinearModule& module) const override;
  bool WantsGaps() const override { return true; }
  bool WantsPrepare() const override { return first_.WantsPrepare(); }
  StatisticsOptions WantedToPrepare() const override {
    return first_.WantedToPrepare();
  }
  StatisticsOptions WantedToSolve() const override {
    return first_.WantedToSolve();
  }
  absl::Status Prepare(int64_t block, BlockInputs* inputs,
                       BlockWeights* norms) override;
  void Adjust(CalibratedLinear* layer) override { first_.Adjust(layer); }
  absl::Status Solve(absl::Span<CalibratedLinear* const> layers,
                     InputStatistics* inputs) override;
  absl::Status SolveLmHead(InputStatistics* inputs) override;
  bool WantsBlock() const override { return true; }
  absl::Status TuneBlock(const SolvedBlock& block) override;
  absl::StatusOr<Json> FinishStep() override;
  absl::Status Restore(int64_t step, const Json& state) override;

 private:
  // A layer of the block at hand.
  struct Layer {
    const PlannedTensor* tensor;
    std::unique_ptr<TunedLayer> tuned;
  };

  void Keep(const PlannedTensor& tensor, int64_t begin,
            MatrixView<const float> weights, const QuantizedRowBytes& rows);
  absl::Status WriteLayer(const Layer& layer);
  absl::Status WriteNorm(const std::string& name,
                         const std::vector<float>& values);
  absl::Status RestoreNorm(const std::string& name, const Json& checksum);

  const Transformer& model_;
  const BlockTunerOptions options_;
  GptqSolver& first_;
  ThreadPool& pool_;
  CheckpointWriter* writer_ = nullptr;
  HashMap<std::string, LinearRole> roles_;  // by module
  HashSet<std::string> norms_;              // of all blocks
  std::vector<Layer> layers_;
  std::vector<BlockReport> reports_;
  Json step_;  // what FinishStep adds
};

}  // namespace qeff

#endif  // QEFF_QUANT_AUTOROUND_SOLVER_H_
