// SPDX-License-Identifier: Apache-2.0
//
// Where exports and compilations for Cloud AI are kept.

#ifndef QEFF_TOOLS_COMMANDS_CACHE_ROOT_H_
#define QEFF_TOOLS_COMMANDS_CACHE_ROOT_H_

#include <string>

#include "absl/status/statusor.h"

namespace qeff {

// For help texts.
inline constexpr char kCacheRootHelp[] =
    "$QEFF_HOME, else qeff_models in $XDG_CACHE_HOME or ~/.cache";

// `given` (of a flag) unless it is empty, else the first of $QEFF_HOME,
// $XDG_CACHE_HOME/qeff_models and $HOME/.cache/qeff_models whose variable is
// set and not empty: QEfficient's rule. Absolute. Errors: kInvalidArgument when
// none is set.
absl::StatusOr<std::string> CacheRoot(const std::string& given);

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_CACHE_ROOT_H_
