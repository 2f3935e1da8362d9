// SPDX-License-Identifier: Apache-2.0

#ifndef QEFF_TOOLS_VERSION_H_
#define QEFF_TOOLS_VERSION_H_

namespace qeff {

inline constexpr char kQeffVersion[] = "0.1.0";

}  // namespace qeff

#endif  // QEFF_TOOLS_VERSION_H_
