// SPDX-License-Identifier: Apache-2.0
//
// How the processes of one training run stay together. What only one of them
// knows (a file that it wrote, an error that it met, a signal that it got) all
// of them learn here, at the same place. Without a reducer there is one
// process, and nothing to do.

#ifndef QEFF_TRAIN_AGREEMENT_H_
#define QEFF_TRAIN_AGREEMENT_H_

#include <string>

#include "absl/status/status.h"
#include "qeff/train/gradient_reducer.h"
#include "qeff/util/json.h"

namespace qeff {

// Of the process that has the files, and prints.
inline bool IsFirst(const GradientReducer* reducer) {
  return reducer == nullptr || reducer->rank() == 0;
}

// OK when `own` is OK in every process; otherwise in all of them the error of
// the first that has one, with its payloads, naming the process if it is not
// the first of all. Errors: also those of the reducer.
absl::Status Agree(const absl::Status& own, GradientReducer* reducer);

// Replaces `text` by that of process `root`. Errors: those of the reducer.
absl::Status BroadcastText(int root, std::string* text,
                           GradientReducer* reducer);

// Errors, in every process: kInvalidArgument naming the first member of the
// object `value` that is not that of the first process; those of the reducer.
absl::Status CheckSame(const Json& value, GradientReducer* reducer);

}  // namespace qeff

#endif  // QEFF_TRAIN_AGREEMENT_H_
