// SPDX-License-Identifier: Apache-2.0

#include "qeff/distill/on_policy_text.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "qeff/compile/compile_in_memory.h"
#include "qeff/device/batch_generate.h"
#include "qeff/device/engine.h"
#include "qeff/io/checkpoint.h"
#include "qeff/train/write_model.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/random.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr int64_t kSlots = 16;
// Streams of random numbers, of which the step is the index.
constexpr uint64_t kChoice = 1, kSampling = 2;

// A prompt and what follows, as text to learn from.
void Append(const std::vector<int32_t>& prompt,
            const std::vector<int32_t>& written, TokenBatch* batch) {
  // The last token is a label only.
  std::vector<int32_t> all = prompt;
  all.insert(all.end(), written.begin(), written.end());
  for (size_t i = 0; i + 1 < all.size(); ++i) {
    batch->ids.push_back(all[i]);
    const bool predicts = i + 1 >= prompt.size();
    batch->labels.push_back(predicts ? all[i + 1] : TokenBatch::kNoLabel);
    batch->counted += predicts;
  }
  batch->lengths.push_back(static_cast<int64_t>(all.size()) - 1);
  batch->generated = true;
}

}  // namespace

bool OnPolicyText::Writes(int64_t step) const {
  Random random(Random(options_.seed, kChoice).At(static_cast<uint64_t>(step)));
  return random.NextDouble() < options_.share;
}

absl::Status OnPolicyText::BeginStep(int64_t step,
                                     const ModelWeights& weights) {
  written_.clear();
  if (!Writes(step)) return absl::OkStatus();
  const absl::Status status = Generate(step, weights);
  std::error_code ignored;
  std::filesystem::remove_all(scratch_, ignored);
  return status;
}

absl::Status OnPolicyText::Generate(int64_t step, const ModelWeights& weights) {
  std::error_code ignored;
  std::filesystem::remove_all(scratch_, ignored);
  QEFF_RETURN_IF_ERROR(
      WriteModel(map_, weights, DType::kBF16, config_, {}, scratch_));
  QEFF_ASSIGN_OR_RETURN(std::shared_ptr<const Checkpoint> checkpoint,
                        Checkpoint::Open(scratch_));
  QEFF_ASSIGN_OR_RETURN(const auto transformer,
                        Transformer::Load(std::move(checkpoint)));
  CompileOptions compile;
  compile.lm_head = LmHeadRule::kKeep;
  QEFF_ASSIGN_OR_RETURN(std::shared_ptr<const DeviceModel> model,
                        CompileInMemory(*transformer, compile, &pool_));
  EngineOptions engine_options;
  engine_options.context_length = options_.sequence_length + 1;
  engine_options.batch_size = std::min(kSlots, options_.batch_size);
  QEFF_ASSIGN_OR_RETURN(
      const std::unique_ptr<Engine> engine,
      Engine::Create(std::move(model), &pool_, engine_options));

  first_ = step * options_.batch_size;
  std::vector<std::vector<int32_t>> prompts;
  std::vector<BatchRequest> requests(static_cast<size_t>(options_.batch_size));
  const Random seeds(options_.seed, kSampling);
  const int64_t most = std::max<int64_t>(
      std::min(options_.prompt_tokens, options_.sequence_length / 8), 1);
  for (int64_t i = 0; i < options_.batch_size; ++i) {
    TokenBatch sequence;
    QEFF_RETURN_IF_ERROR(text_.Get(first_ + i, &sequence));
    const int64_t length = std::min(most, sequence.lengths.front());
    prompts.emplace_back(sequence.ids.begin(), sequence.ids.begin() + length);
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    BatchRequest& request = requests[i];
    request.prompt = prompts[i];
    request.options.max_new_tokens =
        options_.sequence_length + 1 - static_cast<int64_t>(prompts[i].size());
    request.options.eos_token_ids = map_.spec.eos_token_ids;
    request.sampling.temperature = 1;
    request.sampling.seed =
        seeds.At(static_cast<uint64_t>(first_) + static_cast<uint64_t>(i));
    request.vocab_size = options_.vocab_size;
  }
  const auto results = GenerateBatch(requests, engine.get());
  for (size_t i = 0; i < requests.size(); ++i) {
    QEFF_RETURN_IF_ERROR(results[i].status(), "on-policy text");
    written_.emplace_back();
    Append(prompts[i], results[i]->tokens, &written_.back());
  }
  return absl::OkStatus();
}

absl::Status OnPolicyText::Get(int64_t index, TokenBatch* batch) {
  const int64_t at = index - first_;
  if (at < 0 || at >= static_cast<int64_t>(written_.size())) {
    return text_.Get(index, batch);
  }
  const TokenBatch& from = written_[static_cast<size_t>(at)];
  batch->lengths.insert(batch->lengths.end(), from.lengths.begin(),
                        from.lengths.end());
  batch->ids.insert(batch->ids.end(), from.ids.begin(), from.ids.end());
  batch->labels.insert(batch->labels.end(), from.labels.begin(),
                       from.labels.end());
  batch->counted += from.counted;
  batch->generated = true;
  return absl::OkStatus();
}

}  // namespace qeff
