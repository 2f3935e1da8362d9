// SPDX-License-Identifier: Apache-2.0
//
// The device engine as a model to evaluate: what is measured is what is
// deployed.

#ifndef QEFF_EVAL_ENGINE_MODEL_H_
#define QEFF_EVAL_ENGINE_MODEL_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "qeff/device/engine.h"
#include "qeff/eval/evaluate.h"

namespace qeff {

// Runs a sequence in slot 0 as its logits are asked for. Those of a sequence
// are to be asked for from front to back: going back runs it again.
class EngineLogitsModel : public LogitsModel {
 public:
  // The engine's context must hold the longest sequence but for its last token.
  explicit EngineLogitsModel(std::unique_ptr<Engine> engine)
      : engine_(std::move(engine)) {}

  int64_t vocab_size() const override {
    return engine_->model().spec.vocab_size;
  }
  absl::Status Run(absl::Span<const std::vector<int32_t>> sequences) override;
  absl::StatusOr<Matrix<float>> Logits(int64_t sequence, int64_t begin,
                                       int64_t rows) override;

 private:
  const std::unique_ptr<Engine> engine_;
  std::vector<std::vector<int32_t>> sequences_;
  int64_t running_ = -1;  // the sequence in the engine
};

}  // namespace qeff

#endif  // QEFF_EVAL_ENGINE_MODEL_H_
