// SPDX-License-Identifier: Apache-2.0
//
// What a teacher says of a text, once and for all: its most probable tokens at
// each place, small enough to be kept, so that it need not run again for every
// student, seed and setting.
//
// A cache is a folder: config.json says of which text and teacher it is, and
// model.safetensors holds, with a row for each token of the text's sequences
// (SequenceSampler without shuffling), N = sequences * sequence_length,
//   ids                U8   [N, (top_k * bits + 7) / 8]: ascending, each of
//                           `bits` bits, the lowest first; bits is the least
//                           that hold vocab_size - 1
//   log_probabilities  F16  [N, top_k]
//   log_rest           F16  [N]: of all other tokens together
//   checksums          U8   [sequences, 8]: of what the three hold of a
//                           sequence: XXH64 of their three XXH64, all
//                           little-endian
// F16 holds ln p to 2^-11 of itself, so that a divergence of a row is off by
// 2^-11 sum p |ln p|, the entropy's 2048th part.

#ifndef QEFF_DISTILL_TEACHER_CACHE_H_
#define QEFF_DISTILL_TEACHER_CACHE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/distill/teacher.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/train/sequence_sampler.h"
#include "qeff/util/json.h"
#include "qeff/util/partial_folder.h"

namespace qeff {

struct TeacherCacheInfo {
  int64_t vocab_size = 0;  // of the teacher's logits
  int64_t top_k = 64;      // at most vocab_size
  int64_t sequence_length = 0;
  int64_t sequences = 0;
  std::string text;     // TokenShard::checksum, in hexadecimal
  int64_t bos = -1;     // that sequences begin with; -1: none
  std::string teacher;  // its fingerprint

  Json ToJson() const;
  // Errors: kInvalidArgument naming `context`, the key and what is wrong.
  static absl::StatusOr<TeacherCacheInfo> FromJson(const Json& json,
                                                   const std::string& context);
};

struct TeacherCacheOptions {
  PartialWork unfinished = PartialWork::kRefuse;
  // Called between pieces of work; an error ends it, to be resumed. May be
  // null.
  std::function<absl::Status()> check;
  // Called with sequences. May be null.
  std::function<void(int64_t done, int64_t total)> progress;
};

// Lets `teacher` say what it thinks of all sequences of `text`, which is not
// shuffled, and writes that to the new folder `output`. Resumable as
// RunCalibrated is. Errors: kInvalidArgument for a top_k outside of [1,
// vocab_size]; those of Teacher, PartialFolder and CheckpointWriter.
absl::Status WriteTeacherCache(const TeacherCacheInfo& info, Teacher* teacher,
                               SequenceSampler* text, const std::string& output,
                               const TeacherCacheOptions& options,
                               ThreadPool* pool);

// Opens a cache. The result has no logits, hidden states or heads, and takes
// batches that say which sequences they are of (TokenBatch::sequences). Errors:
// kInvalidArgument for a folder that is no cache, whose tensors do not fit what
// it says, or that is of another teacher; those of Checkpoint::Open. Of Run
// later: kInvalidArgument for a sequence that has another checksum, or ids that
// are not ascending and below vocab_size.
absl::StatusOr<std::unique_ptr<Teacher>> OpenTeacherCache(
    const std::string& folder, const std::string& teacher_fingerprint);

}  // namespace qeff

#endif  // QEFF_DISTILL_TEACHER_CACHE_H_
