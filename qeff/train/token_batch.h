// SPDX-License-Identifier: Apache-2.0
//
// What one step of training predicts.

#ifndef QEFF_TRAIN_TOKEN_BATCH_H_
#define QEFF_TRAIN_TOKEN_BATCH_H_

#include <cstdint>
#include <vector>

namespace qeff {

// Segments of text, one after another without padding. A segment is a document
// or a piece of one: attention looks at tokens of its own segment only, and
// positions begin at 0 in each.
struct TokenBatch {
  // Stands in `labels` where nothing is to be predicted.
  static constexpr int32_t kNoLabel = -1;

  std::vector<int64_t> lengths;  // of the segments; their sum is ids.size()
  std::vector<int32_t> ids;
  std::vector<int32_t> labels;  // for each id the token that follows
  int64_t counted = 0;          // labels that are to be predicted
  // Where the batch is whole sequences of a text: their numbers in it.
  std::vector<int64_t> sequences;
  // The model that is trained wrote the text itself: what a teacher says of it
  // counts, and not the text.
  bool generated = false;
};

}  // namespace qeff

#endif  // QEFF_TRAIN_TOKEN_BATCH_H_
