// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/package/device_package.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <new>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "qeff/device/package/package_format.h"
#include "qeff/device/package/tokenizer_section.h"
#include "qeff/util/checksum.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Tensors that every block has: two norms and six matrices.
constexpr int64_t kMinBlockTensors = 8;

// Puts the tensors of a header into a model. Tensors come in the order in
// which a model is walked, so one that is unknown, double or out of order is
// the first that no place has asked for.
class Assembler {
 public:
  Assembler(const PackageHeader& header,
            const std::shared_ptr<const MappedFile>& file)
      : header_(header), file_(file) {}

  absl::StatusOr<std::shared_ptr<const DeviceModel>> Run() {
    const TransformerSpec& spec = header_.spec;
    QEFF_RETURN_IF_ERROR(ValidateSpec(spec), "spec");
    const int64_t tensors = static_cast<int64_t>(header_.tensors.size());
    if (spec.num_layers > tensors / kMinBlockTensors) {
      return InvalidInputError("num_layers: ", spec.num_layers,
                               " blocks, but only ", tensors, " tensors");
    }
    auto model = std::make_shared<DeviceModel>();
    model->spec = spec;
    model->blocks.resize(static_cast<size_t>(spec.num_layers));
    VisitVectors(model.get(), [&](const TensorId& id, std::vector<float>* v) {
      if (const PackageTensor* tensor = Next(id)) Fill(*tensor, v);
    });
    VisitMatrices(model.get(), [&](const TensorId& id, DeviceMatrix* m) {
      if (const PackageTensor* tensor = Next(id)) Fill(*tensor, m);
    });
    QEFF_RETURN_IF_ERROR(status_);
    if (next_ < header_.tensors.size()) {
      return InvalidInputError(TensorName(header_.tensors[next_].id),
                               ": unknown, double or out of order");
    }
    QEFF_RETURN_IF_ERROR(ValidateModel(*model));
    return model;
  }

 private:
  // The tensor of that place, if the package has one.
  const PackageTensor* Next(const TensorId& id) {
    if (next_ == header_.tensors.size()) return nullptr;
    const PackageTensor& tensor = header_.tensors[next_];
    if (!(tensor.id == id)) return nullptr;
    ++next_;
    return &tensor;
  }

  absl::Span<const uint8_t> Bytes(const PackageTensor& tensor) const {
    return file_->bytes().subspan(tensor.data.offset, tensor.data.bytes);
  }

  void Fill(const PackageTensor& tensor, std::vector<float>* v) {
    const auto* floats = std::get_if<FloatRows>(&tensor.layout);
    if (floats == nullptr || floats->dtype != DType::kF32 || tensor.rows != 1) {
      if (status_.ok()) {
        status_ = InvalidInputError(TensorName(tensor.id),
                                    ": expected one row of F32");
      }
      return;
    }
    v->resize(static_cast<size_t>(tensor.cols));
    std::memcpy(v->data(), Bytes(tensor).data(), v->size() * sizeof(float));
  }

  void Fill(const PackageTensor& tensor, DeviceMatrix* m) {
    *m = DeviceMatrix{tensor.layout, tensor.rows, tensor.cols,
                      Bytes(tensor), file_,       tensor.input_scale};
  }

  const PackageHeader& header_;
  const std::shared_ptr<const MappedFile> file_;
  size_t next_ = 0;
  absl::Status status_;
};

absl::Status CheckTarget(PackageTarget target) {
  const PackageTarget host = HostPackageTarget();
  if (target == PackageTarget::kGeneric || target == host) {
    return absl::OkStatus();
  }
  return InvalidInputError("target: expected ", PackageTargetName(host),
                           " or generic, found ", PackageTargetName(target));
}

absl::Status CheckSum(absl::string_view name, const PackageSection& section,
                      absl::Span<const uint8_t> bytes) {
  const uint64_t found = Checksum64(bytes);
  if (found == section.checksum) return absl::OkStatus();
  return InvalidInputError(
      name, ": checksum: expected ",
      absl::StrFormat("%016x, found %016x", section.checksum, found),
      ": the file is damaged");
}

}  // namespace

absl::StatusOr<DevicePackage> DevicePackage::Open(
    const std::string& path, const PackageOpenOptions& options) {
  try {
    DevicePackage package;
    QEFF_ASSIGN_OR_RETURN(package.file_, MappedFile::Open(path));
    QEFF_ASSIGN_OR_RETURN(PackageHeader header,
                          DecodePackageStart(package.file_->bytes()), path);
    if (!options.any_target) {
      QEFF_RETURN_IF_ERROR(CheckTarget(header.target), path);
    }
    package.header_ = std::make_shared<const PackageHeader>(std::move(header));
    QEFF_ASSIGN_OR_RETURN(
        package.model_, Assembler(*package.header_, package.file_).Run(), path);
    if (package.file_->size_bytes() <= options.verify_up_to_bytes) {
      QEFF_RETURN_IF_ERROR(package.Verify(/*release_pages=*/false));
    }
    return package;
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path, ": memory is out for its header and norms"));
  }
}

absl::Span<const uint8_t> DevicePackage::Bytes(
    const PackageSection& section) const {
  return file_->bytes().subspan(section.offset, section.bytes);
}

absl::StatusOr<TokenizerTables> DevicePackage::ReadTokenizer() const {
  const absl::optional<PackageSection>& section = header_->tokenizer;
  if (!section.has_value()) {
    return absl::NotFoundError(
        absl::StrCat(file_->path(), ": the package has no tokenizer"));
  }
  QEFF_RETURN_IF_ERROR(CheckSum("tokenizer", *section, Bytes(*section)),
                       file_->path());
  try {
    return DecodeTokenizerTables(Bytes(*section));
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat(file_->path(), ": memory is out for the tokenizer"));
  }
}

absl::Status DevicePackage::VerifyChecksums() const {
  return Verify(/*release_pages=*/true);
}

absl::Status DevicePackage::Verify(bool release_pages) const {
  uint64_t end = PackageStartBytes(file_->bytes());
  const auto check = [&](absl::string_view name,
                         const PackageSection& section) -> absl::Status {
    const auto padding = file_->bytes().subspan(end, section.offset - end);
    if (std::any_of(padding.begin(), padding.end(),
                    [](uint8_t byte) { return byte != 0; })) {
      return InvalidInputError(name, ": the padding before it is not zero");
    }
    end = section.offset + section.bytes;
    const absl::Status status = CheckSum(name, section, Bytes(section));
    if (release_pages) file_->Release(Bytes(section));
    return status;
  };
  if (header_->tokenizer.has_value()) {
    QEFF_RETURN_IF_ERROR(check("tokenizer", *header_->tokenizer),
                         file_->path());
  }
  for (const PackageTensor& tensor : header_->tensors) {
    QEFF_RETURN_IF_ERROR(check(TensorName(tensor.id), tensor.data),
                         file_->path());
  }
  return absl::OkStatus();
}

}  // namespace qeff
