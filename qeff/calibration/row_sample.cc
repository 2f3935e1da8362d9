// SPDX-License-Identifier: Apache-2.0

#include "qeff/calibration/row_sample.h"

#include <algorithm>
#include <cstddef>

#include "qeff/util/check.h"
#include "qeff/util/random.h"

namespace qeff {

RowSample::RowSample(int64_t capacity, int64_t cols) : kept_(capacity, cols) {
  QEFF_CHECK(capacity > 0);
}

bool RowSample::Belongs(int64_t number) const {
  return halvings_ == 0 ||
         Random(/*seed=*/0).At(static_cast<uint64_t>(number)) >>
                 (64 - halvings_) ==
             0;
}

void RowSample::Thin() {
  ++halvings_;
  size_t kept = 0;
  for (size_t i = 0; i < numbers_.size(); ++i) {
    if (!Belongs(numbers_[i])) continue;
    if (kept != i) {
      std::copy_n(kept_.row(static_cast<int64_t>(i)), kept_.cols(),
                  kept_.row(static_cast<int64_t>(kept)));
    }
    numbers_[kept++] = numbers_[i];
  }
  numbers_.resize(kept);
}

void RowSample::Add(MatrixView<const float> rows) {
  QEFF_CHECK(rows.cols() == kept_.cols());
  for (int64_t r = 0; r < rows.rows(); ++r, ++seen_) {
    while (Belongs(seen_) &&
           static_cast<int64_t>(numbers_.size()) == kept_.rows()) {
      Thin();
    }
    if (!Belongs(seen_)) continue;
    std::copy_n(rows.row(r), rows.cols(),
                kept_.row(static_cast<int64_t>(numbers_.size())));
    numbers_.push_back(seen_);
  }
}

}  // namespace qeff
