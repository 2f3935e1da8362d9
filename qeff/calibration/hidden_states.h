// SPDX-License-Identifier: Apache-2.0
//
// The hidden states of a sample between two blocks: in memory or in a file, cut
// into chunks that run through a block together, and saved and loaded so that a
// walk that was killed goes on.

#ifndef QEFF_CALIBRATION_HIDDEN_STATES_H_
#define QEFF_CALIBRATION_HIDDEN_STATES_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/calibration/row_store.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/json.h"

namespace qeff {

// Tokens that run through a block together; more where a sequence is longer.
inline constexpr int64_t kWalkChunkTokens = 1024;

// Rows that run through a block together.
struct RowChunk {
  int64_t row;
  int64_t rows;
  absl::Span<const int64_t> lengths;  // of sequences; empty: cut anywhere
};

// How the rows of a sample are cut. Thread-compatible.
class SampleChunks {
 public:
  // `check` is called before every chunk; an error ends the loop. May be null.
  SampleChunks(const TokenSample& sample, std::function<absl::Status()> check);

  // Tokens of each sequence.
  absl::Span<const int64_t> lengths() const { return lengths_; }
  int64_t rows() const { return rows_; }

  using Body = absl::FunctionRef<absl::Status(const RowChunk&)>;

  // Calls body(chunk) for whole sequences, as many as fit kWalkChunkTokens, at
  // least one; ends with its first error.
  absl::Status ForSequences(Body body) const;

  // The same for rows, wherever they are cut.
  absl::Status ForRows(Body body) const;

 private:
  const std::function<absl::Status()> check_;
  std::vector<int64_t> lengths_;
  int64_t rows_ = 0;
};

// Hidden states of one model. Not thread-safe.
class HiddenStates {
 public:
  // Zeros. `name` is what its files in `folder` are named after; `spill`: the
  // rows lie in one. Errors: those of RowStore.
  static absl::StatusOr<HiddenStates> Create(const std::string& folder,
                                             const std::string& name,
                                             int64_t rows, int64_t cols,
                                             bool spill);

  RowStore& rows() { return rows_; }

  // Writes the input of `step` to a file that is on the device then, and adds
  // its checksum to `entry`, of the journal. Errors: kUnavailable.
  absl::Status Save(int64_t step, Json* entry);

  // Reads it back. Errors: kInvalidArgument when it is not what `entry`, of
  // the step before, says; kUnavailable, also without a file.
  absl::Status Load(int64_t step, const Json& entry);

  // Removes the file of `step`, if there is one.
  void Remove(int64_t step) const;

 private:
  HiddenStates(const std::string& folder, const std::string& name,
               RowStore rows);

  std::string PathOf(int64_t step) const;

  std::string folder_, name_;
  RowStore rows_;
};

// Sets each of `states` to the input of the model's first block, and lets go of
// the embedding's pages. Errors: those of reading the model.
absl::Status EmbedSample(const Transformer& model, const TokenSample& sample,
                         absl::Span<HiddenStates* const> states);

}  // namespace qeff

#endif  // QEFF_CALIBRATION_HIDDEN_STATES_H_
