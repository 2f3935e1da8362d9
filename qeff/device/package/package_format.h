// SPDX-License-Identifier: Apache-2.0
//
// The bytes around the header of a device package, and where everything
// behind it lies. README.md of this folder has the byte tables.

#ifndef QEFF_DEVICE_PACKAGE_PACKAGE_FORMAT_H_
#define QEFF_DEVICE_PACKAGE_PACKAGE_FORMAT_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/device/package/package_header.h"

namespace qeff {

// Counts every change of the format; readers take exactly this one.
inline constexpr uint32_t kPackageVersion = 4;

// Sections begin at multiples of it, as kernels want packed weights.
inline constexpr uint64_t kPackageAlignment = 64;

// Of the encoded message. It bounds what a hostile header can make a reader
// allocate (about 50 times as much); a model of 1000 blocks needs 800 kB.
inline constexpr uint64_t kMaxHeaderBytes = 1 << 20;

// Sets the bytes of each tensor, the offset of each section, and file_bytes.
// The tokenizer's bytes must be set. Errors: kInvalidArgument naming the tensor
// when its bytes cannot be represented or it has none; for a header of more
// than kMaxHeaderBytes.
absl::Status PlacePackage(PackageHeader* header);

// The beginning of the file, through the checksum of the header. Zeros follow
// up to the first section. The length does not depend on checksums.
// Precondition: placed by PlacePackage.
std::string EncodePackageStart(const PackageHeader& header);

// Reads and checks the beginning of `file`, a whole package: magic, version,
// size, checksum of the header, its fields, and that all sections lie where
// PlacePackage puts them, so that none overlaps, leaves a hole or ends beyond
// the file. Sections are not touched. Does not name the file in errors, which
// are kInvalidArgument with field, expected and found.
absl::StatusOr<PackageHeader> DecodePackageStart(
    absl::Span<const uint8_t> file);

// Bytes of `file` through the checksum of the header. Precondition:
// DecodePackageStart has accepted it.
uint64_t PackageStartBytes(absl::Span<const uint8_t> file);

}  // namespace qeff

#endif  // QEFF_DEVICE_PACKAGE_PACKAGE_FORMAT_H_
