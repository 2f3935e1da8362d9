// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/mpi/mpi_reducer.h"

#include <mpi.h>
#include <sched.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// 4 MiB: each sum has a cost of its own (1 KiB to 16 KiB take 0.1 ms between
// processes of one machine), which is little of those of this size.
constexpr size_t kBucketElems = size_t{1} << 20;
// Counts of MPI are ints.
constexpr size_t kMostElems = size_t{1} << 30;
constexpr absl::Duration kPatience = absl::Seconds(2);
constexpr absl::Duration kPollPeriod = absl::Milliseconds(1);

absl::Status StatusOf(int error, const char* operation) {
  if (error == MPI_SUCCESS) return absl::OkStatus();
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(error, text, &length);
  return absl::UnavailableError(
      absl::StrCat(operation, ": ", absl::string_view(text)));
}

// A communicator whose errors are returned.
absl::Status Duplicate(MPI_Comm* result) {
  QEFF_RETURN_IF_ERROR(
      StatusOf(MPI_Comm_dup(MPI_COMM_WORLD, result), "MPI_Comm_dup"));
  return StatusOf(MPI_Comm_set_errhandler(*result, MPI_ERRORS_RETURN),
                  "MPI_Comm_set_errhandler");
}

// The share of each of the processes on this machine.
absl::StatusOr<int> ShareOfProcessors() {
  MPI_Comm machine;
  QEFF_RETURN_IF_ERROR(
      StatusOf(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0,
                                   MPI_INFO_NULL, &machine),
               "MPI_Comm_split_type"));
  cpu_set_t own, all;
  CPU_ZERO(&own);
  // Where it fails, it is one.
  (void)sched_getaffinity(0, sizeof(own), &own);
  int processes = 1;
  MPI_Comm_size(machine, &processes);
  // mpirun may have given each some of them, or all of them to all.
  const absl::Status status = StatusOf(
      MPI_Allreduce(&own, &all, sizeof(own), MPI_BYTE, MPI_BOR, machine),
      "MPI_Allreduce");
  MPI_Comm_free(&machine);
  QEFF_RETURN_IF_ERROR(status);
  return std::max(1, std::min(CPU_COUNT(&own), CPU_COUNT(&all) / processes));
}

}  // namespace

// What is under way.
struct MpiReducer::Transfers {
  // For the work, for what is in no order with it, and for the end: who ends
  // does not disturb the others' work.
  MPI_Comm work = MPI_COMM_NULL, beside = MPI_COMM_NULL, end = MPI_COMM_NULL;
  std::vector<MPI_Request> stops;  // that were sent
  bool told = false;
  std::vector<MPI_Request> requests;
  // Full ones with where their values go, and the one that is being filled.
  struct Bucket {
    std::vector<float> values;
    std::vector<absl::Span<float>> spans;
  };
  std::vector<Bucket> buckets;
  Bucket bucket;
};

MpiReducer::MpiReducer() : transfers_(new Transfers) {}
MpiReducer::~MpiReducer() = default;

absl::StatusOr<std::unique_ptr<MpiReducer>> MpiReducer::Start() {
  int given = MPI_THREAD_SINGLE;
  QEFF_RETURN_IF_ERROR(
      StatusOf(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &given),
               "MPI_Init_thread"));
  if (given < MPI_THREAD_FUNNELED) {
    return absl::FailedPreconditionError(
        "MPI_Init_thread: this MPI allows no other threads");
  }
  std::unique_ptr<MpiReducer> result(new MpiReducer);
  QEFF_RETURN_IF_ERROR(result->Open());
  return result;
}

absl::Status MpiReducer::Open() {
  QEFF_RETURN_IF_ERROR(Duplicate(&transfers_->work));
  QEFF_RETURN_IF_ERROR(Duplicate(&transfers_->beside));
  QEFF_RETURN_IF_ERROR(Duplicate(&transfers_->end));
  QEFF_RETURN_IF_ERROR(
      StatusOf(MPI_Comm_rank(transfers_->work, &rank_), "MPI_Comm_rank"));
  QEFF_RETURN_IF_ERROR(
      StatusOf(MPI_Comm_size(transfers_->work, &size_), "MPI_Comm_size"));
  QEFF_ASSIGN_OR_RETURN(processors_, ShareOfProcessors());
  return absl::OkStatus();
}

absl::Status MpiReducer::Begin(absl::Span<float> values) {
  Transfers::Bucket& bucket = transfers_->bucket;
  if (values.size() >= kBucketElems) {
    QEFF_RETURN_IF_ERROR(StartSum(values));
  } else {
    if (bucket.values.size() + values.size() > kBucketElems) {
      QEFF_RETURN_IF_ERROR(StartBucket());
    }
    bucket.values.insert(bucket.values.end(), values.begin(), values.end());
    bucket.spans.push_back(values);
  }
  std::vector<MPI_Request>& requests = transfers_->requests;
  if (requests.empty()) return absl::OkStatus();
  int done = 0;
  std::vector<int> indices(requests.size());
  return StatusOf(
      MPI_Testsome(static_cast<int>(requests.size()), requests.data(), &done,
                   indices.data(), MPI_STATUSES_IGNORE),
      "MPI_Testsome");
}

absl::Status MpiReducer::StartBucket() {
  // The values stay where they are when the bucket moves.
  transfers_->buckets.push_back(
      std::exchange(transfers_->bucket, Transfers::Bucket()));
  return StartSum(absl::MakeSpan(transfers_->buckets.back().values));
}

