// SPDX-License-Identifier: Apache-2.0
//
// The processes that mpirun started as one. Nothing else here knows of MPI, and
// who does not train on several processes need not link it.
//
//   QEFF_ASSIGN_OR_RETURN(const auto reducer, MpiReducer::Start());
//   int code = ...;  // the work, with reducer.get()
//   return reducer->End(code, messages);

#ifndef QEFF_TRAIN_MPI_MPI_REDUCER_H_
#define QEFF_TRAIN_MPI_MPI_REDUCER_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/train/gradient_reducer.h"

namespace qeff {

// All calls come from the thread that called Start (MPI_THREAD_FUNNELED); the
// process may have others. Errors of all methods, unless said otherwise:
// kUnavailable with what MPI says.
//
// Small spans go together: what Begin gets below 4 MiB is copied into a bucket
// of that size, larger ones are added up where they are. Sums are made while
// the caller computes, but only as far as Open MPI gets on inside of calls:
// each Begin pushes what is under way.
//
// Numerics: float32 sums in an order that depends on the number of processes
// and not on time: a run gives the same bits each time. MPI does not promise
// that all processes get the same; the algorithms of Open MPI do that, since
// each sum is made once and sent, or made from the same two numbers in both
// orders. RunTraining compares at each saved state.
class MpiReducer : public GradientReducer {
 public:
  // Joins those that mpirun started, or is alone where it did not. Once a
  // process.
  static absl::StatusOr<std::unique_ptr<MpiReducer>> Start();

  // After End.
  ~MpiReducer() override;
  MpiReducer(const MpiReducer&) = delete;
  MpiReducer& operator=(const MpiReducer&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  // This process's share of the processors that it and the others on its
  // machine may use, at least 1.
  int processors() const { return processors_; }

  absl::Status Begin(absl::Span<float> values) override;
  absl::Status Wait() override;
  absl::Status Sum(absl::Span<double> values) override;
  absl::Status Broadcast(int root, absl::Span<uint8_t> bytes) override;
  absl::Status Max(absl::Span<int64_t> values) override;
  void TellStop() override;
  bool ToldStop() override;

  // Leaves. `code` is this process's exit code and `messages` what it has to
  // say to stderr, that is not said where the first process ends with the same
  // code, and has said it. With 0, waits for all others. Otherwise, when the
  // others have not ended as well after two seconds, they wait for something
  // that will never come: ends them all (MPI_Abort). Returns `code`. Nothing
  // else may be called afterwards.
  int End(int code, const std::string& messages);

 private:
  struct Transfers;

  MpiReducer();
  absl::Status Open();
  absl::Status StartSum(absl::Span<float> values);
  absl::Status StartBucket();
  void TakeStops();

  std::unique_ptr<Transfers> transfers_;
  int rank_ = 0, size_ = 1, processors_ = 1;
};

}  // namespace qeff

#endif  // QEFF_TRAIN_MPI_MPI_REDUCER_H_
