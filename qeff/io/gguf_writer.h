// SPDX-License-Identifier: Apache-2.0
//
// Writing a GGUF file (version 3) whose tensors may be larger than memory. All
// names, types and shapes are declared first, so every byte has its place from
// the start: data may then arrive in any order, from several threads. The file
// appears complete, or not at all.
//
//   GgufMetadata metadata = {{"general.architecture", std::string("llama")}};
//   auto writer = GgufWriter::Create(path, metadata, tensors);
//   for each tensor i: (*writer)->Write(i, offset_bytes, bytes);
//   (*writer)->Commit();

#ifndef QEFF_IO_GGUF_WRITER_H_
#define QEFF_IO_GGUF_WRITER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/io/gguf_header.h"
#include "qeff/io/gguf_metadata.h"
#include "qeff/util/atomic_file.h"

namespace qeff {

// A file under construction. Write is thread-safe; the rest is not. Destroying
// an uncommitted writer removes what it wrote.
class GgufWriter {
 public:
  // Reserves the file `path` in its final size, of which holes take no space.
  // Of `tensors`, names, types and shapes count; their places are computed.
  // The order of both lists is kept. Errors: kInvalidArgument for what
  // ParseGgufHeader would refuse (a name that is duplicate, empty or longer
  // than 63 bytes, rows that are not whole blocks, ...) and for sizes that
  // overflow; kUnavailable as AtomicFile, and when the disk has no room.
  static absl::StatusOr<std::unique_ptr<GgufWriter>> Create(
      const std::string& path, const GgufMetadata& metadata,
      const std::vector<GgufTensorInfo>& tensors);

  // The tensors as declared, with their places.
  const std::vector<GgufTensorInfo>& tensors() const { return tensors_; }
  uint64_t file_bytes() const { return file_bytes_; }
  // Where the file is until Commit: a GGUF file from the start, for reading
  // back what was written.
  std::string temporary_path() const { return file_->temporary_path(); }

  // Places `bytes` at `offset_bytes` inside tensor `index` of the list. Each
  // byte of a tensor is written exactly once. Errors: kUnavailable with path
  // and errno; kInvalidArgument for a range outside of the tensor, which
  // writes nothing. Precondition (checked): there is such a tensor.
  absl::Status Write(size_t index, uint64_t offset_bytes,
                     absl::Span<const uint8_t> bytes);

  // Syncs and gives the file its name. Errors: kInternal when a tensor is
  // incomplete; kUnavailable as Write. At most once.
  absl::Status Commit();

 private:
  GgufWriter(std::unique_ptr<AtomicFile> file,
             std::vector<GgufTensorInfo> tensors, uint64_t file_bytes,
             std::string path);

  const std::unique_ptr<AtomicFile> file_;
  const std::vector<GgufTensorInfo> tensors_;
  const uint64_t file_bytes_;
  const std::string path_;
  std::vector<std::atomic<uint64_t>> written_bytes_;  // by tensor
};

}  // namespace qeff

#endif  // QEFF_IO_GGUF_WRITER_H_
