// SPDX-License-Identifier: Apache-2.0

#include "qeff/compile/package_writer.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_replace.h"
#include "qeff/device/package/device_package.h"
#include "qeff/device/package/package_format.h"
#include "qeff/device/package/tokenizer_section.h"
#include "qeff/util/check.h"
#include "qeff/util/checksum.h"
#include "qeff/util/output_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {}  // namespace

absl::StatusOr<std::unique_ptr<PackageWriter>> PackageWriter::Create(
    const DeviceModel& plan, const TokenizerTables* tokenizer,
    const PackageWriteOptions& options, const std::string& path) {
  PackageHeader header;
  header.producer = options.producer;
  header.target = options.target;
  header.spec = plan.spec;
  header.options = options.run;
  header.tensors = TensorsOfModel(plan);
  std::string tables;
  if (tokenizer != nullptr) {
    tables = EncodeTokenizerTables(*tokenizer);
    header.tokenizer = PackageSection{0, tables.size(), 0};
  }
  QEFF_RETURN_IF_ERROR(PlacePackage(&header), path);
  QEFF_ASSIGN_OR_RETURN(std::unique_ptr<AtomicFile> file,
                        AtomicFile::Create(path));
  QEFF_RETURN_IF_ERROR(CheckFreeSpace(ParentFolder(path), header.file_bytes));
  QEFF_RETURN_IF_ERROR(file->Resize(header.file_bytes));

  std::unique_ptr<PackageWriter> writer(
      new PackageWriter(std::move(header), std::move(file), path));
  if (tokenizer != nullptr) {
    QEFF_RETURN_IF_ERROR(
        writer->Put(AsBytes(tables), &*writer->header_.tokenizer));
  }
  QEFF_RETURN_IF_ERROR(writer->PutVectors(plan));
  // The reader decides whether the plan is a model, before the long work.
  QEFF_RETURN_IF_ERROR(writer->WriteStart());
  QEFF_RETURN_IF_ERROR(writer->ReadBack(/*verify=*/false));
  return writer;
}

absl::Status PackageWriter::PutVectors(const DeviceModel& plan) {
  absl::Status status;
  size_t next = 0;
  VisitVectors(&plan, [&](const TensorId& id, const std::vector<float>* v) {
    if (v->empty() || !status.ok()) return;
    QEFF_CHECK(header_.tensors[next].id == id);
    added_[next] = 1;
    status = Put(AsBytes(absl::MakeConstSpan(*v)), &header_.tensors[next].data);
    ++next;
  });
  return status;
}

absl::Status PackageWriter::Put(absl::Span<const uint8_t> bytes,
                                PackageSection* section) {
  QEFF_CHECK(bytes.size() == section->bytes);
  section->checksum = Checksum64(bytes);
  return file_->Write(section->offset, bytes);
}

absl::Status PackageWriter::Add(const TensorId& id,
                                absl::Span<const uint8_t> bytes) {
  const auto tensor =
      std::find_if(header_.tensors.begin(), header_.tensors.end(),
                   [&](const PackageTensor& t) { return t.id == id; });
  QEFF_CHECK(tensor != header_.tensors.end());
  uint8_t& added = added_[tensor - header_.tensors.begin()];
  QEFF_CHECK(added == 0);
  added = 1;
  return Put(bytes, &tensor->data);
}

absl::Status PackageWriter::WriteStart() {
  return file_->Write(0, AsBytes(EncodePackageStart(header_)));
}

absl::Status PackageWriter::ReadBack(bool verify) const {
  const std::string written = file_->temporary_path();
  PackageOpenOptions options;
  options.verify_up_to_bytes = 0;
  options.any_target = true;
  absl::StatusOr<DevicePackage> package = DevicePackage::Open(written, options);
  absl::Status status = package.status();
  if (status.ok() && verify) {
    status = package->VerifyChecksums();
    if (status.ok() && header_.tokenizer.has_value()) {
      status = package->ReadTokenizer().status();
    }
    // What was written right and is read wrong is no fault of the input.
    if (!status.ok()) status = absl::UnavailableError(status.message());
  }
  return absl::Status(
      status.code(), absl::StrReplaceAll(status.message(), {{written, path_}}));
}

absl::Status PackageWriter::Commit() {
  QEFF_CHECK(std::count(added_.begin(), added_.end(), 0) == 0);
  QEFF_RETURN_IF_ERROR(WriteStart());
  QEFF_RETURN_IF_ERROR(ReadBack(/*verify=*/true));
  return file_->Commit();
}

absl::Status WritePackage(const DeviceModel& model,
                          const TokenizerTables* tokenizer,
                          const PackageWriteOptions& options,
                          const std::string& path) {
  QEFF_RETURN_IF_ERROR(ValidateModel(model));
  QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<PackageWriter> writer,
                        PackageWriter::Create(model, tokenizer, options, path));
  absl::Status status;
  VisitMatrices(&model, [&](const TensorId& id, const DeviceMatrix* matrix) {
    if (!matrix->empty() && status.ok()) {
      status = writer->Add(id, matrix->bytes);
    }
  });
  QEFF_RETURN_IF_ERROR(status);
  return writer->Commit();
}

}  // namespace qeff
