// SPDX-License-Identifier: Apache-2.0

#include "qeff/distill/on_policy_text.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/types/span.h"
#include "qeff/compile/compile_in_memory.h"
#include "qeff/device/batch_generate.h"
#include "qeff/device/engine.h"
#include "qeff/io/checkpoint.h"
#include "qeff/train/agreement.h"
#include "qeff/train/write_model.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/check.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/random.h"
#include "qeff/util/scratch_folder.h"
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

// Replaces `tokens` by those of process `root`.
absl::Status BroadcastTokens(int root, std::vector<int32_t>* tokens,
                             GradientReducer* reducer) {
  const auto bytes = AsBytes(absl::MakeConstSpan(*tokens));
  std::string text(bytes.begin(), bytes.end());
  QEFF_RETURN_IF_ERROR(BroadcastText(root, &text, reducer));
  tokens->resize(text.size() / sizeof(int32_t));
  std::memcpy(tokens->data(), text.data(), tokens->size() * sizeof(int32_t));
  return absl::OkStatus();
}

}  // namespace

bool OnPolicyText::Writes(int64_t step) const {
  Random random(Random(options_.seed, kChoice).At(static_cast<uint64_t>(step)));
  return random.NextDouble() < options_.share;
}

absl::Status OnPolicyText::BeginStep(int64_t step, const ModelWeights& weights,
                                     SharedCheck* check) {
  written_.clear();
  if (!Writes(step)) return absl::OkStatus();
  first_ = step * options_.batch_size;
  const size_t all = static_cast<size_t>(options_.batch_size);
  const size_t ranks =
      reducer_ == nullptr ? 1 : static_cast<size_t>(reducer_->size());
  const size_t rank =
      reducer_ == nullptr ? 0 : static_cast<size_t>(reducer_->rank());
  QEFF_CHECK(all % ranks == 0);
  const size_t share = all / ranks;
  std::vector<Tokens> prompts, written(all);
  // Also what is thrown: the others wait for this process.
  const absl::Status status = GuardMemory([&]() -> absl::Status {
    QEFF_ASSIGN_OR_RETURN(prompts, Prompts());
    return Generate(weights, prompts, rank * share, (rank + 1) * share, check,
                    &written);
  });
  QEFF_RETURN_IF_ERROR(check->Meet(status));
  for (size_t i = 0; i < all; ++i) {
    QEFF_RETURN_IF_ERROR(
        BroadcastTokens(static_cast<int>(i / share), &written[i], reducer_));
    written_.emplace_back();
    Append(prompts[i], written[i], &written_.back());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<OnPolicyText::Tokens>> OnPolicyText::Prompts()
    const {
  const int64_t most = std::max<int64_t>(
      std::min(options_.prompt_tokens, options_.sequence_length / 8), 1);
  std::vector<Tokens> prompts;
  for (int64_t i = 0; i < options_.batch_size; ++i) {
    TokenBatch sequence;
    QEFF_RETURN_IF_ERROR(text_.Get(first_ + i, &sequence));
    const int64_t length = std::min(most, sequence.lengths.front());
    prompts.emplace_back(sequence.ids.begin(), sequence.ids.begin() + length);
  }
  return prompts;
}

absl::Status OnPolicyText::Generate(const ModelWeights& weights,
                                    const std::vector<Tokens>& prompts,
                                    size_t begin, size_t end,
                                    SharedCheck* check,
                                    std::vector<Tokens>* written) const {
  QEFF_ASSIGN_OR_RETURN(const auto folder, ScratchFolder::Create(scratch_));
  QEFF_RETURN_IF_ERROR(
      WriteModel(map_, weights, DType::kBF16, config_, {}, folder));
  QEFF_ASSIGN_OR_RETURN(std::shared_ptr<const Checkpoint> checkpoint,
                        Checkpoint::Open(scratch_));
  QEFF_ASSIGN_OR_RETURN(const auto transformer,
                        Transformer::Load(std::move(checkpoint)));
  QEFF_RETURN_IF_ERROR(check->Check());
  CompileOptions compile;
  compile.lm_head = LmHeadRule::kKeep;
  QEFF_ASSIGN_OR_RETURN(std::shared_ptr<const DeviceModel> model,
                        CompileInMemory(*transformer, compile, &pool_));
  QEFF_RETURN_IF_ERROR(check->Check());
  EngineOptions engine_options;
  engine_options.context_length = options_.sequence_length + 1;
  engine_options.batch_size =
      std::min(kSlots, static_cast<int64_t>(end - begin));
  QEFF_ASSIGN_OR_RETURN(
      const std::unique_ptr<Engine> engine,
      Engine::Create(std::move(model), &pool_, engine_options));

  std::vector<BatchRequest> requests(end - begin);
  const Random seeds(options_.seed, kSampling);
  for (size_t i = 0; i < requests.size(); ++i) {
    const Tokens& prompt = prompts[begin + i];
    BatchRequest& request = requests[i];
    request.prompt = prompt;
    request.options.max_new_tokens =
        options_.sequence_length + 1 - static_cast<int64_t>(prompt.size());
    request.options.eos_token_ids = map_.spec.eos_token_ids;
    request.callbacks.on_token = [check](int32_t) { return check->Check(); };
    request.sampling.temperature = 1;
    request.sampling.seed = seeds.At(static_cast<uint64_t>(first_) + begin + i);
    request.vocab_size = options_.vocab_size;
  }
  const auto results = GenerateBatch(requests, engine.get());
  for (size_t i = 0; i < requests.size(); ++i) {
    QEFF_RETURN_IF_ERROR(results[i].status(), "on-policy text");
    (*written)[begin + i] = results[i]->tokens;
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
