// SPDX-License-Identifier: Apache-2.0
//
// What the header of a device package says: the model, how it is meant to be
// run, and where each tensor is. package_format.h turns it into bytes and back.

#ifndef QEFF_DEVICE_PACKAGE_PACKAGE_HEADER_H_
#define QEFF_DEVICE_PACKAGE_PACKAGE_HEADER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "qeff/device/engine_options.h"
#include "qeff/device/model.h"
#include "qeff/device/package/model_tensors.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/util/checked.h"

namespace qeff {

// The machines that a package is made for. kGeneric runs on all of them.
enum class PackageTarget : uint8_t { kGeneric, kX86_64, kAArch64 };

// "generic", "x86-64", "aarch64".
absl::string_view PackageTargetName(PackageTarget target);

// The inverse. Errors: kInvalidArgument, listing the names.
absl::StatusOr<PackageTarget> ParsePackageTarget(absl::string_view name);

// That of the machine this was compiled for.
PackageTarget HostPackageTarget();

// Bytes of the file.
struct PackageSection {
  uint64_t offset = 0;  // from the start of the file, a multiple of 64
  uint64_t bytes = 0;
  uint64_t checksum = 0;  // Checksum64 of the bytes
};

struct PackageTensor {
  TensorId id;
  WeightLayout layout;  // of a vector: FloatRows of F32
  int64_t rows = 0;     // of a vector: 1
  int64_t cols = 0;
  PackageSection data;
  float input_scale = 0;  // DeviceMatrix::input_scale
};

struct PackageHeader {
  std::string producer;  // e.g. "qeff 0.1.0"
  PackageTarget target = PackageTarget::kGeneric;
  TransformerSpec spec;
  EngineOptions options;  // how it is run unless the user says otherwise
  absl::optional<PackageSection> tokenizer;
  std::vector<PackageTensor> tensors;
  uint64_t file_bytes = 0;
};

// Bytes of a matrix in `layout`; invalid when they cannot be represented or
// rows or cols are negative.
CheckedU64 LayoutBytes(const WeightLayout& layout, int64_t rows, int64_t cols);

// The tensors of `model` in the order of a package, not placed: a vector that
// is not empty, and a matrix that has rows, whether or not its bytes are there.
std::vector<PackageTensor> TensorsOfModel(const DeviceModel& model);

}  // namespace qeff

#endif  // QEFF_DEVICE_PACKAGE_PACKAGE_HEADER_H_
