// SPDX-License-Identifier: Apache-2.0
//
// Whether a run is to end early, in the midst of work that takes long and that
// every process does at its own pace. What only one of them learns (it got a
// signal) the others find out the next time that they ask: all give up, and
// meet.
//
//   status = ...;  // work that often returns the errors of check->Check()
//   QEFF_RETURN_IF_ERROR(check->Meet(status));
//
// For work that is short see agreement.h alone.

#ifndef QEFF_TRAIN_SHARED_CHECK_H_
#define QEFF_TRAIN_SHARED_CHECK_H_

#include <functional>
#include <utility>

#include "absl/status/status.h"
#include "qeff/train/gradient_reducer.h"

namespace qeff {

// Not thread-safe: all calls come from the thread that the reducer belongs to.
// Once it is stopped it stays so, and the run ends.
class SharedCheck {
 public:
  // `own` tells whether this process is to stop; from its first error on it is.
  // It may be null, and so may `reducer` (borrowed), for one process.
  SharedCheck(std::function<absl::Status()> own, GradientReducer* reducer)
      : own_(std::move(own)), reducer_(reducer) {}
  SharedCheck(const SharedCheck&) = delete;
  SharedCheck& operator=(const SharedCheck&) = delete;

  // OK while nobody is to stop. An error of `own` is told to the others, for
  // whom this is kCancelled. May be called as often as each process likes, but
  // after an error all have to come to Meet. Cost: that of `own`, and less than
  // a microsecond.
  absl::Status Check();

  // Whether Check or Meet has found that to stop.
  bool stopped() const { return stopped_; }

  // What all processes call when their work is done or given up; `work` is how
  // it went. When nobody is stopped, what Agree says of `work`; otherwise, in
  // all of them, the first error of an `own`. Errors: those of the reducer.
  absl::Status Meet(const absl::Status& work = absl::OkStatus());

 private:
  const std::function<absl::Status()> own_;
  GradientReducer* const reducer_;
  bool stopped_ = false;
  absl::Status status_;  // of `own_`
};

}  // namespace qeff

#endif  // QEFF_TRAIN_SHARED_CHECK_H_
