// SPDX-License-Identifier: Apache-2.0
//
// Tokens a second of training a model of a well-known shape on random tokens,
// beside the machine's peak of float32, measured in turn with the steps. The
// other side is torch_train.py; run.sh runs both. See README.md.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "qeff/distill/distill_objective.h"
#include "qeff/kernels/limits/machine_limits.h"
#include "qeff/kernels/sgemm/fma_peak.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/train/batch_source.h"
#include "qeff/train/train_step.h"
#include "qeff/train/trainable_weights.h"
#include "qeff/transformer/known_shapes.h"
#include "qeff/transformer/model_map.h"
#include "qeff/util/random.h"
#include "qeff/util/status.h"
#include "tools/flags.h"

namespace qeff {
namespace {

class RandomText : public BatchSource {
 public:
  RandomText(int64_t length, int64_t vocab) : length_(length), vocab_(vocab) {}

  absl::Status Get(int64_t index, TokenBatch* batch) override {
    Random random(1, static_cast<uint64_t>(index));
    batch->lengths.push_back(length_);
    int32_t id = Next(&random);
    for (int64_t i = 0; i < length_; ++i) {
      batch->ids.push_back(id);
      id = Next(&random);
      batch->labels.push_back(id);
    }
    batch->counted += length_;
    return absl::OkStatus();
  }

 private:
  int32_t Next(Random* random) const {
    return static_cast<int32_t>(
        random->NextBelow(static_cast<uint64_t>(vocab_)));
  }

  const int64_t length_, vocab_;
};

absl::Status Run(int argc, char** argv) {
  std::string shape = "llama-6m";
  TrainStepOptions options;
  int64_t threads = NumAvailableProcessors(), steps = 5;
  FlagTable flags;
  flags.Add("shape", &shape, "NAME", "The model's shape.");
  flags.Add("batch_size", &options.batch_size, "N", "Sequences of a step.");
  flags.Add("micro_batch_size", &options.micro_batch_size, "N",
            "Of these, how many run at a time.");
  flags.Add("sequence_length", &options.sequence_length, "N", "");
  flags.Add("recompute", &options.recompute, "",
            "Keeps the inputs of blocks only.");
  flags.Add("threads", &threads, "N", "");
  flags.Add("steps", &steps, "N", "Steps that are timed, after one.");
  QEFF_RETURN_IF_ERROR(
      flags.Parse(std::vector<std::string>(argv + 1, argv + argc)));
  QEFF_ASSIGN_OR_RETURN(const Json config, KnownShapeConfig(shape));
  QEFF_ASSIGN_OR_RETURN(
      const ModelMap map,
      MapConfig(config, shape, [](absl::string_view) { return false; }));
  QEFF_ASSIGN_OR_RETURN(const auto pool,
                        CreateThreadPool(static_cast<int>(threads)));
  ModelWeights initial = InitialWeights(map.spec, 1);
  const double parameters = static_cast<double>(CountElems(initial));
  QEFF_ASSIGN_OR_RETURN(const auto weights, TrainableWeights::Create(
                                                std::move(initial), {}, *pool));
  DistillOptions distill;
  distill.loss.logits.ce = 1;
  QEFF_ASSIGN_OR_RETURN(
      const auto objective,
      MakeDistillObjective(map.spec, nullptr, distill, nullptr, pool.get()));
  RandomText text(options.sequence_length, map.spec.vocab_size);
  options.schedule.total_steps = steps + 1;
  QEFF_ASSIGN_OR_RETURN(
      const auto step,
      TrainStep::Create(map.spec, options, weights.get(), objective.get(),
                        &text, nullptr, pool.get()));
  std::vector<double> rates, peaks;
  for (int64_t i = 0; i <= steps; ++i) {
    const absl::Time start = absl::Now();
    QEFF_ASSIGN_OR_RETURN(const StepReport report, step->Run(i));
    const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
    if (i == 0) continue;  // memory is new
    rates.push_back(static_cast<double>(report.tokens) / seconds);
    peaks.push_back(
        PeakRate(*pool, RunFusedMultiplyAdds, OperationsOfFusedMultiplyAdds()));
  }
  const double rate = Median(rates), peak = Median(peaks);
  std::printf(
      "{\"shape\": \"%s\", \"parameters\": %.0f, \"tokens_per_second\": %.0f, "
      "\"f32_peak_gflops\": %.0f, \"fraction_of_peak\": %.3f}\n",
      shape.c_str(), parameters, rate, peak / 1e9,
      6 * parameters * rate / peak);
  return absl::OkStatus();
}

}  // namespace
}  // namespace qeff

int main(int argc, char** argv) {
  const absl::Status status = qeff::Run(argc, argv);
  if (status.ok()) return 0;
  std::fprintf(stderr, "train_benchmark: %s\n",
               std::string(status.message()).c_str());
  return 1;
}
