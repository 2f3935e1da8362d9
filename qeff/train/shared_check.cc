// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/shared_check.h"

#include <cstdint>

#include "absl/types/span.h"
#include "qeff/train/agreement.h"
#include "qeff/util/status.h"

namespace qeff {

absl::Status SharedCheck::Check() {
  if (!stopped_ && own_) {
    status_ = own_();
    if (!status_.ok()) {
      stopped_ = true;
      if (reducer_ != nullptr) reducer_->TellStop();
    }
  }
  if (!stopped_ && reducer_ != nullptr) stopped_ = reducer_->ToldStop();
  if (!stopped_) return absl::OkStatus();
  return status_.ok() ? absl::CancelledError("another process is to stop")
                      : status_;
}

absl::Status SharedCheck::Meet(const absl::Status& work) {
  if (reducer_ != nullptr) {
    int64_t any = stopped_ ? 1 : 0;
    QEFF_RETURN_IF_ERROR(reducer_->Max(absl::MakeSpan(&any, 1)));
    stopped_ = any != 0;
  }
  // Who was told has no error: whoever told it comes here with one.
  return Agree(stopped_ ? status_ : work, reducer_);
}

}  // namespace qeff