absl::Status MpiReducer::StartSum(absl::Span<float> values) {
  while (!values.empty()) {
    const absl::Span<float> part = values.subspan(0, kMostElems);
    values.remove_prefix(part.size());
    transfers_->requests.push_back(MPI_REQUEST_NULL);
    QEFF_RETURN_IF_ERROR(StatusOf(
        MPI_Iallreduce(MPI_IN_PLACE, part.data(), static_cast<int>(part.size()),
                       MPI_FLOAT, MPI_SUM, transfers_->work,
                       &transfers_->requests.back()),
        "MPI_Iallreduce"));
  }
  return absl::OkStatus();
}

absl::Status MpiReducer::Wait() {
  if (!transfers_->bucket.spans.empty()) QEFF_RETURN_IF_ERROR(StartBucket());
  QEFF_RETURN_IF_ERROR(
      StatusOf(MPI_Waitall(static_cast<int>(transfers_->requests.size()),
                           transfers_->requests.data(), MPI_STATUSES_IGNORE),
               "MPI_Waitall"));
  for (const Transfers::Bucket& bucket : transfers_->buckets) {
    const float* from = bucket.values.data();
    for (const absl::Span<float> span : bucket.spans) {
      std::copy(from, from + span.size(), span.begin());
      from += span.size();
    }
  }
  transfers_->requests.clear();
  transfers_->buckets.clear();
  return absl::OkStatus();
}

absl::Status MpiReducer::Sum(absl::Span<double> values) {
  QEFF_CHECK(values.size() <= kMostElems);
  return StatusOf(MPI_Allreduce(MPI_IN_PLACE, values.data(),
                                static_cast<int>(values.size()), MPI_DOUBLE,
                                MPI_SUM, transfers_->work),
                  "MPI_Allreduce");
}

absl::Status MpiReducer::Broadcast(int root, absl::Span<uint8_t> bytes) {
  while (!bytes.empty()) {
    const absl::Span<uint8_t> part = bytes.subspan(0, kMostElems);
    bytes.remove_prefix(part.size());
    QEFF_RETURN_IF_ERROR(
        StatusOf(MPI_Bcast(part.data(), static_cast<int>(part.size()), MPI_BYTE,
                           root, transfers_->work),
                 "MPI_Bcast"));
  }
  return absl::OkStatus();
}

absl::Status MpiReducer::Max(absl::Span<int64_t> values) {
  QEFF_CHECK(values.size() <= kMostElems);
  return StatusOf(MPI_Allreduce(MPI_IN_PLACE, values.data(),
                                static_cast<int>(values.size()), MPI_INT64_T,
                                MPI_MAX, transfers_->beside),
                  "MPI_Allreduce");
}

void MpiReducer::TellStop() {
  if (!transfers_->stops.empty()) return;
  for (int rank = 0; rank < size_; ++rank) {
    if (rank == rank_) continue;
    transfers_->stops.push_back(MPI_REQUEST_NULL);
    // Where it fails the sums will as well.
    (void)MPI_Isend(nullptr, 0, MPI_BYTE, rank, 0, transfers_->beside,
                    &transfers_->stops.back());
  }
}

bool MpiReducer::ToldStop() {
  int told = 0;
  if (!transfers_->told &&
      MPI_Iprobe(MPI_ANY_SOURCE, 0, transfers_->beside, &told,
                 MPI_STATUS_IGNORE) == MPI_SUCCESS) {
    transfers_->told = told != 0;
  }
  return transfers_->told;
}

// MPI ends well only when all that was sent has been received.
void MpiReducer::TakeStops() {
  const int told = transfers_->stops.empty() ? 0 : 1;
  std::vector<int> tellers(static_cast<size_t>(size_));
  if (MPI_Allgather(&told, 1, MPI_INT, tellers.data(), 1, MPI_INT,
                    transfers_->end) != MPI_SUCCESS) {
    return;
  }
  for (int rank = 0; rank < size_; ++rank) {
    if (rank == rank_ || tellers[static_cast<size_t>(rank)] == 0) continue;
    (void)MPI_Recv(nullptr, 0, MPI_BYTE, rank, 0, transfers_->beside,
                   MPI_STATUS_IGNORE);
  }
  (void)MPI_Waitall(static_cast<int>(transfers_->stops.size()),
                    transfers_->stops.data(), MPI_STATUSES_IGNORE);
}

int MpiReducer::End(int code, const std::string& messages) {
  const auto print = [&] {
    if (messages.empty()) return;
    std::fprintf(stderr, "process %d: %s", rank_, messages.c_str());
    std::fflush(stderr);
  };
  MPI_Comm end = transfers_->end;
  MPI_Request all_here;
  int done = 0;
  bool ok = MPI_Ibarrier(end, &all_here) == MPI_SUCCESS;
  const absl::Time start = absl::Now();
  while (ok && done == 0 && (code == 0 || absl::Now() - start < kPatience)) {
    ok = MPI_Test(&all_here, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS;
    if (done == 0) absl::SleepFor(kPollPeriod);
  }
  int first_code = code;
  if (done != 0) {
    ok = MPI_Bcast(&first_code, 1, MPI_INT, 0, end) == MPI_SUCCESS;
    TakeStops();
  }
  if (code != 0 && (done == 0 || first_code != code)) print();
  if (!ok || done == 0) MPI_Abort(MPI_COMM_WORLD, code == 0 ? 1 : code);
  MPI_Finalize();
  return code;
}

}  // namespace qeff
