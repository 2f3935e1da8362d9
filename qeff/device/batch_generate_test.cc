// SPDX-License-Identifier: Apache-2.0
//
// Every request against Generate for it alone, bit by bit.

#include "qeff/device/batch_generate.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "qeff/device/generate.h"
#include "qeff/device/reference_model.h"
#include "qeff/parallel/thread_pool.h"

namespace qeff {
namespace {

constexpr int64_t kContext = 24;

struct Job {
  std::vector<int32_t> prompt;
  GenerateOptions options;
  SamplerOptions sampling;
};

std::string TextOf(int32_t token) { return absl::StrCat(token, " "); }

Job MakeJob(std::vector<int32_t> prompt, int64_t max_new_tokens) {
  Job job;
  job.prompt = std::move(prompt);
  job.options.max_new_tokens = max_new_tokens;
  return job;
}

class BatchGenerateTest : public ::testing::Test {
 protected:
  std::unique_ptr<Engine> MakeEngine(int64_t slots, int64_t chunk = 4,
                                     ThreadPool* pool = nullptr) {
    EngineOptions options;
    options.context_length = kContext;
    options.batch_size = slots;
    options.prefill_chunk = chunk;
    return *Engine::Create(model_, pool == nullptr ? pool_.get() : pool,
                           options);
  }

  absl::StatusOr<GenerateResult> Alone(const Job& job) {
    const auto engine = MakeEngine(1);
    auto sampler = Sampler::Create(job.sampling, 50);
    if (!sampler.ok()) return sampler.status();
    GenerateCallbacks callbacks;
    callbacks.decode = [](int32_t token) { return TextOf(token); };
    return Generate(job.prompt, job.options, callbacks, engine.get(),
                    &*sampler);
  }

  // Seven of different lengths, one for each way to end, and one that samples.
  std::vector<Job> MakeJobs() {
    std::vector<Job> jobs = {MakeJob({1, 2, 3}, 5),
                             MakeJob({9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 11}, 9),
                             MakeJob({4}, 1),
                             MakeJob({5, 6}, 12),
                             MakeJob({20, 21, 22, 23, 24}, 1000),
                             MakeJob({30, 31}, 12),
                             MakeJob({7, 7, 7, 7, 7, 7, 7}, 10)};
    jobs[1].sampling.temperature = 1.5;
    jobs[1].sampling.top_k = 20;
    jobs[1].sampling.seed = 7;
    // A stop string and an end that their own text has.
    jobs[3].options.stop_strings = {TextOf(Alone(jobs[3])->tokens[4])};
    jobs[5].options.eos_token_ids = {Alone(jobs[5])->tokens[3]};
    jobs[6].sampling.temperature = 0.8;
    jobs[6].sampling.repetition_penalty = 1.3;
    return jobs;
  }

  std::vector<BatchRequest> Requests(const std::vector<Job>& jobs) {
    std::vector<BatchRequest> requests(jobs.size());
    for (size_t i = 0; i < jobs.size(); ++i) {
      requests[i].prompt = jobs[i].prompt;
      requests[i].options = jobs[i].options;
      requests[i].sampling = jobs[i].sampling;
      requests[i].callbacks.decode = [](int32_t token) {
        return TextOf(token);
      };
    }
    return requests;
  }

  static void ExpectSame(const absl::StatusOr<GenerateResult>& found,
                         const absl::StatusOr<GenerateResult>& expected) {
    ASSERT_TRUE(expected.ok()) << expected.status();
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->tokens, expected->tokens);
    EXPECT_EQ(found->text, expected->text);
    EXPECT_EQ(found->finish_reason, expected->finish_reason);
    EXPECT_EQ(found->timing.prompt_tokens, expected->timing.prompt_tokens);
    EXPECT_EQ(found->timing.generated_tokens,
              expected->timing.generated_tokens);
  }

