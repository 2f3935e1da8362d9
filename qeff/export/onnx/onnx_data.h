// SPDX-License-Identifier: Apache-2.0
//
// The bytes of a model's initializers, which ONNX keeps in files beside the
// model: those of the checkpoint, where they lie, and one that is written for
// all else.

#ifndef QEFF_EXPORT_ONNX_ONNX_DATA_H_
#define QEFF_EXPORT_ONNX_ONNX_DATA_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "qeff/export/onnx/onnx_graph.h"
#include "qeff/io/checkpoint.h"
#include "qeff/util/atomic_file.h"

namespace qeff {

// Collects what initializers refer to, and then writes it. Not thread-safe.
class OnnxData {
 public:
  // Gets a part of an initializer's bytes; offset_bytes counts from its begin.
  using Sink = std::function<absl::Status(uint64_t offset_bytes,
                                          absl::Span<const uint8_t> bytes)>;
  using Producer = std::function<absl::Status(const Sink& sink)>;

  // `file` is the name of the file to write. In place, mapped bytes of
  // `checkpoint`, which must outlive this object, are referred to and not
  // copied.
  OnnxData(const Checkpoint* checkpoint, std::string file, bool in_place)
      : checkpoint_(checkpoint), file_(std::move(file)), in_place_(in_place) {}

  // Bytes that are mapped from the checkpoint, or that live as long as `owner`,
  // which this object keeps.
  OnnxExternalData Add(absl::Span<const uint8_t> bytes,
                       std::shared_ptr<const void> owner = nullptr);
  // Bytes of which this object keeps a copy.
  OnnxExternalData AddCopy(absl::Span<const uint8_t> bytes);
  // `size_bytes` bytes that `producer` makes when they are written, each once.
  OnnxExternalData AddProduced(uint64_t size_bytes, Producer producer);

  // Bytes that Write will write.
  uint64_t size_bytes() const { return size_bytes_; }

  // Writes what is not referred to. Errors: those of AtomicFile::Write and of
  // the producers.
  absl::Status Write(AtomicFile* file) const;

  // Compares the file at `temporary` with what Write wrote. Errors, which call
  // it `path`: kUnavailable where it differs.
  absl::Status ReadBack(const std::string& temporary,
                        const std::string& path) const;

 private:
  struct Part {
    uint64_t offset_bytes;
    Producer producer;
  };

  const Checkpoint* checkpoint_;
  std::string file_;
  bool in_place_;
  uint64_t size_bytes_ = 0;
  std::vector<Part> parts_;
};

}  // namespace qeff

#endif  // QEFF_EXPORT_ONNX_ONNX_DATA_H_
