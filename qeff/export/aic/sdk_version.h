// SPDX-License-Identifier: Apache-2.0
//
// Versions of an installed Cloud AI SDK.

#ifndef QEFF_EXPORT_AIC_SDK_VERSION_H_
#define QEFF_EXPORT_AIC_SDK_VERSION_H_

#include <string>

#include "absl/strings/string_view.h"

namespace qeff {

// Where the SDK installs its compiler.
inline constexpr char kDefaultAicCompiler[] = "/opt/qti-aic/exec/qaic-compile";

struct SdkVersions {
  std::string apps;      // of the compiler, e.g. "1.20.2.0"; "": not known
  std::string platform;  // of the driver and runtime
};

// Those of the SDK that the compiler at `compiler` belongs to, from
// ../versions/apps.xml and platform.xml beside its folder. What cannot be read
// is not known. Thread-safe.
SdkVersions SdkVersionsOf(const std::string& compiler);

// The text of the first <base_version> in `xml`, without spaces around it, if
// it is digits and points; else "".
std::string BaseVersion(absl::string_view xml);

}  // namespace qeff

#endif  // QEFF_EXPORT_AIC_SDK_VERSION_H_
