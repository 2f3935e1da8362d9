// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/limits/dispatched_target.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qeff/kernels/limits/dispatched_target.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
// This comment keeps clang-format from sorting these among the others.
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_dispatched_target {
namespace HWY_NAMESPACE {

int64_t Target() { return HWY_TARGET; }

}  // namespace HWY_NAMESPACE
}  // namespace internal_dispatched_target
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qeff {
namespace internal_dispatched_target {
HWY_EXPORT(Target);

// HWY_DYNAMIC_DISPATCH names a function of this namespace.
int64_t Chosen() { return HWY_DYNAMIC_DISPATCH(Target)(); }
}  // namespace internal_dispatched_target

std::string DispatchedTargetName() {
  return hwy::TargetName(internal_dispatched_target::Chosen());
}

std::string HighwayVersion() {
  return std::to_string(HWY_MAJOR) + "." + std::to_string(HWY_MINOR) + "." +
         std::to_string(HWY_PATCH);
}

}  // namespace qeff
#endif  // HWY_ONCE
