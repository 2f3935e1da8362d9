// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/thread_reducer_testutil.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

using Values = std::vector<double>;  // exact for all that is exchanged

// A row of calls that all ranks make, in that order.
class Calls {
 public:
  explicit Calls(size_t ranks) : ranks_(ranks) {}

  // The `index`th call of `rank`, which must be of the others' kind and size.
  void Make(size_t index, size_t rank, const std::string& kind, Values values) {
    const std::lock_guard<std::mutex> lock(mutex_);
    while (calls_.size() <= index) calls_.emplace_back();
    Call& call = calls_[index];
    if (call.made == 0) {
      call.kind = kind;
      call.values.resize(ranks_);
    }
    QEFF_CHECK(call.kind == kind);
    call.values[rank] = std::move(values);
    for (const Values& of : call.values) {
      QEFF_CHECK(of.empty() || of.size() == call.values[rank].size());
    }
    ++call.made;
    changed_.notify_all();
  }

  // What all ranks gave for that call, once all have.
  const std::vector<Values>& Get(size_t index) {
    std::unique_lock<std::mutex> lock(mutex_);
    const bool all = changed_.wait_for(lock, std::chrono::minutes(1), [&] {
      return calls_[index].made == ranks_;
    });
    QEFF_CHECK(all);  // otherwise they wait for one another
    return calls_[index].values;
  }

 private:
  struct Call {
    std::string kind;
    size_t made = 0;
    std::vector<Values> values;
  };

  const size_t ranks_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Call> calls_;
};

struct Shared {
  explicit Shared(size_t ranks) : work(ranks), beside(ranks) {}

  Calls work, beside;
  std::atomic<int> tellers{0};
};

template <typename T>
Values ValuesOf(absl::Span<T> values) {
  return Values(values.begin(), values.end());
}

class ThreadReducer : public GradientReducer {
 public:
  ThreadReducer(int rank, int size, Shared* shared)
      : rank_(rank), size_(size), shared_(*shared) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  absl::Status Begin(absl::Span<float> values) override {
    shared_.work.Make(work_, RankIndex(), "begin", ValuesOf(values));
    begun_.emplace_back(work_++, values);
    return absl::OkStatus();
  }
  absl::Status Wait() override {
    for (const auto& begun : begun_) {
      AddUp(shared_.work.Get(begun.first), begun.second);
    }
    begun_.clear();
    return absl::OkStatus();
  }
  absl::Status Sum(absl::Span<double> values) override {
    shared_.work.Make(work_, RankIndex(), "sum", ValuesOf(values));
    AddUp(shared_.work.Get(work_++), values);
    return absl::OkStatus();
  }
  absl::Status Broadcast(int root, absl::Span<uint8_t> bytes) override {
    shared_.work.Make(work_, RankIndex(), "broadcast", ValuesOf(bytes));
    const Values& from = shared_.work.Get(work_++)[static_cast<size_t>(root)];
    std::transform(from.begin(), from.end(), bytes.begin(),
                   [](double value) { return static_cast<uint8_t>(value); });
    return absl::OkStatus();
  }
  absl::Status Max(absl::Span<int64_t> values) override {
    shared_.beside.Make(beside_, RankIndex(), "max", ValuesOf(values));
    for (const Values& from : shared_.beside.Get(beside_++)) {
      for (size_t i = 0; i < values.size(); ++i) {
        values[i] = std::max(values[i], static_cast<int64_t>(from[i]));
      }
    }
    return absl::OkStatus();
  }
  void TellStop() override {
    if (!tells_) ++shared_.tellers;
    tells_ = true;
  }
  bool ToldStop() override { return shared_.tellers > (tells_ ? 1 : 0); }

 private:
  size_t RankIndex() const { return static_cast<size_t>(rank_); }

  template <typename T>
  static void AddUp(const std::vector<Values>& all, absl::Span<T> values) {
    for (size_t i = 0; i < values.size(); ++i) {
      double sum = 0;
      for (const Values& from : all) sum += from[i];
      values[i] = static_cast<T>(sum);
    }
  }

  const int rank_, size_;
  Shared& shared_;
  size_t work_ = 0, beside_ = 0;  // calls made
  std::vector<std::pair<size_t, absl::Span<float>>> begun_;
  bool tells_ = false;
};

}  // namespace

void RunRanks(int ranks, const std::function<void(GradientReducer*)>& work) {
  Shared shared(static_cast<size_t>(ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      ThreadReducer reducer(rank, ranks, &shared);
      work(&reducer);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace qeff
