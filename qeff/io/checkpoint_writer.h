// SPDX-License-Identifier: Apache-2.0
//
// Writing a Hugging Face model folder whose tensors may be larger than memory.
// All names, types and shapes are declared first, so every byte has its place
// in a file from the start: data may then arrive in any order, from several
// threads. The folder appears under its final name complete, or not at all.
//
//   auto writer = CheckpointWriter::Create(output, tensors, options);
//   for each tensor: (*writer)->Write(name, offset_bytes, bytes);
//   (*writer)->Commit(config, files);

#ifndef QEFF_IO_CHECKPOINT_WRITER_H_
#define QEFF_IO_CHECKPOINT_WRITER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "qeff/io/checkpoint.h"
#include "qeff/util/json.h"
#include "qeff/util/output_folder.h"

namespace qeff {

struct CheckpointWriterOptions {
  // A new shard begins when the next tensor would exceed this; a tensor is
  // never split. One file, without index, when everything fits.
  uint64_t max_shard_bytes = uint64_t{5'000'000'000};

  // Called once in Commit, when all data has been handed to the system and
  // before it is synced to the device. For timing.
  std::function<void()> before_sync;
};

// A folder under construction. Write is thread-safe; the rest is not.
// Destroying an uncommitted writer removes what it wrote.
class CheckpointWriter {
 public:
  // Reserves `folder`: checks that the disk has room, and creates a temporary
  // folder beside it with all shards in their final size (not filled, so this
  // takes milliseconds). Leftovers of runs that were killed are removed.
  // Errors: kAlreadyExists when `folder` exists, be it as a dangling link;
  // kInvalidArgument for a tensor name that is duplicate, empty, reserved or
  // not UTF-8; kUnavailable when the parent is missing or not writable, the
  // disk is full or another process writes to the same folder (its id is
  // named).
  static absl::StatusOr<std::unique_ptr<CheckpointWriter>> Create(
      const std::string& folder, std::vector<TensorInfo> tensors,
      const CheckpointWriterOptions& options = {});

  // The same in a folder that the caller has made, and which the writer
  // commits: for work that is resumed. Shards that are there already keep what
  // they hold. Errors: as above, but for the folder's.
  static absl::StatusOr<std::unique_ptr<CheckpointWriter>> CreateIn(
      std::shared_ptr<OutputFolder> folder, std::vector<TensorInfo> tensors,
      const CheckpointWriterOptions& options = {});

  virtual ~CheckpointWriter() = default;

  // Places `bytes` at `offset_bytes` inside tensor `name`. Each byte of a
  // tensor is written exactly once. Errors: kUnavailable with path and errno;
  // kInvalidArgument for an unknown tensor or a range outside it, which writes
  // nothing. One pwrite and one atomic addition, no lock. Precondition
  // (checked): not committed.
  virtual absl::Status Write(absl::string_view name, uint64_t offset_bytes,
                             absl::Span<const uint8_t> bytes) = 0;

  // Says that all of tensor `name` was written by an earlier run. Errors:
  // kInvalidArgument for an unknown tensor.
  virtual absl::Status MarkWritten(absl::string_view name) = 0;

  // Reads back what was written. Errors: as Write, and kUnavailable when it
  // cannot be read.
  virtual absl::Status Read(absl::string_view name, uint64_t offset_bytes,
                            absl::Span<uint8_t> bytes) const = 0;

  // Waits until all that was written is on the device. Errors: kUnavailable;
  // give the output up then (OutputFile::Sync).
  virtual absl::Status Sync() = 0;

  // A file to put into the folder as it is.
  struct ExtraFile {
    std::string name;  // plain file name
    std::string content;
  };

  // Writes config.json, the index if there are several shards and `extra`,
  // syncs everything and gives the folder its final name. Errors: kInternal
  // when a tensor is incomplete; kUnavailable as for Write; kAlreadyExists
  // when the folder appeared meanwhile or two files have one name;
  // kInvalidArgument for an extra file whose name is not plain. After an error
  // nothing is left of a writer of Create. Precondition (checked): called at
  // most once.
  virtual absl::Status Commit(const Json& config,
                              const std::vector<ExtraFile>& extra) = 0;
};

// Copies tensor `name` of `checkpoint` as it is, in pieces, and lets go of its
// pages. `check` is called before each piece, and its error returned; may be
// null. Errors: those of Checkpoint::Get and CheckpointWriter::Write.
absl::Status CopyTensor(const Checkpoint& checkpoint, const std::string& name,
                        const std::function<absl::Status()>& check,
                        CheckpointWriter* writer);

// Reads the other files of `checkpoint` (tokenizer etc., at most 256 MiB each)
// to hand them on to a writer.
absl::StatusOr<std::vector<CheckpointWriter::ExtraFile>> ReadOtherFiles(
    const Checkpoint& checkpoint);

}  // namespace qeff

#endif  // QEFF_IO_CHECKPOINT_WRITER_H_
