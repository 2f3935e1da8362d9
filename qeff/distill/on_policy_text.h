// SPDX-License-Identifier: Apache-2.0
//
// Text that the student writes itself while it learns: a student that is only
// shown what others wrote never sees where its own mistakes lead.
//
// Source: Agarwal et al. 2023 (on-policy distillation, GKD), arXiv 2306.13649.

#ifndef QEFF_DISTILL_ON_POLICY_TEXT_H_
#define QEFF_DISTILL_ON_POLICY_TEXT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/train/batch_source.h"
#include "qeff/train/gradient_reducer.h"
#include "qeff/train/model_weights.h"
#include "qeff/train/shared_check.h"
#include "qeff/train/token_batch.h"
#include "qeff/transformer/model_map.h"
#include "qeff/util/json.h"

namespace qeff {

struct OnPolicyOptions {
  double share = 0;  // of the steps, in [0, 1]
  int64_t batch_size = 16;
  int64_t sequence_length = 256;
  // Tokens of the text that a sequence begins with, at most an eighth of it.
  int64_t prompt_tokens = 16;
  // Tokens to choose among: those below it.
  int64_t vocab_size = 0;
  uint64_t seed = 0;
};

// Sequences of `text`, but in some steps, chosen at random, continuations of
// their beginnings by the student, drawn from its distribution by the device
// engine. Prompts have no labels, and the batches say that they were generated.
// The same for the same weights, seed and steps, whatever ran before. Of
// several processes each has its share of the sequences written, and gets the
// others'.
class OnPolicyText : public BatchSource {
 public:
  // `map` and `config` are the student's. Borrows all; `reducer` may be null
  // for one process, and otherwise has ranks that divide batch_size. The
  // student lies in the new folder `scratch`, of this process alone, while it
  // writes.
  OnPolicyText(BatchSource* text, const ModelMap* map, const Json* config,
               const OnPolicyOptions& options, const std::string& scratch,
               GradientReducer* reducer, ThreadPool* pool)
      : text_(*text),
        map_(*map),
        config_(*config),
        options_(options),
        scratch_(scratch),
        reducer_(reducer),
        pool_(*pool) {}

  // Lets the student write, in its steps, asking `check` at each token. Errors:
  // those of writing the folder, of CompileInMemory, Engine::Create,
  // GenerateBatch, the check and the reducer; the same for all processes.
  absl::Status BeginStep(int64_t step, const ModelWeights& weights,
                         SharedCheck* check) override;

  absl::Status Get(int64_t index, TokenBatch* batch) override;

  // Whether the student writes the text of `step`.
  bool Writes(int64_t step) const;

 private:
  using Tokens = std::vector<int32_t>;

  // What the sequences of a step begin with.
  absl::StatusOr<std::vector<Tokens>> Prompts() const;
  // Continues prompts [begin, end).
  absl::Status Generate(const ModelWeights& weights,
                        const std::vector<Tokens>& prompts, size_t begin,
                        size_t end, SharedCheck* check,
                        std::vector<Tokens>* written) const;

  BatchSource& text_;
  const ModelMap& map_;
  const Json& config_;
  const OnPolicyOptions options_;
  const std::string scratch_;
  GradientReducer* const reducer_;
  ThreadPool& pool_;
  int64_t first_ = 0;                // index of written_[0]
  std::vector<TokenBatch> written_;  // a sequence each
};

}  // namespace qeff

#endif  // QEFF_DISTILL_ON_POLICY_TEXT_H_