  const std::shared_ptr<DeviceModel> model_ = RandomModel(SmallSpec(), 1);
  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(1);
};

TEST_F(BatchGenerateTest, EveryRequestIsAsAlone) {
  const std::vector<Job> jobs = MakeJobs();
  const std::vector<FinishReason> reasons = {
      FinishReason::kMaxNewTokens, FinishReason::kMaxNewTokens,
      FinishReason::kMaxNewTokens, FinishReason::kStopString,
      FinishReason::kContextFull,  FinishReason::kEndOfSequence,
      FinishReason::kMaxNewTokens};
  std::vector<absl::StatusOr<GenerateResult>> alone;
  for (size_t i = 0; i < jobs.size(); ++i) {
    alone.push_back(Alone(jobs[i]));
    ASSERT_EQ(alone[i]->finish_reason, reasons[i]) << i;
  }
  const std::unique_ptr<ThreadPool> threads = *CreateThreadPool(3);
  for (const int64_t slots : {1, 2, 3, 7, 9}) {
    for (const int64_t chunk : {1, 2, 4, 32}) {
      SCOPED_TRACE(absl::StrCat(slots, " slots, chunk ", chunk));
      const auto engine = MakeEngine(slots, chunk, threads.get());
      // What slots had before does not matter.
      ASSERT_TRUE(engine->Run({{slots - 1, {1, 2, 3, 4}}}).ok());
      for (int round = 0; round < 2; ++round) {
        const auto results = GenerateBatch(Requests(jobs), engine.get());
        ASSERT_EQ(results.size(), jobs.size());
        for (size_t i = 0; i < jobs.size(); ++i) {
          ExpectSame(results[i], alone[i]);
        }
      }
    }
  }
}

TEST_F(BatchGenerateTest, TheOrderOfRequestsDoesNotMatter) {
  std::vector<Job> jobs = MakeJobs();
  std::reverse(jobs.begin(), jobs.end());
  std::rotate(jobs.begin(), jobs.begin() + 2, jobs.end());
  const auto engine = MakeEngine(2);
  const auto results = GenerateBatch(Requests(jobs), engine.get());
  for (size_t i = 0; i < jobs.size(); ++i) {
    ExpectSame(results[i], Alone(jobs[i]));
  }
}

TEST_F(BatchGenerateTest, OthersDecodeWhileAPromptIsRead) {
  // The second prompt takes four steps of three tokens beside the first
  // sequence, which goes on meanwhile.
  const std::vector<Job> jobs = {
      MakeJob({1}, 10), MakeJob({9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 11, 12}, 2)};
  std::vector<BatchRequest> requests = Requests(jobs);
  std::string order;
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].callbacks.on_token = [&order, i](int32_t) {
      order += static_cast<char>('a' + i);
      return absl::OkStatus();
    };
    requests[i].on_done = [&order, i](const absl::StatusOr<GenerateResult>&) {
      order += static_cast<char>('A' + i);
    };
  }
  const auto engine = MakeEngine(2);
  GenerateBatch(requests, engine.get());
  EXPECT_EQ(order, "aaaababBaaaaaA");
}

TEST_F(BatchGenerateTest, ErrorsOfOneDoNotEndTheOthers) {
  std::vector<Job> jobs = MakeJobs();
  const std::vector<Job> good = jobs;
  jobs[0].prompt = {};
  jobs[1].prompt = {1, 50};
  jobs[2].prompt.assign(kContext + 1, 1);
  jobs[3].options.max_new_tokens = 0;
  jobs[4].sampling.top_p = 2;
  std::vector<BatchRequest> requests = Requests(jobs);
  requests[5].callbacks.on_token = [](int32_t) {
    return absl::CancelledError("enough");
  };
  int calls = 0;
  for (BatchRequest& request : requests) {
    request.on_done = [&](const absl::StatusOr<GenerateResult>&) { ++calls; };
  }
  const auto engine = MakeEngine(2);
  auto results = GenerateBatch(requests, engine.get());
  EXPECT_EQ(calls, 7);
  EXPECT_EQ(results[0].status().message(), "prompt: it has no tokens");
  EXPECT_EQ(results[1].status().message(),
            "token 1: expected an id from 0 to 49, found 50");
  EXPECT_EQ(results[2].status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(results[3].status().message(),
            "max_new_tokens: expected at least 1, found 0");
  EXPECT_EQ(results[4].status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(results[5].status().message(), "enough");
  ExpectSame(results[6], Alone(good[6]));

  // Beside one that fails in the middle.
  requests = Requests(good);
  int tokens = 0;
  requests[1].callbacks.on_token = [&tokens](int32_t) {
    return ++tokens < 4 ? absl::OkStatus() : absl::CancelledError("now");
  };
  requests[2].vocab_size = 51;
  results = GenerateBatch(requests, engine.get());
  EXPECT_EQ(results[1].status().message(), "now");
  EXPECT_EQ(results[2].status().message(),
            "vocab_size: expected 0 to 50, found 51");
  for (const size_t i : {0, 3, 4, 5, 6}) ExpectSame(results[i], Alone(good[i]));
}

TEST_F(BatchGenerateTest, ASmallerVocabularyAndNoRequests) {
  const std::vector<Job> jobs = {MakeJob({1, 2, 3}, 8)};
  std::vector<BatchRequest> requests = Requests(jobs);
  requests[0].vocab_size = 5;
  const auto engine = MakeEngine(1);
  const auto results = GenerateBatch(requests, engine.get());
  ASSERT_TRUE(results[0].ok()) << results[0].status();
  for (const int32_t token : results[0]->tokens) EXPECT_LT(token, 5);
  EXPECT_TRUE(GenerateBatch({}, engine.get()).empty());
}

TEST_F(BatchGenerateTest, TimesBeginWithTheSlot) {
  const std::vector<Job> jobs = {MakeJob({1}, 3), MakeJob({2}, 3)};
  std::vector<BatchRequest> requests = Requests(jobs);
  double now = 0;
  for (BatchRequest& request : requests) {
    request.callbacks.now_seconds = [&now] { return now++; };
  }
  const auto engine = MakeEngine(1);
  const auto results = GenerateBatch(requests, engine.get());
  EXPECT_EQ(results[0]->timing.start_seconds, 0);
  EXPECT_EQ(results[1]->timing.start_seconds, 4);
  EXPECT_EQ(results[1]->timing.end_seconds, 7);
}

}  // namespace
}  // namespace qeff
