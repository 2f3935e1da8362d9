// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/package/package_header.h"

#include "qeff/tensor/dtype.h"
#include "qeff/util/status.h"

namespace qeff {

absl::string_view PackageTargetName(PackageTarget target) {
  switch (target) {
    case PackageTarget::kGeneric:
      return "generic";
    case PackageTarget::kX86_64:
      return "x86-64";
    case PackageTarget::kAArch64:
      return "aarch64";
  }
  return "unknown";
}

absl::StatusOr<PackageTarget> ParsePackageTarget(absl::string_view name) {
  for (const PackageTarget target :
       {PackageTarget::kGeneric, PackageTarget::kX86_64,
        PackageTarget::kAArch64}) {
    if (PackageTargetName(target) == name) return target;
  }
  return InvalidInputError("target: expected x86-64, aarch64 or generic, ",
                           "found \"", name, "\"");
}

PackageTarget HostPackageTarget() {
#if defined(__x86_64__)
  return PackageTarget::kX86_64;
#elif defined(__aarch64__)
  return PackageTarget::kAArch64;
#else
  return PackageTarget::kGeneric;
#endif
}

CheckedU64 LayoutBytes(const WeightLayout& layout, int64_t rows, int64_t cols) {
  if (const auto* floats = std::get_if<FloatRows>(&layout)) {
    return CheckedU64(rows) * cols * DTypeBytes(floats->dtype);
  }
  if (const auto* ints = std::get_if<PackedIntLayout>(&layout)) {
    return ints->total_bytes();
  }
  return std::get<PackedBF16Layout>(layout).total_bytes();
}

std::vector<PackageTensor> TensorsOfModel(const DeviceModel& model) {
  std::vector<PackageTensor> tensors;
  VisitVectors(&model, [&](const TensorId& id, const std::vector<float>* v) {
    if (v->empty()) return;
    tensors.push_back({id, FloatRows{DType::kF32}, 1,
                       static_cast<int64_t>(v->size()), PackageSection()});
  });
  VisitMatrices(&model, [&](const TensorId& id, const DeviceMatrix* m) {
    if (m->rows == 0) return;
    tensors.push_back(
        {id, m->layout, m->rows, m->cols, PackageSection(), m->input_scale});
  });
  return tensors;
}

}  // namespace qeff
