// SPDX-License-Identifier: Apache-2.0
//
// Whom a student learns from: a model that runs beside it, or what one said
// before (teacher_cache.h).

#ifndef QEFF_DISTILL_TEACHER_H_
#define QEFF_DISTILL_TEACHER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "qeff/distill/sparse_teacher.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"
#include "qeff/train/token_batch.h"
#include "qeff/train/token_shard.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// What a loss wants beside logits: of these layers of the teacher.
struct TeacherTaps {
  std::vector<int64_t> hidden;  // what the block gives
  std::vector<int64_t> heads;   // queries and keys as attention takes them
};

// Not thread-safe. Views are valid until the next Run.
class Teacher {
 public:
  virtual ~Teacher() = default;

  // Whether it can say something about `text`, cut into sequences of this
  // length that begin with `bos` inside of documents. Errors: kInvalidArgument
  // naming what differs from the text that it has seen.
  virtual absl::Status CheckText(const TokenShard& /*text*/,
                                 int64_t /*sequence_length*/,
                                 absl::optional<int32_t> /*bos*/) const {
    return absl::OkStatus();
  }

  // Says what the teacher thinks of `batch`, for the calls below. Errors:
  // kInvalidArgument for tokens that it does not have; kResourceExhausted;
  // those of reading a model.
  virtual absl::Status Run(const TokenBatch& batch) = 0;

  // Of rows [row, row + rows) of the batch: the logits [rows, vocab_size], or
  // nothing where the most probable tokens are all that is known.
  virtual absl::StatusOr<MatrixView<const float>> Logits(int64_t row,
                                                         int64_t rows) = 0;
  virtual absl::optional<SparseTeacher> Sparse(int64_t /*row*/,
                                               int64_t /*rows*/) {
    return absl::nullopt;
  }

  // Precondition: these are among the taps.
  virtual MatrixView<const float> Hidden(int64_t layer) const = 0;
  virtual MatrixView<const float> Queries(int64_t layer) const = 0;
  virtual MatrixView<const float> Keys(int64_t layer) const = 0;
};

// A model, in float32 whatever it is stored as. Memory: packed weights up to
// `weight_bytes`, the rest is read again for each batch; hidden states. Errors:
// those of HostForward::Create; of Run also those of `check`, which is called
// between linear layers and may be null. `pool` must outlive the result.
absl::StatusOr<std::unique_ptr<Teacher>> MakeLiveTeacher(
    std::shared_ptr<const Transformer> model, const TeacherTaps& taps,
    uint64_t weight_bytes, ThreadPool* pool,
    std::function<absl::Status()> check = nullptr);

}  // namespace qeff

#endif  // QEFF_DISTILL_TEACHER_H_
