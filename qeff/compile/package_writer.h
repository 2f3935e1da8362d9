// SPDX-License-Identifier: Apache-2.0
//
// Writes device packages (qeff/device/package/README.md), whole or matrix by
// matrix, so that the memory of a compiler follows its largest matrix.
//
//   QEFF_ASSIGN_OR_RETURN(auto writer,
//                         PackageWriter::Create(plan, &tables, options, path));
//   for (...) QEFF_RETURN_IF_ERROR(writer->Add(id, bytes));
//   QEFF_RETURN_IF_ERROR(writer->Commit());

#ifndef QEFF_COMPILE_PACKAGE_WRITER_H_
#define QEFF_COMPILE_PACKAGE_WRITER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/device/model.h"
#include "qeff/device/package/package_header.h"
#include "qeff/tokenizer/tables.h"
#include "qeff/util/atomic_file.h"

namespace qeff {

struct PackageWriteOptions {
  PackageTarget target = PackageTarget::kGeneric;
  EngineOptions run;
  std::string producer = "qeff";  // name and version of the program
};

// A package that is being written. The file appears at Commit, complete, or
// not at all; what is at the path is replaced then. Its bytes are a function of
// what is written, whatever the order and the number of threads.
class PackageWriter {
 public:
  // `plan` is the model with all its vectors, and with layout, rows and cols of
  // all its matrices; their bytes are not looked at. `tokenizer` may be null.
  // Nothing is kept of either.
  // Errors: kInvalidArgument when the plan is no valid model (ValidateModel) or
  // the path no place for a file; kUnavailable, naming needed and free bytes,
  // when the disk is too full, and for other failures of the file.
  static absl::StatusOr<std::unique_ptr<PackageWriter>> Create(
      const DeviceModel& plan, const TokenizerTables* tokenizer,
      const PackageWriteOptions& options, const std::string& path);

  // The size that the file will have.
  uint64_t file_bytes() const { return header_.file_bytes; }

  // Writes a matrix; its bytes are not needed afterwards. Thread-safe for
  // different matrices. Preconditions (checked): the plan has it, with that
  // many bytes, and it was not added before. Errors: kUnavailable.
  absl::Status Add(const TensorId& id, absl::Span<const uint8_t> bytes);

  // Writes the header, reads everything back, checks it, and gives the file its
  // name. Precondition (checked): every matrix was added. At most once.
  // Errors: kUnavailable; the path is then what it was before.
  absl::Status Commit();

 private:
  PackageWriter(PackageHeader header, std::unique_ptr<AtomicFile> file,
                std::string path)
      : header_(std::move(header)),
        added_(header_.tensors.size()),
        file_(std::move(file)),
        path_(std::move(path)) {}

  absl::Status Put(absl::Span<const uint8_t> bytes, PackageSection* section);
  absl::Status PutVectors(const DeviceModel& plan);
  absl::Status WriteStart();
  // Opens what is written so far.
  absl::Status ReadBack(bool verify) const;

  PackageHeader header_;
  std::vector<uint8_t> added_;  // [tensors], 0 or 1
  std::unique_ptr<AtomicFile> file_;
  std::string path_;
};

// Writes a package of `model`, all of whose bytes are there. Errors as
// PackageWriter's.
absl::Status WritePackage(const DeviceModel& model,
                          const TokenizerTables* tokenizer,
                          const PackageWriteOptions& options,
                          const std::string& path);

}  // namespace qeff

#endif  // QEFF_COMPILE_PACKAGE_WRITER_H_
