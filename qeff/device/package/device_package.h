// SPDX-License-Identifier: Apache-2.0
//
// Opens a device package: one file with everything that is needed to run a
// model, mapped into memory and used where it is.
//
//   QEFF_ASSIGN_OR_RETURN(const DevicePackage package,
//                         DevicePackage::Open("model.qeff"));
//   QEFF_ASSIGN_OR_RETURN(
//       auto engine, Engine::Create(package.model(), pool,
//                                   package.header().options));
//   QEFF_ASSIGN_OR_RETURN(TokenizerTables tables, package.ReadTokenizer());
//   QEFF_ASSIGN_OR_RETURN(auto tokenizer,
//                         PortableTokenizer::Create(std::move(tables)));
//
// qeff/compile:package_writer makes one.

#ifndef QEFF_DEVICE_PACKAGE_DEVICE_PACKAGE_H_
#define QEFF_DEVICE_PACKAGE_DEVICE_PACKAGE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/device/model.h"
#include "qeff/device/package/package_header.h"
#include "qeff/tokenizer/tables.h"
#include "qeff/util/mapped_file.h"

namespace qeff {

struct PackageOpenOptions {
  // Packages of up to so many bytes have all their checksums checked as they
  // are opened, which reads them whole; for larger ones that is
  // VerifyChecksums' work. 0 never checks, UINT64_MAX always.
  uint64_t verify_up_to_bytes = uint64_t{64} << 20;
  // Takes packages for other machines too: to look at them, not to run them.
  bool any_target = false;
};

// Thread-compatible. Copies share the mapping, which lives as long as any of
// them or the model.
class DevicePackage {
 public:
  // Errors: those of MappedFile::Open; kInvalidArgument naming the file and the
  // field, with expected and found, when it is not a package, is truncated or
  // longer than it says, of another format version or target, its header is
  // damaged, or the header and the model that it describes do not fit together
  // (ValidateModel). Values of matrices are not looked at.
  // Cost: one mmap, the header (about 60 bytes a tensor), and a copy of norms
  // and biases; matrices and the tokenizer are not touched above
  // verify_up_to_bytes.
  static absl::StatusOr<DevicePackage> Open(
      const std::string& path, const PackageOpenOptions& options = {});

  const PackageHeader& header() const { return *header_; }

  // Its matrices point into the mapping. The file must not be changed while it
  // is in use; replacing it by another (rename) is fine.
  const std::shared_ptr<const DeviceModel>& model() const { return model_; }

  // Tables for PortableTokenizer::Create. Checks their checksum. Errors:
  // kNotFound when the package has none; kInvalidArgument when they are
  // damaged. Cost: three copies of the section.
  absl::StatusOr<TokenizerTables> ReadTokenizer() const;

  // Reads the whole file and checks every checksum, and that padding is zero:
  // together with Open, that no byte has changed. Lets go of the pages behind
  // it. Errors: kInvalidArgument naming file and tensor.
  absl::Status VerifyChecksums() const;

 private:
  DevicePackage() = default;

  absl::Status Verify(bool release_pages) const;
  absl::Span<const uint8_t> Bytes(const PackageSection& section) const;

  std::shared_ptr<const MappedFile> file_;
  std::shared_ptr<const PackageHeader> header_;
  std::shared_ptr<const DeviceModel> model_;
};

}  // namespace qeff

#endif  // QEFF_DEVICE_PACKAGE_DEVICE_PACKAGE_H_
