// SPDX-License-Identifier: Apache-2.0
//
// The files of a training run in OUTPUT.partial: what it was told to do, and
// its state every so many steps, so that it goes on after it was ended by
// whatever.
//
//   OUTPUT.partial/
//     journal                   a line a saved state (calibration/journal.h)
//     state-00000100.safetensors

#ifndef QEFF_TRAIN_TRAIN_FILES_H_
#define QEFF_TRAIN_TRAIN_FILES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/calibration/journal.h"
#include "qeff/util/json.h"

namespace qeff {

using NamedFloats = std::vector<std::pair<std::string, absl::Span<float>>>;

// What a saved state may say that it is after.
inline constexpr int64_t kMaxTrainSteps = int64_t{1} << 53;

// Whether `folder` holds a saved state that a run may go on from.
bool HasTrainState(const std::string& folder);

// Not thread-safe.
class TrainFiles {
 public:
  // In `folder`, which exists, for the run that `description` describes. Keeps
  // the last `kept` (>= 1) states. Errors: those of Journal::Open;
  // kInvalidArgument for a last line that describes no state.
  static absl::StatusOr<std::unique_ptr<TrainFiles>> Open(
      const std::string& folder, const Json& description, int64_t kept);

  // What Save was last given as `progress`, with a member "step"; null where
  // nothing is saved.
  const Json& last() const { return last_; }

  // Reads the last saved state into `state`. Errors: kInvalidArgument or
  // kDataLoss naming the file, for one that is damaged or does not have these
  // tensors. Precondition: last() is not null.
  absl::Status Load(const NamedFloats& state) const;

  // Writes `state` as of progress["step"], complete or not at all, then the
  // line in the journal, and then removes states that are too many. Errors:
  // kUnavailable; the last state is then what it was.
  absl::Status Save(const Json& progress, const NamedFloats& state);

 private:
  TrainFiles(std::string folder, int64_t kept, std::unique_ptr<Journal> journal)
      : folder_(std::move(folder)), kept_(kept), journal_(std::move(journal)) {}

  std::string PathOf(int64_t step) const;
  void RemoveOld() const;

  const std::string folder_;
  const int64_t kept_;
  std::unique_ptr<Journal> journal_;
  Json last_;
};

}  // namespace qeff

#endif  // QEFF_TRAIN_TRAIN_FILES_H_
