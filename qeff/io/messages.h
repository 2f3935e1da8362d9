// SPDX-License-Identifier: Apache-2.0
//
// How names that come from a file appear in error messages.

#ifndef QEFF_IO_MESSAGES_H_
#define QEFF_IO_MESSAGES_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace qeff {

// `name` in single quotes, escaped as in C and cut after 100 bytes: safe to
// print on a terminal whatever it contains.
std::string QuoteName(absl::string_view name);

// The first ten of `names`, each as QuoteName does, and how many follow.
std::string QuoteFirst(absl::Span<const absl::string_view> names);

}  // namespace qeff

#endif  // QEFF_IO_MESSAGES_H_
